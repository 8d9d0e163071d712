"""``make retry``: what failed, and what that blocks, as stages to train once more with the very same settings."""

from collections import defaultdict

from common import registry
from common.errors import UserError
from launch.plan.planner import Stage
from launch.request.arguments import Request
from launch.runs import records
from launch.runs.records import Record, outdated

ENDED = ("failed", "blocked", "cancelled")


def chosen(found: list[Record], request: Request) -> list[Record]:
    """Among all records those that failed and match METHOD and RUN, what they stand on, and what they block."""
    for name in request.methods:
        registry.method(name)
    if request.run:
        one = records.find(request.run, found)
        if one.state not in (*ENDED, "interrupted"):
            raise UserError(f"{one.digest} is {one.state}: only what did not get done can be tried again")
        own = [one]
    elif request.methods:
        own = [r for r in found if r.state in ("failed", "blocked") and r.method in request.methods]
    else:
        own = [r for r in found if r.state == "failed"]
    by_digest = {r.digest: r for r in found}
    if not (request.run or request.methods):  # blocked by what was mended since
        own += [r for r in found if r.state == "blocked" and _parent_done(r, by_digest)]
    taken = {r.digest: r for r in own}
    for one in own:  # what a blocked stage stands on, and did not get done
        while (one := by_digest.get(one.config.get("parent"))) is not None and one.state in ENDED:
            taken[one.digest] = one
    waiting = [r for r in found if r.state == "blocked"]
    while more := [r for r in waiting if r.config.get("parent") in taken and r.digest not in taken]:
        taken |= {r.digest: r for r in more}
    if old := outdated(found) & set(taken):
        raise UserError(
            f"{len(old)} of them were planned for an older version of the code ({', '.join(sorted(old)[:3])}): "
            "'make sweep' plans them anew"
        )
    return list(taken.values())


def _parent_done(record: Record, by_digest: dict[str, Record]) -> bool:
    parent = by_digest.get(record.config.get("parent"))
    return parent is not None and parent.done


def places(own: list[Record], found: list[Record], request: Request) -> dict[tuple[str, str, str], list[Stage]]:
    """(task, cluster, preset) -> stages, parents first; the cluster asked for, or the one they were on."""
    by_digest = {r.digest: r for r in found}
    chosen: dict[tuple[str, str, str], list[Stage]] = defaultdict(list)
    for record in sorted(own, key=lambda r: _depth(r, by_digest)):
        name, preset = (record.element.cluster, record.element.preset) if record.element else ("local", "default")
        name = request.cluster if "cluster" in request.given else name
        chosen[record.task, name, preset].append(_stage(record, _depth(record, by_digest)))
    return chosen


def _depth(record: Record, by_digest: dict[str, Record]) -> int:
    depth, parent = 0, record.config.get("parent")
    while parent in by_digest and depth < len(by_digest):
        depth, parent = depth + 1, by_digest[parent].config.get("parent")
    return depth


def _stage(record: Record, depth: int) -> Stage:
    content = record.config
    return Stage(
        record.digest,
        record.task,
        record.method,
        content["parent"],
        depth,
        record.folder,
        record.seed,
        content["sparsity"],
        record.state,
        "asked for again",
        content,
    )
