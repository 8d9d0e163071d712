"""Records as they are on a cluster: what the files say, refined by the queue and the accounting. Reads only.

Slurm is asked before the files are read: a job that is over by then has written all it will ever write.
"""

import os
from dataclasses import replace
from pathlib import Path

from common import paths
from common.record import finished
from launch.runs import jobs, ledger, locks, records
from launch.runs.jobs import Job, ending
from launch.runs.ledger import Element
from launch.runs.records import Record
from launch.slurm import queue

BARRED = ("failed", "blocked", "cancelled")  # states of a stage in which nothing that stands on it can start

CANCELLED = "cancelled"  # the event that `make cancel` leaves in the ledger, with "jobs": ids
STARTING, IN_TURN = "its job is starting", "its turn comes after other stages of its job"
CUT_SHORT = "its submission was cut short; the next `make sweep` finds out what became of it"


def read(task: str | None = None, where: Path | None = None, asks: queue.Ask = queue.ask) -> list[Record]:
    """As ``records.read``, refined by what Slurm says about the stages that were handed to it and are not done.

    Where nothing was, nothing is asked and nothing changes.
    """
    where = Path(where or paths.runs())
    members = {
        name: elements
        for name, elements in ledger.by_stage(ledger.elements(where)).items()
        if (task is None or name.split("/")[0] == task) and not paths.done(where / name).exists()
    }
    answers = _cancelled(members, asks(*_question(members))) if members else {}
    return refine(records.read(task, where), members, answers)


def in_flight(where: Path | None = None, asks: queue.Ask = queue.ask) -> tuple[dict[str, Element], list[str]]:
    """Stages that Slurm is going to train, or trains (``task/digest`` -> the element), and those it is mute about.

    An element whose submission was cut short is neither; who submits next finds out what became of it.
    """
    where = Path(where or paths.runs())
    members = {
        name: [element for element in elements if element.id]
        for name, elements in ledger.by_stage(ledger.elements(where)).items()
        if not finished(where / name)
    }
    answers = asks(*_question(members)) if any(members.values()) else {}
    alive, mute = {}, []
    for name, elements in members.items():
        words = [answers[element.id].alive for element in elements]
        if True in words:
            alive[name] = next(e for e, word in zip(reversed(elements), reversed(words)) if word)
        elif None in words:
            mute.append(name)
    return alive, mute


def _question(members: dict[str, list[Element]]) -> tuple[dict[str, str], set[int]]:
    """What to ask: job id -> the array's name; and the users who submitted, since a tree may be shared."""
    elements = {element for found in members.values() for element in found}
    users = {owner for sweep in {e.sweep for e in elements} if (owner := _owner(ledger.path(sweep))) is not None}
    return {e.id: e.array for e in elements if e.id}, users


def _cancelled(members: dict[str, list[Element]], answers: dict[str, Job]) -> dict[str, Job]:
    """Slurm keeps nothing, in no list, of an array element that was cancelled before it started; the ledger does."""
    gone = {e for found in members.values() for e in found if e.id and answers[e.id].state == jobs.GONE}
    events = [event for sweep in {e.sweep for e in gone} for event in ledger.events(sweep)]
    noted = {(event["array"], name) for event in events if event["event"] == CANCELLED for name in event["jobs"]}
    return answers | {e.id: replace(answers[e.id], state="CANCELLED") for e in gone if (e.array, e.id) in noted}


def _owner(path: Path) -> int | None:
    try:
        return os.stat(path).st_uid
    except OSError:
        return None


def refine(found: list[Record], members: dict[str, list[Element]], answers: dict[str, Job]) -> list[Record]:
    """``members``: ``task/digest`` -> its elements, oldest first; ``answers``: job id -> Slurm's word."""
    originals = {record.key: record for record in found}
    refined: dict[str, Record] = {}
    open_: set[str] = set()

    def settle(name: str) -> Record:
        if name in refined:
            return refined[name]
        record, elements = originals[name], members.get(name)
        if not elements or name in open_:  # a circle of damaged files has no ancestors
            return record
        open_.add(name)
        element, job = _counts([(e, answers.get(e.id or "", Job(jobs.UNKNOWN, CUT_SHORT))) for e in elements])
        parent = f"{record.task}/{record.config.get('parent')}"
        barred = _barrier(settle(parent)) if parent in originals else ""
        turn = _has_turn(record, element, originals)
        result = _state(record, element, job, barred, turn)
        refined[name] = replace(record, element=element, job=job, submissions=len(elements), refined=result)
        return refined[name]

    return [settle(name) for name in originals]


def _counts(pairs: list[tuple[Element, Job]]) -> tuple[Element, Job]:
    """The last element that lives, else the last."""
    return next((pair for pair in reversed(pairs) if pair[1].alive), pairs[-1])


def _barrier(parent: Record) -> str:
    """Why nothing can start from ``parent``; empty where something can, or will."""
    if parent.state not in BARRED:
        return ""
    if parent.state == "blocked" and parent.reason:
        return parent.reason
    return f"{parent.method} {parent.digest[:12]}, on which it stands, is {parent.state}"


def _has_turn(record: Record, element: Element, originals: dict[str, Record]) -> bool:
    """In an element that trains several stages one after another: can its end be about this one?"""
    others = [originals[name] for name in element.stages if name in originals and name != record.key]
    mine = record.status.get("state") == "running"
    began = ("running", "failed")
    return mine or not any(_said(other, element) and other.status.get("state") in began for other in others)


def _said(record: Record, element: Element) -> bool:
    """Was the status written by this element, or by somebody since it was submitted?"""
    return record.status.get("job") == element.id or record.moment("updated") >= element.submitted


def _state(own: Record, element: Element, job: Job, barred: str, turn: bool) -> tuple[str, str]:
    """The state of a stage with an array element, and why. Done stays done; no answer makes nothing worse."""
    state, written = own.state, own.status.get("state")
    reason = str(own.status.get("reason") or "")
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


def _planned_since(own: Record, element: Element) -> bool:
    try:
        return paths.config(own.folder).stat().st_mtime > element.submitted
    except OSError:
        return False


def _cause(own: Record, element: Element, job: Job) -> str:
    """Why a job failed whose stage says nothing about it."""
    if element.code and not Path(element.code).is_dir():
        return f"the frozen code it was to run is gone ({element.code})"
    if not own.status and job.state == "FAILED" and not (element.out.exists() or element.err.exists()):
        return (
            f"{ending(job)} and left no trace in {own.folder.parent.parent}: the nodes probably do not see this folder "
            "(RUNS has to be on a file system that they share)"
        )
    return ending(job)


def again(record: Record, asks: queue.Ask = queue.ask) -> Record:
    """One stage read once more; its ancestors are not looked at."""
    name, where = record.key, record.folder.parent.parent
    elements = ledger.by_stage(ledger.elements(where)).get(name)
    members = {name: elements} if elements and not paths.done(record.folder).exists() else {}
    answers = _cancelled(members, asks(*_question(members))) if members else {}
    return refine([records.read_one(record.folder)], members, answers)[0]
