"""The state of a stage: one rule, from what its files say, who holds its lock, what Slurm says of its job, and whether
a stage that it starts from has failed. It is derived anew whenever somebody asks, and never written down.

``of_files`` is the rule without Slurm, for records and plans alike; ``with_job`` refines its answer for a stage that
was handed to Slurm; ``of_plan`` and ``on_cluster`` say what a plan makes of it.
"""

import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import paths, record
from launch.runs import jobs, locks
from launch.runs.jobs import Job, ending
from launch.runs.ledger import Element

# In the order in which a table lists them.
STATES = ("done", "running", "queued", "new", "interrupted", "blocked", "cancelled", "failed", "unknown", "broken")
MOVING = ("running", "queued", "unknown")  # these may change without anybody's doing
BARRED = ("failed", "blocked", "cancelled")  # nothing can start from a stage in one of these
ENDED_BADLY = (*BARRED, "broken")
DAMAGED = "damaged"  # in plans alone: it was done, and has to be trained again

# Seconds without a word after which a "running" stage whose lock is free counts as interrupted. A process of this
# machine drops its lock when it dies; some shared file systems hide the locks of other machines, so those get longer.
SILENT_HERE, SILENT_ELSEWHERE = 10, 600

NEVER = "never trained"
UNNAMED = "no config.yaml"
STATUS = "its status file is damaged"
STARTING, IN_TURN = "its job is starting", "its turn comes after other stages of its job"
CUT_SHORT = "its submission was cut short; the next `make sweep` finds out what became of it"


@dataclass(frozen=True)
class Evidence:
    """What a stage's folder says. ``done``: as ``common.record.finished``; ``problem``: what is wrong with it.

    ``damaged``: it says that it is done, and its files are not those that training wrote.
    """

    folder: Path
    done: bool
    status: Mapping[str, Any]
    problem: str = ""
    damaged: bool = False

    @property
    def key(self) -> str:
        """``task/digest``, by which ledgers name it."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def written(self) -> str | None:
        """The state in its status file."""
        return self.status.get("state")

    @property
    def reason(self) -> str:
        """The reason in its status file, "" for none."""
        return str(self.status.get("reason") or "")

    def moment(self, name: str) -> float:
        """A time in its status file (unix seconds), 0 where there is none."""
        value = self.status.get(name)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def evidence(folder: Path) -> Evidence:
    """What decides the state of a stage whose configuration is known, as in a plan: its config.yaml is not parsed."""
    try:
        fault = record.fault(folder)
    except OSError as error:
        return Evidence(folder, False, {}, f"it cannot be read now ({error.strerror or error})")
    if fault == "":
        whole = paths.config(folder).exists()  # for which a DONE without checksums does not vouch
        return Evidence(folder, whole, {}, "" if whole else UNNAMED, not whole)
    problem = fault or ""
    try:
        status = record.read_json(paths.status(folder), {})
    except (ValueError, OSError):
        status = None
    if not isinstance(status, dict):
        status, problem = {}, problem or STATUS
    return Evidence(folder, False, status, problem, bool(fault))


def of_files(own: Evidence) -> str:
    """One of ``STATES``, as the files and the lock say."""
    if own.problem:
        return "broken"
    if own.done:
        return "done"
    written = own.written or "new"
    if written in ("stopped", "done"):  # the latter without DONE: to be trained again, or killed between the two
        return "interrupted"
    if written != "running":
        return written if written in STATES else "unknown"
    here = own.status.get("host") in (None, socket.gethostname())
    # a word from the future, by a clock that was set back since, is as old as one from the past
    if abs(time.time() - own.moment("updated")) < (SILENT_HERE if here else SILENT_ELSEWHERE):
        return "running"
    return {True: "running", False: "interrupted", None: "unknown"}[locks.held(paths.lock(own.folder))]


# --- stages that were handed to Slurm ------------------------------------------------------------------------------


def barrier(name: str, state: str, reason: str) -> str:
    """Why nothing can start from the stage ``name``, which is in this state; "" where something can, or will."""
    if state not in BARRED:
        return ""
    return reason if state == "blocked" and reason else f"{name}, on which it stands, is {state}"


def has_turn(own: Evidence, element: Element, others: Iterable[Evidence]) -> bool:
    """In an element that trains ``own`` and then ``others``, in whatever order: can its end be about ``own``?"""
    began = ("running", "failed")
    return own.written == "running" or not any(_said(other, element) and other.written in began for other in others)


def with_job(own: Evidence, element: Element, job: Job, barred: str, turn: bool) -> tuple[str, str]:
    """The state of a stage with an array element, and why. Done stays done; no answer makes nothing worse.

    ``barred``: see ``barrier``; ``turn``: see ``has_turn``.
    """
    state, written, reason = of_files(own), own.written, own.reason
    if own.done or own.problem:
        return state, reason
    verdict = written in ("failed", "blocked") and _said(own, element)  # its own word, newer than the submission
    # its lock is free while its job waits, unless somebody else (a sweep without Slurm) trains it
    elsewhere = written == "running" and locks.held(paths.lock(own.folder)) is True
    if job.alive:
        if job.state in jobs.WAITING and not elsewhere:
            return "queued", job.reason or ("not yet considered by Slurm" if job.state == "PENDING" else job.state)
        if verdict:
            return state, reason
        first = element.stages[0] == own.key
        return ("running", "") if written == "running" else ("queued", STARTING if first else IN_TURN)
    if job.alive is None:
        # a process on another machine may hold a lock that is not seen here: silence alone is no end
        silent = state in ("new", "interrupted") and written != "stopped"
        return ("unknown", job.reason or job.state) if silent else (state, reason or job.reason)
    if not own.status and _planned_since(own, element):
        return state, reason  # the folder was deleted and planned anew: the job was about another one
    if elsewhere or (job.ended is not None and own.moment("started") > job.ended + 1):  # Slurm rounds to seconds
        return ("running", "") if elsewhere else (state, reason)  # trained since by somebody else
    if verdict:
        return state, reason
    if barred and written != "failed":
        return "blocked", barred
    if job.reason == jobs.NEVER:
        return "blocked", "a job that it waited for did not succeed"
    if job.state == "CANCELLED":
        return "cancelled", ending(job)
    if written == "stopped" and _said(own, element):  # it saved all it had, and said why it had to leave
        return state, reason or ending(job)
    if job.state in jobs.BAD and turn:
        return "failed", _cause(own, element, job)
    lost = state in ("new", "queued", "running", "interrupted", "unknown") and written != "stopped"
    return ("interrupted", ending(job)) if lost else (state, reason)


def _said(own: Evidence, element: Element) -> bool:
    """Was the status written by this element, or by somebody since it was submitted?"""
    return own.status.get("job") == element.id or own.moment("updated") >= element.submitted


def _planned_since(own: Evidence, element: Element) -> bool:
    try:
        return paths.config(own.folder).stat().st_mtime > element.submitted
    except OSError:
        return False


def _cause(own: Evidence, element: Element, job: Job) -> str:
    """Why a job failed whose stage says nothing about it."""
    if element.code and not Path(element.code).is_dir():
        return f"the frozen code it was to run is gone ({element.code})"
    if not own.status and job.state == "FAILED" and not (element.out.exists() or element.err.exists()):
        return (
            f"{ending(job)} and left no trace in {own.folder.parent.parent}: the nodes probably do not see this folder "
            "(RUNS has to be on a file system that they share)"
        )
    return ending(job)


# --- stages of a plan ----------------------------------------------------------------------------------------------


def of_plan(folder: Path) -> tuple[str, str]:
    """What a plan says of a stage by its files: its state, and why it is to be trained. Reading changes nothing.

    A plan trains whatever is not done; what a status says of a queue or of a parent's failure is about an earlier try.
    """
    own = evidence(folder)
    state = of_files(own)
    if own.problem == UNNAMED:
        return DAMAGED, f"{UNNAMED}; it is written anew"
    if state == "broken" and own.damaged:
        return DAMAGED, f"{own.problem}; it is trained again"
    if own.problem == STATUS:
        return "interrupted", f"{STATUS}; it resumes from its last checkpoint"
    if state == "broken":
        return state, own.problem
    if state == "done":
        return state, ""
    if state == "running":
        now = locks.held(paths.lock(folder))
        return state, "another process trains it now" if now else "another process trained it a moment ago"
    if state == "failed":
        return state, own.reason or f"no reason was recorded; see {paths.error(folder)}"
    if state == "interrupted" or own.written == "running" or own.status.get("step"):
        step, steps = own.status.get("step", 0), own.status.get("steps", "?")
        return "interrupted", f"not finished (step {step} of {steps}); it resumes"
    return "new", NEVER


def on_cluster(planned: str, element: Element | None) -> tuple[str, str]:
    """The same of an unfinished stage that Slurm trains or will (``element``), or, with None, does not speak of."""
    if element is None:
        return "unknown", "it was submitted, and Slurm does not say what became of it"
    return "running" if planned == "running" else "queued", f"job {element.id} trains it"


def without_weights(folder: Path) -> tuple[str, str] | None:
    """The same of a finished stage from which a new one starts; None where its weights are there."""
    if paths.weights(folder).exists():
        return None
    return DAMAGED, "its weights were removed and a new stage starts from them; it is trained again"
