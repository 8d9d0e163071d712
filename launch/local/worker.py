"""A warm worker: imports torch and the task once, then forks one child for each stage it is handed.

A crash in a child costs that stage only. Worker and driver talk over a socket; its end tells either side, without
process ids that the system may reuse, that the other is gone.

The driver sends ``("run", digest, folder, key)``, ``("stop",)`` or ``("kill",)``. The worker sends ``("hello", number,
pid)``, ``("ready",)`` or ``("broken", traceback)``, then for each stage ``("started", digest)`` and ``("ended", digest,
outcome, reason, seconds)``.
"""

import contextlib
import gc
import os
import shutil
import signal
import sys
import time
import traceback
from multiprocessing.connection import Client, Connection, wait
from pathlib import Path
from types import ModuleType

from common.errors import UserError
from launch.runs import child
from launch.runs.child import GRACE


def serve(address: str, number: int, cwd: str, device: str | None) -> None:
    """Work until the driver says stop or is gone. ``device``: its CUDA_VISIBLE_DEVICES, None to see none."""
    os.chdir(cwd)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    # Asking the driver library whether a GPU exists would start CUDA here, and a started CUDA does not survive a fork.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    try:
        driver = Client(address, family="AF_UNIX")
    except (FileNotFoundError, ConnectionRefusedError):
        return  # the sweep ended while this process was starting
    with driver:
        Worker(driver, address).work(number)


class Worker:
    """This process, as the driver's other end."""

    def __init__(self, driver: Connection, address: str) -> None:
        self.driver = driver
        self.address = address
        self.stopping = ""  # "", "stop" (let the stage write its checkpoint) or "kill"
        self.warm: set[str] = set()
        # A signal writes a byte to this pipe, so that one wait() covers the socket, the child's end and SIGTERM.
        self.awake, wake = os.pipe()
        os.set_blocking(self.awake, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self.terminate)

    def terminate(self, *_: object) -> None:
        self.stopping = self.stopping or "stop"

    def send(self, *message: object) -> None:
        try:
            self.driver.send(message)
        except OSError:
            self.terminate()  # the driver is gone

    def receive(self, timeout: float | None) -> tuple | None:
        """The next order to run a stage, or None: nothing new, or ``self.stopping`` changed."""
        wait([self.driver, self.awake], timeout)
        with contextlib.suppress(BlockingIOError):  # no signal came
            os.read(self.awake, 4096)
        try:
            message = self.driver.recv() if self.driver.poll(0) else None
        except (EOFError, OSError):
            shutil.rmtree(Path(self.address).parent, ignore_errors=True)  # a killed driver leaves its socket behind
            message = ("stop",)
        if message and message[0] in ("stop", "kill"):
            self.stopping = message[0]
            return None
        return message

    def work(self, number: int) -> None:
        self.send("hello", number, os.getpid())
        try:
            from common.stage import run

            if "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(1)
            self.send("ready")
            while not self.stopping:
                if order := self.receive(None):
                    self.train(run, *order[1:])
        except BaseException as error:
            self.send("broken", str(error) if isinstance(error, UserError) else traceback.format_exc())
            raise

    def train(self, run: ModuleType, digest: str, place: str, key: str) -> None:
        """Train the stage in the folder ``place``; ``key``: what has to be loaded once for it and its like."""
        folder = Path(place)
        if key not in self.warm:
            run.warm(folder)
            self.warm.add(key)
            gc.collect()
            gc.freeze()  # keeps the children's collector from copying every shared page
        began = time.monotonic()
        stage = child.Child(folder, lambda stop: run.execute(folder, stop), self.driver.close)
        self.send("started", digest)
        self.attend(stage)
        outcome, reason = stage.outcome()
        if outcome is None and self.stopping:
            outcome, reason = "stopped", "killed before it could write a checkpoint; resumes from the one before"
        outcome = outcome or "failed"
        if outcome in ("failed", "stopped"):
            outcome, reason = child.mark(folder, outcome, reason, stage.pid)
        self.send("ended", digest, outcome, reason, time.monotonic() - began)

    def attend(self, stage: child.Child) -> None:
        """Wait for the child, passing on the wish to stop."""
        deadline = None
        while not stage.ended():
            if self.stopping and deadline is None:
                stage.signal(signal.SIGTERM)
                deadline = time.monotonic() + GRACE
            if self.stopping == "kill" or (deadline is not None and time.monotonic() > deadline):
                stage.signal(signal.SIGKILL)
                stage.ended(block=True)
            elif deadline is None:
                self.receive(None)
            else:  # once the driver is gone its socket is always readable: do not spin on it
                time.sleep(0.01)
                if self.stopping != "kill":
                    self.receive(0)
