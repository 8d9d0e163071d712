"""What one array element does on its node: it trains its stages, one after the other, each in a child process.

Slurm's SIGTERM announces a preemption, or an end: the stage writes a resume point and goes on until it is killed, since
leaving early would lose the requeue. SIGUSR2 announces the time limit: the stage finishes its step, saves and ends, and
the element goes back to the queue (``time_limit.py``). Nothing is trusted but the files: a finished stage is not
trained again, one whose parent is not done does not start, one that another process trains is waited for.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from common import paths, record
from common.training.interruption import SAVE, Stop
from launch import wording
from launch.runs.child import Child, mark
from launch.slurm import time_limit

BUSY = 5.0  # seconds between two looks at a stage that another process has
BELATED = (1, 2, 4, 8, 15)  # seconds: a shared file system may show another node's DONE late


def train(stages: Sequence[str], code: str) -> str:
    """Train the stage folders ``stages``; called by submitit on the node. Exit code 1 where one did not get done."""
    if paths.root() != Path(code):
        raise SystemExit(f"error: this job was to run the frozen code {code}, but Python found {paths.root()}")
    element = ThisElement()
    try:
        return _all(element, list(map(Path, stages)))
    finally:  # all is said; a notice that comes while Python ends would make a failure of it
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)


def _all(element: ThisElement, stages: Sequence[Path]) -> str:
    bad = []
    for number, folder in enumerate(stages):
        os.environ["RUNS"] = str(folder.parent.parent)
        outcome, reason = element.stage(folder, patient=number == 0, several=len(stages) > 1)
        print(f"{folder.parent.name}/{folder.name}: {outcome}{': ' if reason else ''}{reason}", flush=True)
        if outcome == "stopped":
            time_limit.requeue(element.id, folder, element.begun, element.rank == 0, element.busy)
        if outcome != "done":
            bad.append(f"{folder.parent.name}/{folder.name} {outcome}: {reason}")
    if bad:
        raise SystemExit("error: " + "\n       ".join(bad))
    return f"{wording.amount(len(stages), 'stage')} done"


class ThisElement:
    """This array element as Slurm's environment describes it. One process a rank; rank 0 speaks for all."""

    def __init__(self) -> None:
        get = os.environ.get
        self.id = f"{get('SLURM_ARRAY_JOB_ID')}_{get('SLURM_ARRAY_TASK_ID')}"
        self.restarts = int(get("SLURM_RESTART_COUNT", "0"))
        self.rank, self.size = int(get("SLURM_PROCID", "0")), int(get("SLURM_NTASKS", "1"))
        self.node = get("SLURMD_NODENAME", "")
        self.child: Child | None = None
        self.leaving = False
        self.rounds = 0  # of trying a stage; tells the meetings of its ranks apart
        self.busy = False  # does another process train the stage?
        self.begun = 0  # the step at which the last attempt began
        signal.signal(signal.SIGUSR2, self._time_limit)
        signal.signal(signal.SIGTERM, self._notice)
        signal.signal(signal.SIGCONT, signal.SIG_IGN)

    def _time_limit(self, *_: object) -> None:
        self.leaving = True
        if self.child:
            self.child.signal(signal.SIGUSR2)

    def _notice(self, *_: object) -> None:
        if self.child:
            self.child.signal(signal.SIGTERM)

    def stage(self, folder: Path, patient: bool, several: bool) -> tuple[str, str]:
        """Bring one stage to its end: outcome and reason. ``patient``: its parent was trained by another element."""
        delays, before = list(BELATED) if patient else [], record.read_status(folder)
        # requeued since: the others of its lane come first then
        if several and (before.get("state"), before.get("job")) == ("failed", self.id):
            return "failed", "it failed before this element was requeued"
        while not self.leaving:
            outcome, reason = self._attempt(folder)
            self.busy = outcome == "busy"
            if self.busy:
                time.sleep(BUSY)
            elif outcome == "blocked" and delays and not _parent_ended_badly(folder):
                time.sleep(delays.pop(0))
            else:
                return outcome, reason
        return "stopped", "the time limit is near"

    def _attempt(self, folder: Path) -> tuple[str, str]:
        before = record.read_status(folder)
        self.begun = before.get("step") or 0
        stalled = 0 if before.get("state") == "failed" else before.get("stalled", 0)
        marks = {"job": self.id, "node": self.node, "restarts": self.restarts, "stalled": stalled}
        self.rounds += 1
        token = f"{self.id}-{self.restarts}-{self.rounds}"

        def work(stop: Stop) -> str:
            from common.stage import run  # torch is imported here, in the child, and nowhere else
            from common.training.processes import rendezvous

            team = rendezvous.join(folder, self.rank, self.size, token) if self.size > 1 else None
            return run.execute(folder, stop, marks, team)

        self.child = Child(folder, work, on_terminate=SAVE)
        if self.leaving:  # the signal came while the child was being made
            self.child.signal(signal.SIGUSR2)
        self.child.ended(block=True)
        outcome, reason = self.child.outcome()
        pid, self.child = self.child.pid, None
        outcome = outcome or "failed"
        if outcome == "failed" and self.rank == 0:
            return mark(folder, outcome, reason, pid)
        return outcome, reason


def _parent_ended_badly(folder: Path) -> bool:
    """Does its parent's own status say that waiting is no use? Listing the folder refreshes what a node remembers."""
    if (parent := record.read_config(folder)["parent"]) is None:
        return False
    where = folder.parent / parent
    try:
        os.listdir(where)
    except OSError as problem:
        print(f"{where}: {problem}", file=sys.stderr, flush=True)
    return record.read_status(where).get("state") in ("failed", "blocked")
