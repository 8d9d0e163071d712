"""A warm worker: imports torch and the task once, then forks one child for each stage it is handed.

The child trains and leaves, so a crash in it (a segmentation fault, the kernel's out-of-memory killer, an ``os._exit``)
costs that stage only. Worker and driver talk over a socket; its end tells either side, without process ids that the
system may reuse, that the other is gone.

The driver sends ``("run", digest, folder, key)``, ``("stop",)`` or ``("kill",)``. The worker sends ``("hello", number,
pid)``, ``("ready",)`` or ``("broken", traceback)``, then for each stage ``("started", digest)`` and ``("ended", digest,
outcome, reason, seconds)``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import shutil
import signal
import sys
import time
import traceback
from multiprocessing.connection import Client, wait
from pathlib import Path
from types import ModuleType

from common import paths, record
from common.errors import UserError
from launch import locks

GRACE = 15.0  # seconds a stage has to finish its step and write its checkpoint
PR_SET_PDEATHSIG = 1  # linux/prctl.h


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
    def __init__(self, driver, address: str):
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

    def terminate(self, *_) -> None:
        self.stopping = self.stopping or "stop"

    def send(self, *message) -> None:
        try:
            self.driver.send(message)
        except OSError:
            self.terminate()  # the driver is gone

    def receive(self, timeout: float | None):
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
            from common import run

            if "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(1)
            self.send("ready")
            while not self.stopping:
                order = self.receive(None)
                if order:
                    self.train(run, *order[1:])
        except BaseException as error:
            self.send("broken", str(error) if isinstance(error, UserError) else traceback.format_exc())
            raise

    def train(self, run: ModuleType, digest: str, folder: str, key: str) -> None:
        folder = Path(folder)
        if key not in self.warm:
            run.warm(folder)
            self.warm.add(key)
            gc.collect()
            gc.freeze()  # keeps the children's collector from copying every shared page
        began = time.monotonic()
        child, outcomes = self.fork(run, folder)
        self.send("started", digest)
        status = self.attend(child)
        with os.fdopen(outcomes, "rb") as file:
            os.set_blocking(outcomes, False)  # a process the stage left behind may hold the other end
            outcome, reason = json.loads(file.read() or b"[null, null]")
        if outcome is None and self.stopping:
            outcome, reason = "stopped", "killed before it could write a checkpoint; resumes from the one before"
        elif outcome is None:
            outcome, reason = "failed", how(status)
        if outcome in ("failed", "stopped"):
            outcome, reason = mark(folder, outcome, reason, child)
        self.send("ended", digest, outcome, reason, time.monotonic() - began)

    def attend(self, child: int) -> int:
        """Wait for the child, passing on the wish to stop; returns its wait status."""
        deadline = None
        while True:
            process, status = os.waitpid(child, os.WNOHANG)
            if process:
                return status
            if self.stopping and deadline is None:
                os.kill(child, signal.SIGTERM)
                deadline = time.monotonic() + GRACE
            if self.stopping == "kill" or (deadline is not None and time.monotonic() > deadline):
                os.kill(child, signal.SIGKILL)
                return os.waitpid(child, 0)[1]
            if deadline is None:
                self.receive(None)
            else:  # once the driver is gone its socket is always readable: do not spin on it
                time.sleep(0.01)
                if self.stopping != "kill":
                    self.receive(0)

    def fork(self, run: ModuleType, folder: Path) -> tuple[int, int]:
        """Start a child on a stage; returns its process id and a pipe on which it leaves ``[outcome, reason]``."""
        outcomes, write = os.pipe()
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until the child has a handler of its own
        child = os.fork()
        if child == 0:
            code = 1
            try:
                self.driver.close()
                os.close(outcomes)
                answer = execute(run, folder, parent)
                os.write(write, json.dumps(answer).encode())
                sys.stdout.flush()
                sys.stderr.flush()
                code = 0
            finally:
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.close(write)
        return child, outcomes


def execute(run: ModuleType, folder: Path, parent: int) -> tuple[str, str]:
    """In the child: train the stage; returns outcome and reason (at most 2,000 characters)."""
    wishes: list[str] = []

    def terminate(*_) -> None:
        wishes.append("asked to stop")
        signal.alarm(int(2 * GRACE))  # ends a stage that never looks up, should the worker be gone too

    def stop() -> str | None:
        if wishes:
            return wishes[0]
        return "its worker is gone" if os.getppid() != parent else None

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, terminate)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        outcome = run.execute(folder, stop)
        reason = (record.read_json(paths.status(folder), {}).get("reason") or "") if outcome != "done" else ""
    except BaseException as error:  # SystemExit in a method is a failure too; nothing may unwind into the worker's loop
        traceback.print_exc()
        outcome, reason = "failed", f"{type(error).__name__}: {error}"
    return outcome, str(reason)[:2000]


def how(status: int) -> str:
    """In words, how a child ended that left no outcome."""
    if not os.WIFSIGNALED(status):
        return f"the process left with exit code {os.WEXITSTATUS(status)} in the middle of the stage"
    number = os.WTERMSIG(status)
    hint = " (out of memory?)" if number == signal.SIGKILL else ""
    return f"killed by signal {number}, {signal.Signals(number).name}{hint}"


def mark(folder: Path, state: str, reason: str, child: int) -> tuple[str, str]:
    """Record how a stage ended whose child is gone; returns outcome and reason, "busy" where another took it over."""
    try:
        try:
            status = record.read_json(paths.status(folder), {})
        except ValueError:
            status = {}  # a broken file; it is replaced below
        if status.get("state") == state and status.get("reason"):
            return state, reason or status["reason"]
        # The lock can outlive the child in a process it left behind; then the status still names the child.
        if locks.held(paths.lock(folder)) and status.get("pid") != child:
            return "busy", "another process trains it"
        record.update_status(folder, state=state, reason=reason)
    except OSError as error:
        reason = f"{reason} (and its status could not be written: {error})"
    return state, reason
