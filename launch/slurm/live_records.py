"""Records as they are on a cluster: what the files say, refined by the queue and the accounting. Reads only.

Slurm is asked before the files are read: a job that is over by then has written all it will ever write.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from common import paths
from common.record import finished
from launch.runs import jobs, ledger, records, state
from launch.runs.jobs import Job
from launch.runs.ledger import Element
from launch.runs.lineage import Lineage
from launch.runs.records import Record
from launch.slurm import queue

CANCELLED = "cancelled"  # the event that `make cancel` leaves in the ledger, with "jobs": ids


def read(task: str | None = None, where: Path | None = None, asks: queue.Ask = queue.ask) -> list[Record]:
    """As ``records.read``, refined by what Slurm says about the stages that were handed to it and are not done.

    Where nothing was, nothing is asked and nothing changes.
    """
    where = Path(where or paths.runs())
    members = {
        name: elements
        for name, elements in ledger.by_stage(ledger.elements(where)).items()
        if (task is None or name.split("/")[0] == task) and not finished(where / name)
    }
    answers = _answers(members, asks)
    return refine(records.read(task, where), members, answers)


def in_flight(where: Path | None = None, asks: queue.Ask = queue.ask) -> tuple[dict[str, Element], list[str]]:
    """Stages that Slurm is going to train, or trains (``task/digest`` -> the element), and those it is mute about.

    An element whose submission was cut short is neither; who submits next finds out what became of it.
    """
    where = Path(where or paths.runs())
    members = {
        name: numbered
        for name, elements in ledger.by_stage(ledger.elements(where)).items()
        if (numbered := [element for element in elements if element.id]) and not finished(where / name)
    }
    answers = asks(*_question(members)) if members else {}
    alive, mute = {}, []
    for name, elements in members.items():
        element, job = _counts([(element, answers[element.id or ""]) for element in elements])
        if job.alive:
            alive[name] = element
        elif any(answers[element.id or ""].alive is None for element in elements):
            mute.append(name)
    return alive, mute


def _question(members: dict[str, list[Element]]) -> tuple[dict[str, str], set[int]]:
    """What to ask: job id -> the array's name; and the users who submitted, since a tree may be shared."""
    elements = {element for found in members.values() for element in found}
    users = set()
    for sweep in {element.sweep for element in elements}:
        with contextlib.suppress(OSError):
            users.add(os.stat(ledger.path(sweep)).st_uid)
    return {e.id: e.array for e in elements if e.id}, users


def _answers(members: dict[str, list[Element]], asks: queue.Ask) -> dict[str, Job]:
    """Slurm's word by job id; of an element cancelled before it started it keeps nothing: the ledger does."""
    if not members:
        return {}
    answers = asks(*_question(members))
    elements = {e.id: e for found in members.values() for e in found if e.id}
    gone = {name: e for name, e in elements.items() if answers[name].state == jobs.GONE}
    events = [event for sweep in {e.sweep for e in gone.values()} for event in ledger.events(sweep)]
    noted = {(event["array"], name) for event in events if event["event"] == CANCELLED for name in event["jobs"]}
    cancelled = [name for name, element in gone.items() if (element.array, name) in noted]
    return answers | {name: replace(answers[name], state="CANCELLED") for name in cancelled}


def refine(found: list[Record], members: dict[str, list[Element]], answers: Mapping[str, Job]) -> list[Record]:
    """``members``: ``task/digest`` -> its elements, oldest first; ``answers``: job id -> Slurm's word.

    Parents come before their children, whose state may follow from theirs.
    """
    lineage, by_key = Lineage(found), {record.key: record for record in found}
    refined: dict[str, Record] = {}
    for original in sorted(found, key=lineage.depth):
        if not (elements := members.get(original.key)):
            continue
        element, job = _counts([(e, answers.get(e.id or "", Job(jobs.UNKNOWN, state.CUT_SHORT))) for e in elements])
        parent = lineage.parent(original)
        parent = refined.get(parent.key, parent) if parent is not None else None
        barred = state.barrier(f"{parent.method} {parent.digest[:12]}", parent.state, parent.reason) if parent else ""
        others = [by_key[key].evidence for key in element.stages if key in by_key and key != original.key]
        turn = state.has_turn(original.evidence, element, others)
        answer = state.with_job(original.evidence, element, job, barred, turn)
        refined[original.key] = replace(original, element=element, job=job, submissions=len(elements), refined=answer)
    return [refined.get(record.key, record) for record in found]


def _counts(pairs: list[tuple[Element, Job]]) -> tuple[Element, Job]:
    """The last element that lives, else the last."""
    return next((pair for pair in reversed(pairs) if pair[1].alive), pairs[-1])


def again(record: Record, asks: queue.Ask = queue.ask) -> Record:
    """One stage read once more; its ancestors are not looked at."""
    elements = ledger.by_stage(ledger.elements(record.folder.parent.parent)).get(record.key)
    members = {record.key: elements} if elements and not finished(record.folder) else {}
    answers = _answers(members, asks)
    return refine([records.read_one(record.folder)], members, answers)[0]
