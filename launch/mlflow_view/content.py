"""What stages and sweeps look like in MLflow: pure functions of the records, without MLflow."""

import json
import math
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from common import paths
from launch.runs import records
from launch.runs.records import Record

VALUE, TAG = 6000, 5000  # characters MLflow keeps of a parameter and of a tag

# MLflow's word for a state; every other state waits to be trained or to go on. Ours stands in the tag ``state``.
STATUS = {"done": "FINISHED", "failed": "FAILED", "cancelled": "KILLED", "blocked": "KILLED", "running": "RUNNING"}
WAITING = "SCHEDULED"
ENDED = ("FINISHED", "FAILED", "KILLED")


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
            continue  # a line damaged on disk hides only itself
        yield from ((name, value, moment, step) for name, value in _numbers(values))


def final(stage: Record) -> Iterator[tuple[str, float, int, int]]:
    """The numbers of ``summary.json`` at the stage's last step."""
    summary = {k: v for k, v in (stage.summary or {}).items() if k not in ("seed", "sparsity_target")}
    moment, step = milliseconds(stage.status.get("updated")), int(_number(summary.get("steps")))
    measurements = summary.get("measurements")
    if isinstance(measurements, dict):
        summary |= {f"measurements/{name}": value for name, value in measurements.items()}
    yield from ((name, value, moment, step) for name, value in _numbers(summary))


def parameters(stage: Record) -> dict[str, str]:
    """The flattened configuration (``task.epochs``, ...) and the coordinates of the sweep."""
    flat: dict[str, str] = {}

    def walk(prefix: str, value: object) -> None:
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
        "replicate": stage.replicate,
        "parent": config.get("parent") or "",
        "collapsed": str(bool(summary.get("collapsed"))).lower() if stage.done else "",
        "reason": "" if stage.state in ("done", "running") else stage.reason,
        # where it was trained: other from one attempt to the next
        **{name: stage.status.get(name) for name in ("job", "node", "restarts")},
        "attempts": stage.status.get("attempt"),
        "cluster": stage.element.cluster if stage.element else None,
    }
    return {name: str(value)[:TAG] for name, value in found.items() if value not in ("", None)}


def status(stage: Record) -> str:
    return STATUS.get(stage.state, WAITING)


def began(stage: Record) -> int:
    """Milliseconds; of a stage that failed before it began: when it was submitted."""
    submitted = stage.element.submitted if stage.element else 0
    return milliseconds(stage.status.get("started")) or milliseconds(submitted) or milliseconds(time.time())


def ended(stage: Record) -> int:
    """Milliseconds: its last word, or the end of its job where that came later."""
    end = 0 if stage.done or stage.job is None else milliseconds(stage.job.ended)
    return max(end, milliseconds(stage.status.get("updated"))) or milliseconds(time.time())


class Sweep(NamedTuple):
    """A sweep as one run: MLflow's status of it, and when its last stage ended (milliseconds; None: not yet)."""

    task: str
    name: str
    status: str
    ended: int | None


def sweeps(stages: list[Record], members: dict[tuple[str, str], list[str]]) -> list[Sweep]:
    """The sweeps of the tasks that ``stages`` are of, all stages of those tasks given.

    A sweep has ended when all its stages have, and failed when one of them did.
    """
    found = {(stage.task, stage.digest): stage for stage in stages}
    tasks = {stage.task for stage in stages}
    groups: dict[tuple[str, str], list[Record | None]] = {}
    for (task, digest), names in members.items():
        if task in tasks:
            groups.setdefault((task, names[0]), []).append(found.get((task, digest)))
    result = []
    for (task, name), own in groups.items():
        words = {WAITING if stage is None else status(stage) for stage in own}
        verdict = next(word for word in ("RUNNING", WAITING, "FAILED", "KILLED", "FINISHED") if word in words)
        end = max(ended(stage) for stage in own if stage is not None) if verdict in ENDED else None
        result.append(Sweep(task, name, verdict, end))
    return result


def again(stage: Record) -> Record:
    """Its files read once more; the scheduler's word stands as long as they tell of the same attempt."""
    fresh = records.read_one(stage.folder)
    same = all(fresh.status.get(name) == stage.status.get(name) for name in ("state", "attempt"))
    if stage.refined is None or fresh.done or fresh.problem or not same:
        return fresh
    names = ("element", "job", "submissions", "refined")
    return replace(fresh, **{name: getattr(stage, name) for name in names})


def milliseconds(seconds: object) -> int:
    """Of what a file gives as seconds; 0 for anything that is no number."""
    return round(_number(seconds) * 1000)


def _number(value: object) -> float:
    """A number of a file that anyone may have edited; 0 for anything that is none."""
    return value if isinstance(value, (int, float)) and math.isfinite(value) else 0


def _numbers(values: dict) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield name, float(value) if math.isfinite(value) else math.nan
