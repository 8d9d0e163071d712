"""Hands a plan to Slurm: what is neither done nor on its way becomes arrays, each after those it waits for.

Killed at any point, the next submission goes on: an array's intent is on disk before sbatch is called and its number
after; an intent without a number is looked up by the array's unique name. One submission at a time holds a lock, which
a running sbatch inherits.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common import paths, record
from common.errors import UserError
from launch import wording
from launch.described import Stage
from launch.runs import ledger, locks
from launch.slurm import arrays, cluster, frozen_code, live_records, sbatch
from launch.slurm.cluster import Cluster

Report = Callable[[str], object]  # where a message for the user goes
ENDING = 60  # seconds to wait for an array that is taken back


@dataclass
class Submission:
    """What was submitted, and the stages that were on their way already."""

    numbers: list[str] = field(default_factory=list)  # of the arrays
    stages: int = 0
    elements: int = 0
    waiting: int = 0  # stages that an earlier submission is going to train


def submit(
    stages: Sequence[Stage],
    place: Cluster,
    name: str,
    write: Callable[[], Path],
    preset: str = "default",
    report: Report = print,
) -> Submission:
    """Submit those of ``stages`` (parents first) that are neither done nor on their way.

    ``name``: the cluster's, ``preset``: what else was asked for, both kept for `make retry`. ``write()`` writes the
    stages' folders and the sweep's, and returns the latter.
    ``UserError`` with Slurm's message where it refuses; then nothing of this submission is left in the queue.
    """
    if shutil.which("sbatch") is None:
        raise UserError(
            f"CLUSTER={name} needs Slurm's sbatch on PATH, which is not there: log in to the cluster's login node "
            "(or `module load slurm`); CLUSTER=local trains here"
        )
    paths.sweeps().mkdir(parents=True, exist_ok=True)
    with locks.exclusive(paths.sweeps() / ".submit.lock", "submission", report) as lock:
        try:
            settle(report)
            return _locked(stages, place, {"cluster": name, "preset": preset}, write, lock)
        except sbatch.Mute as problem:
            raise UserError(
                f"Slurm stopped answering ({problem}): a part may be in its queue, which `make status` shows. Repeat "
                "the command when it answers: nothing is submitted twice"
            ) from None
        except sbatch.Refused as problem:
            raise UserError(
                f"Slurm did not take this: {problem}. Nothing of it was submitted{_hint(problem)}"
            ) from None
        except OSError as problem:
            raise UserError(
                f"cannot write to {paths.runs()} ({problem.strerror or problem}): expected a writable folder with free "
                "space; RUNS=<folder> chooses another. What was submitted was taken back; repeat the command"
            ) from None


def _locked(stages: Sequence[Stage], place: Cluster, names: dict, write: Callable[[], Path], lock: int) -> Submission:
    alive, mute = live_records.in_flight()
    if mute:
        raise UserError(
            f"Slurm does not say what became of {wording.amount(len(mute), 'stage')} submitted before; expected an "
            "answer of squeue. Nothing was submitted; repeat the command when it answers"
        )
    # A stage that is to be trained again although it is done says so by its state.
    over = {s.digest for s in stages if s.state != "damaged" and record.finished(s.folder)}
    todo = [s for s in stages if s.key not in alive and s.digest not in over]
    result = Submission(waiting=sum(s.key in alive for s in stages), stages=len(todo))
    if not todo:
        return result
    parents = {key.split("/")[1]: element.id for key, element in alive.items() if element.id}
    found = divide(todo, place, parents)
    code = frozen_code.freeze()
    _try_out(found[0], place, code)  # before a stage is opened that is to be trained again although it is done
    unknown = [stage.folder for stage in todo if not stage.folder.exists()]
    sweep = write()
    token = uuid.uuid4().hex[:8]
    numbers = result.numbers
    try:
        for index, array in enumerate(found):
            title, folder = f"{todo[0].task}-{token}-{index}", sweep / f"array-{index}"
            waits = dependency(array, numbers)
            keys = [[stage.key for stage in lane] for lane in array.lanes]
            own = dict(**names, code=str(code), folder=str(folder), processes=array.need)
            ledger.write(sweep, "intent", array=title, elements=keys, depends=waits, **own)
            parameters = cluster.parameters(place, title, code, array.need, waits)
            lanes = [[stage.folder for stage in lane] for lane in array.lanes]
            number = sbatch.submit(folder, lanes, code, parameters, place.python, keep=[lock])
            ledger.write(sweep, "submitted", array=title, job=number)
            numbers.append(number)
    except BaseException as problem:
        _take_back(sweep, f"{todo[0].task}-{token}-", numbers, problem)
        if isinstance(problem, sbatch.Refused) and not isinstance(problem, sbatch.Mute):  # else a part may be queued
            _forget(unknown)
        raise
    result.elements = sum(len(array.lanes) for array in found)
    return result


def divide(todo: Sequence[Stage], place: Cluster, parents: dict[str, str]) -> list[arrays.Array]:
    """The arrays of ``todo`` under this site's limits. ``parents``: digest -> element. ``Refused``: no answer."""
    most = place.max_array_size or sbatch.largest_array()
    limit = place.max_submitted or sbatch.submit_limit(place.account)
    limit = None if limit is None else max(0, limit - sbatch.queued())
    return arrays.arrays(todo, parents, most, limit, need=lambda stage: stage.processes)


def settle(report: Report = print) -> None:
    """Find out what became of arrays whose submission was cut off between the intent and the note of their number."""
    lost = {element.array: element for element in ledger.elements() if element.job is None}
    for array, element in lost.items():
        count = sum(other.array == array for other in ledger.of_sweep(element.sweep))
        number = sbatch.find(array)
        if number and sbatch.submitted(element.folder, number, count):
            ledger.write(element.sweep, "submitted", array=array, job=number)
            report(f"array {array} of a submission that was cut off is job {number}")
            continue
        if number:  # its paths never got to their place: it would fail on the node
            sbatch.cancel([number])
            _await_end(array)
        reason = "cut off while it was submitted"
        ledger.write(element.sweep, "dropped", array=array, reason=reason)
        report(f"array {array} was {reason}; its stages are submitted anew")


def _await_end(array: str) -> None:
    end = time.monotonic() + ENDING
    while time.monotonic() < end:
        if not sbatch.call(["squeue", "--noheader", f"--name={array}", "--format=%T"], timeout=30).split():
            return
        time.sleep(0.5)
    raise UserError(f"array {array} of a submission that was cut off does not end; scancel it, then repeat the command")


def _try_out(array: arrays.Array, place: Cluster, code: Path) -> None:
    """Have Slurm look at the first array, as if nothing had to be waited for, before anything is written down."""
    parameters = cluster.parameters(place, "test", code, array.need, "")
    with tempfile.TemporaryDirectory(prefix=".try-", dir=paths.sweeps()) as folder:
        sbatch.test(Path(folder), len(array.lanes), parameters, place.python)


def _forget(folders: list[Path]) -> None:
    """Remove stages that were written for this submission alone, and in which nothing has happened."""
    for folder in folders:
        if folder.is_dir() and [path.name for path in folder.iterdir()] == [paths.config(folder).name]:
            paths.config(folder).unlink(missing_ok=True)
            folder.rmdir()


def dependency(array: arrays.Array, numbers: Sequence[str]) -> str:
    """What an array waits for, as sbatch takes it: empty, ``afterok:12_3`` or ``aftercorr:12``."""
    if array.after is None:
        return ""
    if isinstance(array.after, str):
        return f"afterok:{array.after}"
    number, index = array.after
    return f"aftercorr:{numbers[number]}" if index is None else f"afterok:{numbers[number]}_{index}"


def _take_back(sweep: Path, prefix: str, numbers: list[str], problem: BaseException) -> None:
    """Cancel what this submission put into the queue so far, and say so in the ledger."""
    found = {e.array: e.job for e in ledger.of_sweep(sweep) if e.array.startswith(prefix)}
    try:
        sbatch.cancel([*numbers, *(job for job in found.values() if job and job not in numbers)])
    except sbatch.Refused as silence:  # they stay as they are written down, and go on
        raise sbatch.Mute(f"{problem}; {silence}") from None
    for array, job in found.items():
        if job:  # what has no number may yet be in the queue: the next submission looks it up
            ledger.write(sweep, "dropped", array=array, reason=f"taken back: {problem}"[:500])
        elif isinstance(problem, sbatch.Refused) and not isinstance(problem, sbatch.Mute):
            ledger.write(sweep, "dropped", array=array, reason=f"refused: {problem}"[:500])


def _hint(problem: sbatch.Refused) -> str:
    if "submit limit" not in str(problem).lower():
        return ""
    return '; SET="cluster.max_submitted=<number>" has several stages share an element, so that fewer are submitted'
