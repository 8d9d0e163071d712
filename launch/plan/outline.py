"""A plan as people and programs read it: on one screen, and as data."""

import math
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
        "notes": [{"stages": number, "note": text} for number, text in wording.kinds(plan.cautions.values())],
        "data": [{"stages": number, "remark": text} for number, text in wording.kinds(plan.remarks.values())],
        "stages": [
            {**{key: getattr(stage, key) for key in keys}, "folder": str(stage.folder)}
            | {"variant": stage.variant, "replicate": stage.replicate}
            | {"wished": stage.digest in wished, "shared_by": shared.get(stage.digest, 0)}
            for stage in plan.stages.values()
        ],
    }


def layers(networks: dict[str, list[tuple[str, list[int], str]]]) -> list[str]:
    """The weights of each network, a line each; see ``fits_the_model.layers``."""
    lines = []
    for network, weights in networks.items():
        pruned = sum(math.prod(shape) for _, shape, word in weights if word.startswith("pruned"))
        every = sum(math.prod(shape) for _, shape, _ in weights)
        lines.append(f"{network}: {pruned:,} weights are in the prunable set, of {every:,} in matrices and kernels")
        wide = max(len(name) for name, _, _ in weights)
        lines += [f"  {name:<{wide}}  {' x '.join(map(str, shape)):<20}  {word}" for name, shape, word in weights]
    return lines


def text(plan: Plan) -> str:
    """The plan on one screen: totals, what is shared, a line per method and variant."""
    stages = list(plan.stages.values())
    total = ", ".join(f"{n} {state}" for state, n in sorted(Counter(stage.state for stage in stages).items()))
    places = {name: list(dict.fromkeys(getattr(stage, name) for stage in stages)) for name in ("dataset", "model")}
    name = " · ".join(filter(None, (plan.task, *map(", ".join, places.values()))))
    lines = [f"{name} · preset {plan.preset}: {wording.amount(len(stages), 'stage')} ({total})"]
    roots = Counter((plan.stages[digest].method, count) for digest, count in plan.shared().items())
    for (method, count), n in sorted(roots.items()):
        lines.append(f"  {n} {method} shared by {count}" + (" each" if n > 1 else ""))
    named = variants.of_stages(stages)
    common = variants.shared(zip((stage.method for stage in stages), named, strict=True))
    lines += [f"  all: {', '.join(common)}"] * bool(common)
    rows: dict = {}
    for stage, variant in zip(stages, named, strict=True):
        own = [f"task.{name}={getattr(stage, name)}" for name, found in places.items() if len(found) > 1]
        own += [part for part in variants.parts(variant) if part not in common]
        rows.setdefault((stage.method, ", ".join(own)), []).append(stage)
    splits = {key: folds.listed(stage.replicate for stage in alike) for key, alike in rows.items()}
    width = max((len(split) + 2 for split in splits.values() if split), default=0)
    head = f"{'sparsities':<28}{'splits' if width else '':<{width}}seeds"
    lines.append(f"  {'method':<16}{'stages':>7}{'done':>7}{'to do':>7}  {head}")
    for (method, own), alike in rows.items():
        levels = sorted({stage.sparsity for stage in alike if stage.sparsity is not None})
        span = "by rounds" if not levels else wording.level(levels[0])
        if len(levels) > 1:
            span = f"{len(levels)} from {wording.level(levels[0])} to {wording.level(levels[-1])}"
        seeds = ",".join(map(str, sorted({stage.config["seed"] for stage in alike})))
        done = sum(stage.state == "done" for stage in alike)
        rest = f"{span:<28}{splits[method, own]:<{width}}{seeds}  {own}"
        lines.append(f"  {method:<16}{len(alike):>7}{done:>7}{len(alike) - done:>7}  {rest}".rstrip())
    lines += [f"  {reason}" for reason in reasons.tally(stages)]
    lines += [f"  note: {note}" for note in reasons.edited(stages)]
    lines += [f"  note, {wording.amount(n, 'stage')}: {told}" for n, told in wording.kinds(plan.cautions.values())]
    lines += [f"  data, {wording.amount(n, 'stage')}: {remark}" for n, remark in wording.kinds(plan.remarks.values())]
    others = [stage for stage in stages if stage.state not in ("new", "done")]
    lines += wording.listed([f"{stage.digest[:8]} {stage.method} {stage.state}: {stage.why}" for stage in others], 20)
    return "\n".join(lines)
