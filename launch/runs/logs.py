"""The end of what a stage's processes printed: the log files of its job, or of the local worker that trained it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from common import paths

if TYPE_CHECKING:
    from launch.runs.records import Record

END = 256 * 1024  # bytes read from the end of a log
MARK = "== stage "
# What srun and Slurm say themselves, in every job that ends badly, and submitit in every job.
SLURM, SUBMITIT = ("srun: ", "slurmstepd: ", "slurmstepd-"), "submitit INFO"


def mark(folder: Path) -> str:
    """The line that a process prints before it trains a stage: it may train many, whose output this separates."""
    return f"{MARK}{Path(folder).parent.name}/{Path(folder).name} =="


def files(record: "Record") -> list[Path]:
    """The stage's logs that are there: what went wrong first, of every process; then what was printed."""
    if record.element is None:
        return _of_worker(record)
    pattern = f"{record.element.id}_*_log."
    found = [path for kind in ("err", "out") for path in record.element.folder.glob(pattern + kind)]
    return sorted(found, key=lambda path: (path.suffix, len(path.name), path.name))  # 2 before 10


def _of_worker(record: "Record") -> list[Path]:
    """The logs in the stage's sweeps that hold its mark, the newest worker's."""
    from launch.runs import records

    runs = record.folder.parent.parent
    names = records.sweeps(runs).get((record.task, record.digest), [])
    found = [path for name in names for path in (runs / ".sweeps" / name).glob("local-*/*_log.out")]
    marked = [path for path in found if mark(record.folder) in _lines(path)]
    if not marked:
        return []
    out = max(marked, key=lambda path: path.stat().st_mtime)
    return [path for path in (out.with_suffix(".err"), out) if path.exists()]


def _lines(path: Path) -> list[str]:
    """The last lines of a text file that hold anything."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - END))
            content = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line.rstrip() for line in content[size > END :] if line.strip()]


def last(path: Path, lines: int, folder: Path | None = None) -> list[str]:
    """The last lines of a log; of one that is shared those about the stage in ``folder``.

    Without what Slurm says in every job, unless nothing else is there.
    """
    content = _lines(path)
    own = mark(folder) if folder else None
    if own in content:
        start = len(content) - content[::-1].index(own)
        others = [i for i, line in enumerate(content) if i >= start and line.startswith(MARK)]
        content = content[start : others[0] if others else None]
    content = [line for line in content if not line.startswith((SUBMITIT, MARK))]
    return ([line for line in content if not line.startswith(SLURM)] or content)[-lines:]


def error(record: "Record", lines: int) -> tuple[Path | None, list[str]]:
    """The file that says most about what went wrong, and its last lines."""
    for path in [paths.error(record.folder), *files(record)]:
        if found := last(path, lines, record.folder):
            return path, found
    return None, []
