"""Make room: what no stage needs any more, weights of finished stages, or whole stages. Lists, asks, then deletes."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common import paths
from common.errors import UserError
from common.record import finished
from launch import wording
from launch.runs import ledger, locks, records
from launch.runs.lineage import Lineage
from launch.runs.records import Record
from launch.runs.state import MOVING
from launch.slurm import frozen_code

SHOWN = 10  # stages named in a list
ASIDE = re.compile(r"\.deleted-[0-9a-f]{16}-\d+")  # a stage that is being deleted
SETTLED = 3600.0  # seconds; what was touched later may belong to a sweep that is just starting or ending


@dataclass
class Group:
    """Things of one kind that go together: ``items`` are (paths, the stage whose lock is held meanwhile, or None)."""

    title: str
    items: Sequence[tuple[list[Path], Path | None]]
    size: int = 0

    def __post_init__(self) -> None:
        items = [([path for path in group if os.path.lexists(path)], stage) for group, stage in self.items]
        self.items = [item for item in items if item[0]]
        self.size = sum(_size(path) for group, _ in self.items for path in group)


@dataclass
class Cleaning:
    """What would be deleted below ``runs``, and what a reader should know before."""

    runs: Path
    groups: list[Group]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.groups = [group for group in self.groups if group.items]

    def text(self) -> str:
        lines = [f"in {self.runs}:"]
        for group in self.groups:
            lines.append(f"  {group.title}: {len(group.items)}, {_bytes(group.size)}")
            lines += [f"  {line}" for line in wording.listed([str(several[0]) for several, _ in group.items], 3)]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def plan(
    all_stages: Sequence[Record],
    chosen: Sequence[Record] | None = None,
    weights: bool = False,
    descendants: bool = False,
    where: Path | None = None,
) -> Cleaning:
    """What to delete; nothing is deleted yet. ``all_stages``: all records as ``live_records.read`` gives them.

    Without ``chosen``: leftovers, or the weights of finished stages. With it: those whole stages (or their weights),
    with all that descends from them where ``descendants`` is set.
    """
    where = Path(where or paths.runs())
    if weights:
        return _weights(where, all_stages, list(all_stages if chosen is None else chosen))
    if chosen is not None:
        return _stages(where, all_stages, list(chosen), descendants)
    return _leftovers(where, all_stages)


def _leftovers(where: Path, all_stages: Sequence[Record]) -> Cleaning:
    done = [record for record in all_stages if record.state == "done"]
    points = (paths.checkpoint, paths.previous_checkpoint, paths.next_checkpoint)
    resume = [([*(point(r.folder) for point in points), *r.folder.glob(".*.tmp")], r.folder) for r in done]
    groups = [Group("resume points of finished stages", resume)]
    notes = []
    if any(r.job is not None and r.job.alive is None for r in all_stages):
        notes.append("Slurm does not say what became of some jobs: logs and frozen code stay")
    else:
        logs, code = _logs(where, all_stages), _code(where, all_stages)
        old = {path for path in logs if _settled(path) and _settled(path.parent)} | {p for p in code if _settled(p)}
        for title, unused in (("logs of sweeps that are finished", logs), ("frozen code that no job needs", code)):
            groups.append(Group(title, [([path], None) for path in unused if path in old]))
            if young := sum(path not in old for path in unused):
                notes.append(f"{title}: {young} that were in use within the last hour stay for now")
    tries = [path for path in (where / ".sweeps").glob(".try-*") if _settled(path)]
    groups.append(Group("submissions that were cut short", [([path], None) for path in tries]))
    aside = [path for task in _folders(where) for path in task.glob(".deleted-*") if ASIDE.fullmatch(path.name)]
    groups.append(Group("stages whose deletion was interrupted", [([path], None) for path in aside]))
    return Cleaning(where, groups, notes)


def _logs(where: Path, all_stages: Sequence[Record]) -> list[Path]:
    """Log folders in sweeps all of whose stages are done or cancelled (or were deleted)."""
    left = {(record.task, record.digest) for record in all_stages if record.state not in ("done", "cancelled")}
    over: dict[str, bool] = {}
    for stage, sweeps in records.sweeps(where).items():
        over |= {sweep: over.get(sweep, True) and stage not in left for sweep in sweeps}
    # the lists of stages and jobs stay
    return [path for sweep, ended in over.items() if ended for path in _folders(where / ".sweeps" / sweep)]


def _code(where: Path, all_stages: Sequence[Record]) -> list[Path]:
    """Snapshots that no element refers to which lives, or may live, or whose submission was cut short."""
    needed = {r.element.code for r in all_stages if r.element and r.job and r.job.alive is not False}
    needed |= {element.code for element in ledger.elements(where) if element.id is None}
    needed = {os.path.realpath(code) for code in needed if code}
    there = [path for path in _folders(where / ".code", hidden=True) if frozen_code.is_copy(path)]
    return [path for path in there if os.path.realpath(path) not in needed]


def _weights(where: Path, all_stages: Sequence[Record], chosen: list[Record]) -> Cleaning:
    """Final weights and snapshots of finished stages from which no unfinished stage descends."""
    lineage = Lineage(all_stages)
    needed = {above.digest for r in all_stages if r.state != "done" for above in lineage.ancestors(r)}
    done = [record for record in chosen if record.state == "done"]
    free = [record for record in done if record.digest not in needed]
    folders = [record.folder for record in free]
    files = [([paths.weights(f), paths.selected(f), *f.glob("snapshot-*.pt")], f) for f in folders]
    group = Group("finished stages: weights.pt, selected.pt, snapshots", files)
    notes = []
    if len(free) < len(done):
        notes.append(f"weights kept, as unfinished stages start from them: {len(done) - len(free)}")
    if group.items:
        more = "a stage planned later that starts from one of these trains it again"
        notes.append(f"scores, metrics and curves stay; {more}")
    return Cleaning(where, [group], notes)


def _stages(where: Path, all_stages: Sequence[Record], chosen: list[Record], descendants: bool) -> Cleaning:
    lineage = Lineage(all_stages)
    below = lineage.descendants([record.digest for record in chosen])
    notes = []
    if below and descendants:
        notes.append(f"{len(below)} of these stand on the others: {_names(below)}")
        chosen = chosen + below
    elif below:
        notes.append(f"kept, though standing on these ({len(below)}; DESCENDANTS=1 takes them along): {_names(below)}")
    busy = [record for record in all_stages if record.state in MOVING]
    used = {one.digest for record in busy for one in (record, *lineage.ancestors(record))}
    if kept := [record for record in chosen if record.digest in used]:
        notes.append(f"kept, as running, queued, or needed by what is ({len(kept)}): {_names(kept)}")
    gone = [record for record in chosen if record.digest not in used and records.of_a_stage(record.folder)]
    if foreign := [record for record in chosen if record.digest not in used and record not in gone]:
        named = wording.some([str(record.folder) for record in foreign], 3)
        notes.append(f"kept, as no file in it says that it is a stage's ({len(foreign)}): {named}")
    if lost := sum(record.state == "done" for record in gone):
        notes.append(f"finished among them: {lost}; their results are lost")
    group = Group("whole stages", [([record.folder], record.folder) for record in gone])
    return Cleaning(where, [group], notes)


def clean(planned: Cleaning, confirm: Callable[[str], bool]) -> int:
    """Show, ask, delete; 1 where something could not be deleted, else 0."""
    if not planned.groups:
        print("\n".join(["nothing to delete", *(f"note: {note}" for note in planned.notes)]))
        return 0
    print(planned.text(), flush=True)
    total = sum(group.size for group in planned.groups)
    if not confirm(f"Delete {_bytes(total)}?"):
        print("nothing was deleted")
        return 0
    problems, freed = [], 0
    for group in planned.groups:
        for items, stage in group.items:
            for path in items:
                size = _size(path)
                if problem := _delete(path, stage, planned.runs):
                    problems.append(problem)
                else:
                    freed += size
    print(f"{_bytes(freed)} deleted")
    for problem in problems[:SHOWN]:
        print(f"left: {problem}")
    if len(problems) > SHOWN:
        print(f"left: {len(problems) - SHOWN} more")
    return 1 if problems else 0


def _delete(path: Path, stage: Path | None, runs: Path) -> str:
    """Delete a file or a folder; what kept it from being deleted, or the empty string."""
    inside = Path(os.path.realpath(path.parent)) / path.name
    if not inside.is_relative_to(os.path.realpath(runs)) or (path.is_symlink() and path.is_dir()):
        return f"{path} leads out of {runs} by a link"
    try:
        with contextlib.ExitStack() as held:
            if stage is not None and stage.exists():
                held.enter_context(locks.exclusive(paths.lock(stage), "process", lambda _: None, patience=0.0))
            if stage is not None and path != stage and not finished(stage):
                return f"{path}: its stage is being trained again"
            if not path.is_dir():
                path.unlink(missing_ok=True)
                return ""
            if path == stage:  # out of sight at once: no half-deleted stage is ever planned or read
                path = path.rename(path.with_name(f".deleted-{path.name}-{os.getpid()}"))
            shutil.rmtree(path)
        return ""
    except locks.Busy:
        return f"{path}: another process holds its stage"
    except UserError as problem:
        return f"{path}: {problem}"
    except OSError as problem:
        return f"{problem.filename or path}: {problem.strerror}"


def _settled(path: Path) -> bool:
    """Was nothing directly in it touched lately?"""
    try:
        with os.scandir(path) as entries:
            newest = max([path.stat().st_mtime, *(e.stat(follow_symlinks=False).st_mtime for e in entries)])
    except OSError:
        return False
    return time.time() - newest > SETTLED


def _folders(where: Path, hidden: bool = False) -> list[Path]:
    try:
        entries = sorted(where.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [p for p in entries if p.is_dir() and not p.is_symlink() and (hidden or not p.name.startswith("."))]


def _size(path: Path) -> int:
    """Bytes in a file or below a folder; links count as themselves."""
    try:
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
        with os.scandir(path) as entries:
            return sum(_size(Path(entry.path)) for entry in entries)
    except OSError:
        return 0


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _names(several: Sequence[Record]) -> str:
    return wording.some([records.label(record).replace("  ", " ") for record in several], 3)
