"""What a stage looks like in MLflow, and how far it was sent: pure functions of the record, without MLflow."""

import hashlib
import json
import math
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from common import paths, record
from common.errors import UserError
from launch import database_file
from launch.records import Record

VALUE, TAG = 6000, 5000  # characters MLflow keeps of a parameter and of a tag


class Offsets:
    """How far each stage was sent to one address: one small file, written after the batches it speaks of.

    An entry is {run, offset (bytes), seal (checksum of the lines at the offset), state}. Losing the file costs nothing
    but time: the same numbers stand in the run's ``synced`` tag, and sending a line twice leaves one point.
    """

    def __init__(self, runs: Path, uri: str):
        self.path = runs / ".sync" / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}.json"
        database = Path(uri[len("sqlite:///") :]) if uri.startswith("sqlite:///") else None
        try:
            stored = (
                record.read_json(self.path, {})
                if database is None or database_file.condition(database) == "usable"
                else {}
            )
        except (OSError, ValueError):  # a disk that filled up can leave an empty file: start from the runs' tags
            stored = {}
        stages, experiments = [_mapping(_mapping(stored).get(name)) for name in ("stages", "experiments")]
        self.stages: dict[str, dict] = {key: entry for key, entry in stages.items() if _is_entry(entry)}
        self.experiments: dict[str, str] = {key: value for key, value in experiments.items() if isinstance(value, str)}
        self.saved = time.monotonic()

    def news(self, stage: Record) -> bool:
        known = self.stages.get(key(stage))
        same = known and known["state"] == stage.state and known["offset"] == committed(stage)
        return not (same and valid(stage, known))

    def know(self, task: str, identity: str) -> None:
        """Forget what was sent to an experiment that is no longer there (its database was replaced)."""
        if self.experiments.get(task, identity) != identity:
            self.stages = {key: value for key, value in self.stages.items() if not key.startswith(f"{task}/")}
        self.experiments[task] = identity

    def forget(self) -> None:
        """Nothing was sent yet: the database is a new one."""
        self.stages, self.experiments = {}, {}

    def save(self, at_least: float = 0.0) -> None:
        """Write the file, unless that was done less than ``at_least`` seconds ago; ``UserError`` where it cannot be."""
        if time.monotonic() - self.saved < at_least:
            return
        try:
            self.path.parent.mkdir(exist_ok=True)
            record.write_json(self.path, {"experiments": self.experiments, "stages": self.stages})
        except OSError as problem:
            raise UserError(
                f"cannot note in {self.path} what was sent to MLflow ({problem.strerror}): {self.path.parent} has to "
                "be a folder that can be written, on a disk with room. Nothing is lost: repeat `make sync` then"
            ) from problem
        self.saved = time.monotonic()


def committed(stage: Record) -> int:
    """Bytes of ``metrics.jsonl`` that will not change any more."""
    try:
        size = paths.metrics(stage.folder).stat().st_size
    except FileNotFoundError:
        return 0
    return size if stage.done else min(size, max(0, int(_number(stage.status.get("committed")))))


def valid(stage: Record, known: dict) -> bool:
    """Whether the lines that were sent are still the lines in the file."""
    return known["offset"] <= committed(stage) and known["seal"] == seal(stage, known["offset"])


def seal(stage: Record, offset: int) -> int:
    """A checksum of the last bytes before ``offset``; they hold a time stamp, so another training has another seal."""
    if not offset:
        return 0
    with open(paths.metrics(stage.folder), "rb") as file:
        file.seek(max(0, offset - 256))
        return zlib.crc32(file.read(min(256, offset)))


def points(stage: Record, start: int, end: int) -> Iterator[tuple[str, float, int, int]]:
    """(name, value, milliseconds, step) of each value in the committed lines between two offsets."""
    if end <= start:
        return
    with open(paths.metrics(stage.folder), "rb") as file:
        file.seek(start)
        lines = file.read(end - start).splitlines()
    for line in lines:
        try:
            values = json.loads(line)
            step, moment = int(values.pop("step")), round(values.pop("time") * 1000)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            # A line damaged on disk hides only itself.
            continue
        yield from ((name, value, moment, step) for name, value in _numbers(values))


def final(stage: Record) -> Iterator[tuple[str, float, int, int]]:
    """The numbers of ``summary.json`` at the stage's last step."""
    summary = {k: v for k, v in stage.summary.items() if k not in ("seed", "sparsity_target")}
    moment, step = milliseconds(stage.status.get("updated")), int(_number(summary.get("steps")))
    yield from ((name, value, moment, step) for name, value in _numbers(summary))


def parameters(stage: Record) -> dict[str, str]:
    """The flattened configuration (``task.epochs``, ...) and the coordinates of the sweep."""
    flat = {}

    def walk(prefix, value):
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            flat[prefix] = value if isinstance(value, str) else json.dumps(value)

    walk("", stage.config.get("settings") or {})
    return {name: text[:VALUE] for name, text in {**flat, **coordinates(stage)}.items()}


def coordinates(stage: Record) -> dict[str, str]:
    """Where the stage stands in a sweep. A sparsity that is only known at the end is left out before."""
    names = {"task": stage.task, "dataset": stage.dataset, "model": stage.model, "method": stage.method}
    sparsity = {} if stage.sparsity is None else {"sparsity": str(stage.sparsity)}
    return {**names, **sparsity, "seed": str(stage.seed)}


def tags(stage: Record, sweeps: list[str]) -> dict[str, str]:
    """What the UI filters by. They may change, unlike parameters."""
    summary, config = stage.summary or {}, stage.config
    found = {
        **coordinates(stage),
        "kind": "stage",
        "digest": stage.digest,
        "sweep": sweeps[0] if sweeps else "",
        "sweeps": " ".join(sweeps),
        "state": stage.state,
        "variant": stage.variant,
        "parent": config.get("parent") or "",
        "collapsed": str(bool(summary.get("collapsed"))).lower() if stage.done else "",
        "reason": str(stage.status.get("reason") or "") if stage.state in ("failed", "stopped") else "",
    }
    return {name: str(value)[:TAG] for name, value in found.items() if value != ""}


def key(stage: Record) -> str:
    return f"{stage.task}/{stage.digest}"


def milliseconds(seconds) -> int:
    return round(_number(seconds) * 1000)


def _number(value) -> float:
    """A number of a file that anyone may have edited; 0 for anything that is none."""
    return value if isinstance(value, (int, float)) and math.isfinite(value) else 0


def _mapping(value) -> dict:
    return value if isinstance(value, dict) else {}


def _is_entry(value) -> bool:
    kinds = {"run": str, "offset": int, "seal": int, "state": str}
    return isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in kinds.items())


def _numbers(values: dict) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield name, float(value) if math.isfinite(value) else math.nan
