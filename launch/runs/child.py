"""One stage in a process of its own, so that a crash in it (a segmentation fault, the kernel's out-of-memory killer, an
``os._exit``) costs that stage only, and who started it can say how it ended.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from common import paths, record
from common.training.processes import forked
from launch.runs import locks, logs

GRACE = 15.0  # seconds a stage has to finish its step and write its checkpoint
CAUGHT = (signal.SIGTERM, signal.SIGUSR2)


class Child:
    """Forks on creation. ``train(stop)`` runs in the child and returns the stage's outcome.

    SIGUSR2 makes ``stop()`` answer with a reason to leave; SIGTERM as well, or, where ``on_terminate`` is given,
    with that, once for every signal (to save and go on). ``close``: called first in the child, to let go of ours.
    """

    def __init__(
        self,
        folder: Path,
        train: Callable[[Callable], str],
        close: Callable[[], None] = lambda: None,
        on_terminate: object = None,
    ) -> None:
        self.folder = Path(folder)
        self.status: int | None = None  # as waitpid gives it, once the child has ended
        self._outcomes, write = os.pipe()
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)  # until the child has handlers of its own
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                close()
                os.close(self._outcomes)
                answer = _execute(self.folder, train, parent, on_terminate)
                os.write(write, json.dumps(answer).encode())
                sys.stdout.flush()
                sys.stderr.flush()
                code = 0
            finally:
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
        os.close(write)

    def ended(self, block: bool = False) -> bool:
        """Has it? With ``block`` after waiting for it."""
        if self.status is None:
            process, status = os.waitpid(self.pid, 0 if block else os.WNOHANG)
            self.status = status if process else None
        return self.status is not None

    def signal(self, number: int) -> None:
        if self.status is None:
            os.kill(self.pid, number)

    def outcome(self) -> tuple[str | None, str]:
        """What it said when it ended: outcome and reason; (None, how it died) where it could not say anything."""
        with os.fdopen(self._outcomes, "rb") as file:
            os.set_blocking(self._outcomes, False)  # a process the stage left behind may hold the other end
            outcome, reason = json.loads(file.read() or b"[null, null]")
        if outcome:
            return outcome, reason
        status = self.status or 0
        return None, ("" if os.WIFSIGNALED(status) else "the process ") + forked.how(status)


def _execute(folder: Path, train: Callable, parent: int, on_terminate: object) -> tuple[str, str]:
    """In the child: train the stage; returns outcome and reason (at most 2,000 characters)."""
    wishes: list[str] = []
    saves: list[object] = []

    def leave(number: int, _: object) -> None:
        wishes.append("the time limit is near" if number == signal.SIGUSR2 else "asked to stop")
        if on_terminate is None:
            signal.alarm(int(2 * GRACE))  # ends a stage that never looks up, should its parent be gone too

    def stop() -> object:
        if wishes:
            return wishes[0]
        if saves:
            return saves.pop()
        return "its worker is gone" if os.getppid() != parent else None

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, leave)
    signal.signal(signal.SIGTERM, leave if on_terminate is None else lambda *_: saves.append(on_terminate))
    forked.end_with_parent(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
    try:
        print(logs.mark(folder), flush=True)
        outcome = train(stop)
        reason = (record.read_json(paths.status(folder), {}).get("reason") or "") if outcome != "done" else ""
    except BaseException as error:  # SystemExit in a method is a failure too; nothing may unwind into the parent's loop
        traceback.print_exc()
        outcome, reason = "failed", f"{type(error).__name__}: {error}"
    return outcome, str(reason)[:2000]


def _worked(status: dict) -> float:
    """Seconds in all attempts, of one that could not count its own any more."""
    try:
        return float(status.get("seconds", 0.0)) + max(0.0, time.time() - float(status["started"]))
    except (KeyError, TypeError, ValueError):  # a damaged file; what came before is lost with it
        return 0.0


def mark(folder: Path, state: str, reason: str, child: int) -> tuple[str, str]:
    """Record how a stage ended whose child is gone; returns outcome and reason, "busy" where another took it over.

    "done" where it ended with ``DONE`` written: whatever happened to the child then, the stage is finished.
    """
    if record.finished(folder):
        return "done", ""
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
        worked = {"seconds": _worked(status)} if status.get("state") == "running" else {}
        record.update_status(folder, state=state, reason=reason, **worked)
    except OSError as error:
        reason = f"{reason} (and its status could not be written: {error})"
    return state, reason
