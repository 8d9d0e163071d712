"""Take stages out of Slurm's hands: say what would end, ask, cancel by number, and look whether it happened."""

import sys
import time
from collections.abc import Callable, Iterable, Sequence

from common.errors import UserError
from common.record import finished
from launch.runs import ledger, records
from launch.runs.ledger import Element
from launch.runs.lineage import Lineage
from launch.runs.records import Record
from launch.slurm import live_records, queue
from launch.wording import amount, listed

SHOWN = 20  # stages listed by name
CHUNK = 100  # numbers a command
PATIENCE = 15.0  # seconds to wait for the end; Slurm gives a running job up to KillWait (30 s) to leave
PAUSE = 1.0


def cancel(
    chosen: Sequence[Record],
    all_stages: Sequence[Record],
    confirm: Callable[[str], bool],
    asks: queue.Ask = queue.ask,
    patience: float = PATIENCE,
) -> int:
    """Cancel the array elements of ``chosen`` that Slurm still holds. ``all_stages``: to say which others that affects.

    Exit code 0, also when nothing was to be done or the answer was no; 1 when Slurm still holds some as before.
    ``UserError`` where Slurm does not answer, or where ``confirm`` cannot ask.
    """
    # what a submission that was cut off left without a number, the next one looks up: no answer helps there
    mute = [r.job for r in chosen if r.element and r.element.id and r.job is not None and r.job.alive is None]
    if mute:
        raise UserError(
            f"Slurm does not say what became of {len(mute)} of these ({mute[0].reason or mute[0].state}): "
            "expected an answer; repeat it later. Nothing was cancelled"
        )
    held = [record for record in chosen if _held_by(record)]
    if here := sum(record.state == "running" and not _held_by(record) for record in chosen):
        print(f"{here} of these train outside of Slurm: Ctrl-C in the terminal of their sweep stops them")
    elements = {element.id: element for record in held if (element := _held_by(record)) and element.id}
    if not elements:
        print("nothing to cancel: Slurm holds none of these")
        return 0
    print("\n".join(_announce(held, elements, all_stages)), flush=True)
    if not confirm(f"Cancel {amount(len(elements), 'job')}?"):
        print("nothing was cancelled")
        return 0
    _note(elements.values())
    return _cancel(elements, asks, patience)


def _held_by(record: Record) -> Element | None:
    """Its element in the queue, also where that can never start: it waits there for somebody to remove it."""
    job = record.job
    waits = job is not None and not record.done and bool(job.alive or job.state == "PENDING")
    return record.element if waits else None


def _announce(held: list[Record], elements: dict[str, Element], all_stages: Sequence[Record]) -> list[str]:
    lines = [f"{amount(len(held), 'stage')} in {amount(len(elements), 'job')} would be cancelled:"]
    lines += listed([f"{records.label(r)}  job {r.element.id}" for r in held if r.element], SHOWN)
    names = {record.key for record in held}
    asked = [(stage, element.sweep.parent.parent) for element in elements.values() for stage in element.stages]
    others = {stage for stage, runs in asked if stage not in names and not finished(runs / stage)}
    by_name = {record.key: record for record in all_stages}
    if others:
        lines.append(f"with them goes what else these jobs hold, {amount(len(others), 'stage')}:")
        lines += listed([records.label(by_name[name]) if name in by_name else name for name in sorted(others)], SHOWN)
    below = Lineage(all_stages).descendants([name.split("/")[1] for name in (*names, *others)])
    if stuck := [r for r in below if (element := _held_by(r)) and element.id not in elements]:
        lines.append(f"Slurm will cancel {amount(len(stuck), 'stage')} more, which cannot start without them")
    return lines


def _note(elements: Iterable[Element]) -> None:
    """Write down what is to be cancelled: Slurm forgets at once what never started."""
    jobs: dict[tuple, list[str]] = {}
    for element in elements:
        jobs.setdefault((element.sweep, element.array), []).append(str(element.id))
    try:
        for (sweep, array), names in jobs.items():
            ledger.write(sweep, live_records.CANCELLED, array=array, jobs=names)
    except OSError as problem:
        print(f"note: {problem}; what Slurm forgets of these will be shown as interrupted", file=sys.stderr)


def _cancel(elements: dict[str, Element], asks: queue.Ask, patience: float) -> int:
    """Cancel, and look until none waits or runs any more, at most ``patience`` seconds."""
    wanted = {name: element.array for name, element in elements.items()}
    left, problem, end = list(wanted), "", time.monotonic() + patience
    while True:
        problem = _scancel(left) or problem
        # one that requeues itself at this very moment is back in the queue: it is cancelled again
        time.sleep(min(PAUSE, patience))
        answers = asks(wanted)
        left = [name for name, job in answers.items() if job.alive and job.state != "COMPLETING"]
        leaving = [name for name, job in answers.items() if job.state == "COMPLETING"]
        mute = sum(job.alive is None for job in answers.values())
        if not (left or leaving or mute) or time.monotonic() > end:
            break
    ended = len(wanted) - len(left) - len(leaving) - mute
    parts = [f"{ended} of {amount(len(wanted), 'job')} ended"]
    parts += [f"{len(leaving)} are being stopped (Slurm gives them a little time)"] if leaving else []
    parts += [f"of {mute} Slurm does not say what became"] if mute else []
    parts += [f"{len(left)} are still there: {problem or 'repeat it'}"] if left else []
    print("; ".join(parts) + ". `make sweep` with the same words takes them up again")
    return 1 if left or mute else 0


def _scancel(names: list[str]) -> str:
    """Ask Slurm to cancel jobs; what it complained about (a job that ended meanwhile is no complaint)."""
    problem = ""
    for i in range(0, len(names), CHUNK):
        done = queue.run(["scancel", *names[i : i + CHUNK]])
        if isinstance(done, str):
            return done
        if done.returncode:
            problem = queue.message(done)
    return problem
