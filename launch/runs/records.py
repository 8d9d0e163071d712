"""Reads the folders of a runs tree: quickly, without torch, tolerant of anything half-written, and changing nothing."""

import json
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from common import paths
from common.errors import UserError
from common.stage import identity
from launch.request import compose, folds, variants
from launch.request.arguments import Request
from launch.runs import locks

if TYPE_CHECKING:
    from launch.runs.jobs import Job
    from launch.runs.ledger import Element

# The C parser reads a configuration in a third of a millisecond; the pure Python one needs eight times as long.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# In the order in which a table lists them.
STATES = (*("done", "running", "queued", "new", "interrupted", "blocked", "cancelled", "failed", "unknown", "broken"),)

SHOWN = 8  # candidates listed for a digest prefix that fits several
# Folders beside the tasks that are not tasks.
NOT_TASKS = {"mlartifacts", "mlruns"}

# Seconds without a word after which a "running" stage whose lock is free counts as interrupted. A process of this
# machine drops its lock when it dies; some shared file systems hide the locks of other machines, so those get longer.
SILENT_HERE, SILENT_ELSEWHERE = 10, 600


@dataclass(frozen=True)
class Record:
    """What one stage folder says. ``problem`` names what could not be read; the rest of the record is still filled.

    ``slurm.states.read`` adds what the scheduler says: the array ``element`` that counts, its ``job`` as Slurm sees it,
    the number of elements so far, and the state and reason that follow from all of it.
    """

    folder: Path
    config: dict
    status: dict
    summary: dict | None
    done: bool
    problem: str = ""
    element: "Element | None" = None
    job: "Job | None" = None
    submissions: int = 0
    refined: tuple[str, str] | None = None

    @cached_property
    def state(self) -> str:
        """One of ``STATES``: derived from the files, the lock and the scheduler's word, never written back."""
        if self.refined:
            return self.refined[0]
        if self.problem:
            return "broken"
        if self.done:
            return "done"
        state = self.status.get("state") or "new"
        if state in ("stopped", "done"):  # the latter without DONE: to be trained again, or killed between the two
            return "interrupted"
        if state != "running":
            return state if state in STATES else "unknown"
        here = self.status.get("host") in (None, socket.gethostname())
        silent = time.time() - self.moment("updated")
        if silent < (SILENT_HERE if here else SILENT_ELSEWHERE):
            return "running"
        return {True: "running", False: "interrupted", None: "unknown"}[locks.held(paths.lock(self.folder))]

    @property
    def reason(self) -> str:
        """Why it is in its state, where somebody said so."""
        return self.refined[1] if self.refined else str(self.status.get("reason") or "")

    def moment(self, name: str) -> float:
        """A time of the status (unix seconds), 0 where there is none."""
        return _number(self.status.get(name)) or 0.0

    @property
    def digest(self) -> str:
        return self.folder.name

    @property
    def task(self) -> str:
        return self.folder.parent.name

    @property
    def key(self) -> str:
        """``task/digest``, by which ledgers and offsets name it."""
        return f"{self.task}/{self.digest}"

    @property
    def method(self) -> str:
        return str(self.config.get("method") or (self.summary or {}).get("method") or "?")

    @property
    def seed(self):
        return self.config.get("seed")

    @property
    def sparsity(self) -> float | None:
        """The share of zeros asked for; where rounds or layers decide it, known (not None) when the stage is done."""
        target = _number(self.config.get("sparsity"))
        return _number((self.summary or {}).get("sparsity_target")) if target is None else target

    @cached_property
    def _told(self) -> tuple[str, str]:
        """Variant and replicate, both as they are now or both as they were then: a fold was once part of the former."""
        try:
            composer, content = _composer(self.task), self.config
            variant = variants.variant(composer, self.method, content["settings"], content["data"])
            return variant, folds.text(self.task, content["settings"])
        except (UserError, LookupError, TypeError, AttributeError):  # not of this checkout, or not whole
            return str(self.config.get("variant") or ""), str(self.config.get("replicate") or "")

    @property
    def variant(self) -> str:
        """What sets it apart from the embedded default as it is now; as it was then where that cannot be told."""
        return self._told[0]

    @property
    def replicate(self) -> str:
        """``task.fold=3``: the split of the data; results are averaged over it as over seeds. "" where it has none."""
        return self._told[1]

    @property
    def data(self) -> str:
        """The first eight digits of its data's checksum."""
        return str(self.config.get("data") or "")[:8]

    @property
    def dataset(self) -> str:
        return str(self.setting("task", "dataset") or "")

    @property
    def model(self) -> str:
        return str(self.setting("task", "model") or "")

    def setting(self, part: str, key: str):
        """``settings.<part>.<key>`` of the configuration, or None."""
        settings = self.config.get("settings")
        section = settings.get(part) if isinstance(settings, dict) else None
        return section.get(key) if isinstance(section, dict) else None


def read(task: str | None = None, where: Path | None = None) -> list[Record]:
    """Every stage under ``where`` (a runs folder; default ``RUNS``), of one task or all, sorted by task and digest."""
    where = Path(where or paths.runs())
    tasks = [task] if task else [entry.name for entry in _folders(where) if entry.name not in NOT_TASKS]
    return [read_one(Path(entry.path)) for name in tasks for entry in _folders(where / name)]


def read_one(folder: Path) -> Record:
    """The record of one stage folder."""
    # DONE is written last, so it is read first: a stage that ends between two reads is seen unfinished, not torn.
    done = paths.done(folder).exists()
    problems = []
    config = _load(paths.config(folder), lambda text: yaml.load(text, Loader=Loader), problems, needed=True)
    status = _load(paths.status(folder), json.loads, [] if done else problems, needed=False)
    summary = _load(paths.summary(folder), json.loads, problems, needed=True) if done else None
    return Record(folder, config or {}, status or {}, summary, done, "; ".join(problems))


def outdated(records: list[Record]) -> set[str]:
    """Digests of stages this code would train anew: their version, or that of one they start from, was raised."""
    by_digest = {record.digest: record for record in records}
    old: dict[str, bool] = {}

    def is_old(digest: str) -> bool:
        if digest not in old:
            found = by_digest.get(digest)
            old[digest] = False  # a parent that is gone says nothing; and no circle of damaged files recurses
            if found is not None and found.config:
                parent = found.config.get("parent")
                old[digest] = _differs(found) or (bool(parent) and is_old(str(parent)))
        return old[digest]

    return {digest for digest in by_digest if is_old(digest)}


def _differs(record: Record) -> bool:
    now = _versions(record.task, record.method)
    return now is not None and record.config.get("versions") != now


def steps_of_lines(records: list[Record]) -> dict[str, int]:
    """Optimizer steps of each finished stage and of all it stands on, by digest.

    A stage is left out when one of them is not finished, or not among the ``records`` (`make clean` removed it).
    """
    by_digest = {record.digest: record for record in records if record.done and record.summary}
    sums: dict[str, int | None] = {}
    for digest in by_digest:
        line = []
        while digest in by_digest and digest not in sums and digest not in line:  # damaged files may form a circle
            line.append(digest)
            digest = str(by_digest[digest].config.get("parent") or "")
        total = 0 if digest == "" else sums.get(digest)
        for stage in reversed(line):
            steps = _number(by_digest[stage].summary.get("steps"))
            total = None if total is None or steps is None else total + int(steps)
            sums[stage] = total
    return {digest: total for digest, total in sums.items() if total is not None}


@cache
def _composer(task: str) -> compose.Composer:
    return compose.Composer(Request(task=task))


@cache
def _versions(task: str, method: str) -> dict | None:
    try:
        return identity.versions(task, method)
    except UserError:  # a method or task that this checkout does not have: nothing newer is known
        return None


def sweeps(where: Path | None = None) -> dict[tuple[str, str], list[str]]:
    """(task, digest) -> the names of the sweeps that ask for this stage, oldest first."""
    members: dict[tuple[str, str], list[str]] = {}
    for entry in _folders(Path(where or paths.runs()) / ".sweeps"):
        try:
            lines = (Path(entry.path) / "plan.jsonl").read_text(errors="replace").splitlines()
        except OSError:  # a sweep that was interrupted before its plan was written asked for nothing
            continue
        for line in lines:
            try:
                stage = json.loads(line)
                names = members.setdefault((stage["task"], stage["digest"]), [])
            except (ValueError, KeyError, TypeError):  # the last line of a plan that is being written
                continue
            if entry.name not in names:
                names.append(entry.name)
    return members


def _folders(where: Path) -> list[os.DirEntry]:
    """The visible sub-folders of a folder in the order of their names; none where it does not exist."""
    try:
        with os.scandir(where) as entries:
            return sorted((e for e in entries if not e.name.startswith(".") and e.is_dir()), key=lambda e: e.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _load(path: Path, parse, problems: list[str], needed: bool):
    """The mapping in a file, or None; what is wrong with it is appended to ``problems``."""
    try:
        value = parse(path.read_text())
    except FileNotFoundError:
        if needed:
            problems.append(f"no {path.name}")
        return None
    except (OSError, ValueError, yaml.YAMLError) as problem:
        reason = str(problem).splitlines()
        problems.append(f"{path.name} is unreadable ({reason[0] if reason else type(problem).__name__})")
        return None
    if not isinstance(value, dict):
        problems.append(f"{path.name} holds no mapping")
        return None
    return value


def _number(value) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def find(prefix: str, found: Iterable[Record]) -> Record:
    """The stage whose digest begins with ``prefix``. ``UserError`` when none does, or several do."""
    wanted = prefix.rpartition("/")[2].lower()
    several = [record for record in found if record.digest.startswith(wanted)] if wanted else []
    exact = [record for record in several if record.digest == wanted]
    if len(exact or several) == 1:
        return (exact or several)[0]
    if not several:
        raise UserError(
            f"expected RUN=<the first letters of a stage's name>, found {prefix!r}; `make status` shows names, "
            "`make plan` with the words of a sweep those of its stages"
        )
    lines = [f"  {label(record)}" for record in several[:SHOWN]]
    more = [f"  and {len(several) - SHOWN} more"] if len(several) > SHOWN else []
    raise UserError("\n".join([f"RUN={prefix} fits {len(several)} stages; give more letters:", *lines, *more]))


def label(record: Record) -> str:
    """One line: name, what it is, state."""
    level = "" if record.sparsity is None else f" {record.sparsity:.2%}"
    what = f"{record.task} {record.method}{level} {folds.pair(record.replicate, record.seed)}"
    return f"{record.digest[:12]}  {what}  {record.state}" + (f"  {record.variant}" if record.variant else "")
