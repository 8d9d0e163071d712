"""What a plan will cost: from the time that finished stages of the same kind took, and at most by the time limits."""

import dataclasses
import json
import statistics
from collections import defaultdict
from itertools import islice

from common import paths, record, registry
from common.errors import UserError
from common.settings import groups
from common.settings.run import Run
from launch.plan.planner import Plan
from launch.runs.records import read_one
from launch.slurm.cluster import Cluster

MOST = 500  # finished stages outside of the plan that are looked at
SCALE = 1_000_000  # steps of which a method is asked for its share


def estimate(plan: Plan, place: int | Cluster) -> dict:
    """``hours`` of one process in all (None: nothing like it was ever trained), ``known`` of ``stages``, ``chain``.

    ``chain``: hours of the longest line of stages. ``limit_hours``: by the time limit, on a cluster. ``unit``: GPU or
    core; a process takes one GPU, or ``cpus`` cores.
    """
    seen = _seen(plan)
    todo = plan.todo()
    times = {stage.digest: _time(stage.config, seen) for stage in todo}
    known = [time for time in times.values() if time is not None]
    mean = statistics.fmean(known) if known else 0.0
    on_slurm = place if isinstance(place, Cluster) else None
    gpus = on_slurm is not None and bool(on_slurm.gpus or on_slurm.gres)
    each = 1 if gpus or on_slurm is None else on_slurm.cpus
    weight = {stage.digest: each * stage.processes for stage in todo}
    seconds = {digest: mean if time is None else time for digest, time in times.items()}
    total = sum(seconds[digest] * weight[digest] for digest in seconds)
    chain: dict[str, float] = {}
    for stage in todo:  # parents first
        chain[stage.digest] = seconds[stage.digest] + chain.get(stage.parent or "", 0.0)
    return {
        "stages": len(todo),
        "known": len(known),
        "unit": "GPU" if gpus else "core",
        "hours": total / 3600 if known else None,
        "chain_hours": max(chain.values(), default=0.0) / 3600 if known else None,
        "limit_hours": sum(weight.values()) * on_slurm.minutes / 60 if on_slurm else None,
    }


def text(cost: dict) -> list[str]:
    """The estimate in words; nothing where nothing is to do."""
    if not cost["stages"]:
        return []
    unit = f"{cost['unit']}-hours"
    limit = "" if cost["limit_hours"] is None else f"; at most {_hours(cost['limit_hours'])} {unit} without requeues"
    if cost["hours"] is None:
        return [f"cost: nothing like it has been trained here yet{limit}"]
    part = "" if cost["known"] == cost["stages"] else f" ({cost['known']} of {cost['stages']} known)"
    line = f"cost: about {_hours(cost['hours'])} {unit}, the longest line {_hours(cost['chain_hours'])} hours{part}"
    return [line + limit]


def _hours(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _seen(plan: Plan) -> dict[str, list[float]]:
    """Seconds of finished stages by kind: those of the plan, else others of the task."""
    done = [stage for stage in plan.stages.values() if stage.state == "done"]
    pairs = [(stage.config, record.read_json(paths.summary(stage.folder), {})) for stage in done]
    if not done:
        others = map(read_one, (path.parent for path in islice((paths.runs() / plan.task).glob("*/DONE"), MOST)))
        pairs = [(other.config, other.summary or {}) for other in others if other.state == "done"]
    seen: dict[str, list[float]] = defaultdict(list)
    for content, summary in pairs:
        seconds = summary.get("seconds")
        if isinstance(seconds, (int, float)) and seconds > 0 and isinstance(content.get("settings"), dict):
            for kind in _kinds(content, _length(content)):
                seen[kind].append(float(seconds))
    return seen


def _time(content: dict, seen: dict) -> float | None:
    """Seconds a stage will take; None where nothing like it has been trained.

    What the same method took for as many steps, else what any method on the same model and schedule did, else a share
    of what a training of the whole schedule took.
    """
    length = _length(content)
    found = next((statistics.median(seen[kind]) for kind in _kinds(content, length) if kind in seen), None)
    whole = _kinds(content, 1.0)[1]
    return length * statistics.median(seen[whole]) if found is None and whole in seen else found


def _length(content: dict) -> float:
    """Optimizer steps of a stage as a share of the run's: some methods train longer, some after training not at all."""
    try:
        cls = registry.method(content["method"])
        return cls(groups.build(cls.Config, content["settings"]["method"])).budget(SCALE) / SCALE
    except (UserError, LookupError, TypeError):  # not of this checkout, or not whole
        return 1.0


def _kinds(content: dict, length: float) -> list[str]:
    """The same training but for seed and level, then the same but for the method, as keys."""
    settings = content["settings"]
    chosen = {f.name for f in dataclasses.fields(Run) if f.metadata.get("identity", True)} - {"seed"}
    run = {key: value for key, value in settings["run"].items() if key in chosen}
    task = {key: settings["task"].get(key) for key in ("dataset", "model")}
    same = json.dumps([run, task, content.get("data"), length], sort_keys=True)
    return [f"{content.get('method')} {same}", same]
