"""A plan as people and programs read it: on one screen, and as data."""

from collections import Counter

from launch import wording
from launch.plan import reasons
from launch.plan.planner import Plan
from launch.request import folds, variants


def document(plan: Plan) -> dict:
    """The plan as data, for ``format=json``."""
    shared, wished = plan.shared(), set(plan.wished)
    keys = ("digest", "task", "method", "parent", "depth", "seed", "sparsity", "state", "why")
    return {
        "task": plan.task,
        "preset": plan.preset,
        "counts": dict(Counter(stage.state for stage in plan.stages.values())),
        "data": [{"stages": number, "remark": text} for number, text in wording.kinds(plan.remarks.values())],
        "stages": [
            {**{key: getattr(stage, key) for key in keys}, "folder": str(stage.folder)}
            | {name: stage.config[name] for name in ("variant", "replicate")}
            | {"wished": stage.digest in wished, "shared_by": shared.get(stage.digest, 0)}
            for stage in plan.stages.values()
        ],
    }


def text(plan: Plan) -> str:
    """The plan on one screen: totals, what is shared, a line per method and variant."""
    counts = Counter(stage.state for stage in plan.stages.values())
    total = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    traits = [variants.traits(stage.config) for stage in plan.stages.values()]
    places = {name: list(dict.fromkeys(getattr(one, name) for one in traits)) for name in ("dataset", "model")}
    name = " · ".join(filter(None, (plan.task, *map(", ".join, places.values()))))
    lines = [f"{name} · preset {plan.preset}: {wording.amount(len(plan.stages), 'stage')} ({total})"]
    roots = Counter((plan.stages[digest].method, count) for digest, count in plan.shared().items())
    for (method, count), n in sorted(roots.items()):
        lines.append(f"  {n} {method} shared by {count}" + (" each" if n > 1 else ""))
    named = variants.of_stages(traits)
    common = variants.shared(zip((stage.method for stage in plan.stages.values()), named, strict=True))
    lines += [f"  all: {', '.join(common)}"] * bool(common)
    rows: dict = {}
    for stage, one, variant in zip(plan.stages.values(), traits, named, strict=True):
        own = [f"task.{name}={getattr(one, name)}" for name, found in places.items() if len(found) > 1]
        own += [part for part in variants.parts(variant) if part not in common]
        rows.setdefault((stage.method, ", ".join(own)), []).append(stage)
    splits = {key: folds.listed(stage.config["replicate"] for stage in stages) for key, stages in rows.items()}
    width = max((len(split) + 2 for split in splits.values() if split), default=0)
    head = f"{'sparsities':<28}{'splits' if width else '':<{width}}seeds"
    lines.append(f"  {'method':<16}{'stages':>7}{'done':>7}{'to do':>7}  {head}")
    for (method, own), stages in rows.items():
        levels = sorted({s.sparsity for s in stages if s.sparsity is not None})
        span = "by rounds" if not levels else f"{levels[0]:.4g}" if len(levels) == 1 else _span(levels)
        seeds = ",".join(str(seed) for seed in sorted({s.seed for s in stages}))
        done = sum(s.state == "done" for s in stages)
        rest = f"{span:<28}{splits[method, own]:<{width}}{seeds}  {own}"
        lines.append(f"  {method:<16}{len(stages):>7}{done:>7}{len(stages) - done:>7}  {rest}".rstrip())
    lines += [f"  {reason}" for reason in reasons.tally(plan.stages.values())]
    lines += [f"  note: {note}"] if (note := reasons.edited(plan.stages.values())) else []
    lines += [f"  data, {wording.amount(n, 'stage')}: {remark}" for n, remark in wording.kinds(plan.remarks.values())]
    others = [stage for stage in plan.stages.values() if stage.state not in ("new", "done")]
    lines += wording.listed([f"{stage.digest[:8]} {stage.method} {stage.state}: {stage.why}" for stage in others], 20)
    return "\n".join(lines)


def _span(levels: list[float]) -> str:
    return f"{len(levels)} from {levels[0]:.4g} to {levels[-1]:.4g}"
