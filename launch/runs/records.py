"""Reads the folders of a runs tree: quickly, without torch, tolerant of anything half-written, and changing nothing."""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import yaml

from common import paths, registry
from common import sparsity as sp
from common.errors import UserError
from common.record import fault, read_status
from common.stage import identity
from launch import wording
from launch.described import Described
from launch.request import compose, folds, variants
from launch.request.arguments import Request
from launch.runs import locks, state
from launch.runs.jobs import Job
from launch.runs.ledger import Element
from launch.runs.lineage import Lineage
from launch.runs.state import Evidence

# The C parser reads a configuration in a third of a millisecond; the pure Python one needs eight times as long.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

SHOWN = 8  # candidates listed for a digest prefix that fits several
NOT_TASKS = {"mlartifacts", "mlruns"}  # folders beside them


@dataclass(frozen=True)
class Record(Described):
    """What one stage folder says. ``problem`` names what could not be read; the rest of the record is still filled.

    ``slurm.live_records.read`` adds what the scheduler says: the array ``element`` that counts, its ``job`` as Slurm
    sees it, the number of elements so far, and the state and reason that follow from all of it.
    """

    folder: Path
    config: dict
    status: dict
    summary: dict | None
    done: bool
    problem: str = ""
    element: Element | None = None
    job: Job | None = None
    submissions: int = 0
    refined: tuple[str, str] | None = None

    @property
    def evidence(self) -> Evidence:
        """What its folder says about its state."""
        return Evidence(self.folder, self.done, self.status, self.problem)

    @cached_property
    def state(self) -> str:
        """One of ``state.STATES``: derived from the files, the lock and the scheduler's word, never written back."""
        return self.refined[0] if self.refined else state.of_files(self.evidence)

    @property
    def reason(self) -> str:
        """Why it is in its state, where somebody said so."""
        return self.refined[1] if self.refined else self.evidence.reason

    def moment(self, name: str) -> float:
        """A time of the status (unix seconds), 0 where there is none."""
        return self.evidence.moment(name)

    @property
    def method(self) -> str:
        return super().method or str((self.summary or {}).get("method") or "?")

    @property
    def sparsity(self) -> float | None:
        """The share of zeros asked for; where rounds or layers decide it, known (not None) when the stage is done."""
        target = _number(self.config.get("sparsity"))
        return _number((self.summary or {}).get("sparsity_target")) if target is None else target

    @property
    def missed(self) -> bool:
        """Is its measured sparsity not the target? By what its method tolerates now; old summaries answer too."""
        summary = self.summary or {}
        target, found = _number(summary.get("sparsity_target")), _number(summary.get("sparsity"))
        if target is None or found is None:
            return False
        try:
            total = sum(layer["total"] for layer in summary["layers"].values())
            structure = self.config["settings"]["method"].get("structure", "weights")
            return not sp.met(target, found, total, structure, _tolerance(self.method))
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError):  # not whole
            return False

    @cached_property
    def _variant(self) -> tuple[str, str]:
        """Variant and replicate, both as they are now or both as they were then: a fold was once part of the former."""
        try:
            composer, content = _composer(self.task), self.config
            asked = content["settings"], content["data"], content.get("published", False)
            variant = variants.variant(composer, self.method, *asked)
            return variant, folds.text(self.task, content["settings"])
        except (UserError, LookupError, TypeError, AttributeError):  # not of this checkout, or not whole
            return super().variant, super().replicate

    @property
    def variant(self) -> str:
        """What sets it apart from the embedded default as it is now; as it was then where that is unknown."""
        return self._variant[0]

    @property
    def replicate(self) -> str:
        return self._variant[1]


def read(task: str | None = None, where: Path | None = None) -> list[Record]:
    """Every stage under ``where`` (a runs folder; default ``RUNS``), of one task or all, sorted by task and digest."""
    where = Path(where or paths.runs())
    tasks = [task] if task else [entry.name for entry in _folders(where) if entry.name not in NOT_TASKS]
    return [read_one(Path(entry.path)) for name in tasks for entry in _folders(where / name)]


def read_one(folder: Path) -> Record:
    """The record of one stage folder."""
    # DONE is written last, so it is read first: a stage that ends between two reads is seen unfinished, not torn.
    try:
        wrong = fault(folder)
    except OSError as problem:
        return Record(folder, {}, {}, None, False, f"it cannot be read now ({problem.strerror or problem})")
    problems = [wrong] if wrong else []
    config = _load(paths.config(folder), lambda text: yaml.load(text, Loader=Loader), problems, needed=True)
    status = _load(paths.status(folder), json.loads, [] if wrong == "" else problems, needed=False)
    summary = _load(paths.summary(folder), json.loads, problems, needed=True) if wrong == "" else None
    return Record(folder, config or {}, status or {}, summary, summary is not None, "; ".join(problems))


def of_a_stage(folder: Path) -> bool:
    """Does a file in ``folder`` say that it is a stage's, whole or damaged? A runs folder may hold others.

    Its configuration and its ``DONE`` have the folder's name; its status tells of an attempt.
    """
    name = folder.name
    return (
        any(line in (f"digest: {name}", f"digest: '{name}'") for line in _lines(paths.config(folder)))
        or _lines(paths.done(folder))[:1] == [name]
        or {"state", "attempt", "host", "pid"} <= read_status(folder).keys()
    )


def _lines(path: Path) -> list[str]:
    """Those of a file that may be damaged; none where it cannot be read."""
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def outdated(records: list[Record]) -> set[str]:
    """Digests of stages this code would train anew: their version, or that of an ancestor that is here, was raised."""
    lineage = Lineage(records)
    now = {r.digest: _versions(r.task, r.method) if r.config else None for r in records}
    old = {r.digest for r in records if now[r.digest] is not None and r.config.get("versions") != now[r.digest]}
    return {r.digest for r in records if r.digest in old or any(above.digest in old for above in lineage.ancestors(r))}


def steps_of_lines(records: list[Record]) -> dict[str, int]:
    """Digest -> optimizer steps of a stage and all its ancestors together, where each of them is here and finished."""
    lineage = Lineage(records)
    sums = {}
    for record in records:
        line = [record, *lineage.ancestors(record)]
        steps = [_number((one.summary or {}).get("steps")) if one.done else None for one in line]
        if None not in steps and lineage.whole(record):
            sums[record.digest] = sum(int(number) for number in steps if number is not None)
    return sums


@cache
def _composer(task: str) -> compose.Composer:
    return compose.Composer(Request(task=task))


@cache
def _versions(task: str, method: str) -> dict | None:
    try:
        return identity.versions(task, method)
    except UserError:  # a method or task that this checkout does not have: nothing newer is known
        return None


def _tolerance(method: str) -> float | None:
    try:
        return registry.method(method).tolerance
    except UserError:  # not of this checkout
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
                key = stage["task"], stage["digest"]
            except (ValueError, KeyError, TypeError):  # the last line of a plan that is being written
                continue
            if not all(isinstance(part, str) for part in key):
                continue
            names = members.setdefault(key, [])
            if entry.name not in names:
                names.append(entry.name)
    return members


def awaited(where: Path | None = None) -> set[str]:
    """``task/digest`` of all stages of sweeps that live on this machine now, also of those whose turn comes later."""
    where = Path(where or paths.runs())
    alive = {path.parent.parent.name for path in (where / ".sweeps").glob("*/local-*/lock") if locks.held(path)}
    return {"/".join(key) for key, names in sweeps(where).items() if alive & set(names)} if alive else set()


def _folders(where: Path) -> list[os.DirEntry]:
    """The visible sub-folders of a folder in the order of their names; none where it does not exist."""
    try:
        with os.scandir(where) as entries:
            return sorted((e for e in entries if not e.name.startswith(".") and _is_folder(e)), key=lambda e: e.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as problem:  # shown as empty, results would be missing in silence
        raise UserError(
            f"{where} cannot be read ({problem.strerror or problem}); RUNS=<folder> chooses another"
        ) from None


def _is_folder(entry: os.DirEntry) -> bool:
    """Also where nobody can tell (a loop of links): what reads it says so."""
    try:
        return entry.is_dir()
    except OSError:
        return True


def _load(path: Path, parse: Callable[[str], object], problems: list[str], needed: bool) -> dict | None:
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


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def find(prefix: str, found: Iterable[Record]) -> Record:
    """The stage whose digest begins with ``prefix``. ``UserError`` when none does, or several do."""
    wanted = prefix.rpartition("/")[2].lower()
    several = [record for record in found if record.digest.startswith(wanted)] if wanted else []
    fitting = [record for record in several if record.digest == wanted] or several
    if len(fitting) == 1:
        return fitting[0]
    if not several:
        raise UserError(
            f"expected RUN=<the first letters of a stage's name>, found {prefix!r}; `make status LAST=1000` names "
            "stages that are not done, reports/<task>/results.csv those that are"
        )
    lines = wording.listed([label(record) for record in several], SHOWN)
    raise UserError("\n".join([f"RUN={prefix} fits {len(several)} stages; give more letters:", *lines]))


def label(record: Record) -> str:
    """One line: name, what it is, state."""
    level = "" if record.sparsity is None else f" {wording.percent(record.sparsity)}"
    what = f"{record.task} {record.method}{level} {folds.pair(record.replicate, record.seed)}"
    return f"{record.digest[:12]}  {what}  {record.state}" + (f"  {record.variant}" if record.variant else "")
