"""What was handed to Slurm: one append-only list a sweep, the intent written before and the job's number after sbatch.

A process killed in between leaves an intent without a number; the next submission finds out what became of it by the
job's name, which is unique. Nothing here asks the scheduler.
"""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import paths
from common.errors import UserError


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _stages(value: Any) -> bool:
    """``task/digest``, and nothing that leads out of a runs folder."""
    return _texts(value) and all(len(Path(one).parts) == 2 and ".." not in Path(one).parts for one in value)


# What an event has to say, and of which kind; "cancelled" is left by `make cancel`, since Slurm forgets what never
# started.
NEEDED: dict[str, dict[str, Callable[[Any], bool]]] = {
    "intent": {
        "elements": lambda value: isinstance(value, list) and all(map(_stages, value)),
        "time": lambda value: isinstance(value, (int, float)) and math.isfinite(value),
    },
    "submitted": {"job": lambda value: str(value).isascii() and str(value).isdigit()},
    "cancelled": {"jobs": _texts},
}


@dataclass(frozen=True)
class Element:
    """One element of a Slurm array: it trains ``stages`` (``task/digest``), in that order."""

    sweep: Path  # the sweep's folder
    array: str  # the array's name, used once
    cluster: str
    preset: str
    folder: Path  # of submitit's files: logs and pickles
    code: str  # the frozen code it runs
    job: str | None  # the array's number; None: killed between the intent and the note of the number
    index: int
    stages: tuple[str, ...]
    submitted: float  # unix seconds

    @property
    def id(self) -> str | None:
        return None if self.job is None else f"{self.job}_{self.index}"

    @property
    def out(self) -> Path:
        return self.folder / f"{self.id}_0_log.out"

    @property
    def err(self) -> Path:
        return self.folder / f"{self.id}_0_log.err"


def path(sweep: Path) -> Path:
    return Path(sweep) / "jobs.jsonl"


def write(sweep: Path, event: str, **content) -> None:
    """Append one event and wait until it is on disk."""
    line = json.dumps({"event": event, **content, "time": time.time()}) + "\n"
    # A line torn by a full disk or a kill must not swallow the next one.
    with open(path(sweep), "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def events(sweep: Path) -> list[dict]:
    """The events of one sweep, oldest first; a torn or strange line says nothing. ``UserError``: it cannot be read."""
    try:
        lines = path(sweep).read_text(errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as problem:  # taken for empty, everything in it would be submitted once more
        raise UserError(
            f"{path(sweep)} cannot be read ({problem.strerror}): it lists the jobs of a sweep, and nothing can "
            "be said about them without it; mend it, or move the folder it is in elsewhere when its jobs have ended"
        ) from None
    found = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        named = isinstance(event, dict) and isinstance(event.get("array"), str)
        if named and all(name in event and holds(event[name]) for name, holds in _needed(event).items()):
            found.append(event)
    return found


def _needed(event: dict) -> dict[str, Callable[[Any], bool]]:
    return NEEDED.get(str(event.get("event")), {})


def of_sweep(sweep: Path) -> list[Element]:
    """The elements of one sweep; arrays that Slurm refused, or that were taken back, are left out."""
    sweep = Path(sweep)
    found: dict[str, dict[str, dict]] = {kind: {} for kind in ("intent", "submitted", "dropped")}
    for event in events(sweep):
        found.setdefault(str(event.get("event")), {})[event["array"]] = event
    jobs = {name: str(event["job"]) for name, event in found["submitted"].items()}
    elements = []
    for name, intent in found["intent"].items():
        if name not in found["dropped"]:
            place = str(intent.get("cluster", "")), str(intent.get("preset", "default"))
            files = Path(str(intent.get("folder", sweep))), str(intent.get("code", ""))
            job, submitted = jobs.get(name), float(intent.get("time", 0))
            for index, stages in enumerate(intent.get("elements", [])):
                elements.append(Element(sweep, name, *place, *files, job, index, tuple(stages), submitted))
    return elements


def elements(where: Path | None = None) -> list[Element]:
    """Every element of every sweep in a runs folder (default ``RUNS``), oldest first."""
    folder = Path(where or paths.runs()) / ".sweeps"
    try:
        sweeps = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted((e for sweep in sweeps for e in of_sweep(Path(sweep))), key=lambda element: element.submitted)


def by_stage(found: list[Element]) -> dict[str, list[Element]]:
    """``task/digest`` -> its elements, oldest first: the last one counts."""
    members: dict[str, list[Element]] = {}
    for element in found:
        for stage in element.stages:
            members.setdefault(stage, []).append(element)
    return members
