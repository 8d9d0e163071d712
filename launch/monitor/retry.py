"""``make retry``: what failed, and what that blocks, as stages to train once more with the very same settings."""

import itertools
from collections import defaultdict

from common import registry
from common.errors import UserError
from launch.described import Stage
from launch.request.arguments import Request
from launch.runs import records
from launch.runs.lineage import Lineage
from launch.runs.records import Record, outdated
from launch.runs.state import BARRED


def chosen(all_stages: list[Record], request: Request) -> list[Record]:
    """Among all records those that failed and match METHOD and RUN, their unfinished ancestors, and what they block."""
    for name in request.methods:
        registry.method(name)
    lineage = Lineage(all_stages)
    if request.run:
        one = records.find(request.run, all_stages)
        if one.state not in (*BARRED, "interrupted"):
            raise UserError(f"{one.digest} is {one.state}: only what did not get done can be tried again")
        own = [one]
    elif request.methods:
        own = [r for r in all_stages if r.state in ("failed", "blocked") and r.method in request.methods]
    else:
        own = [r for r in all_stages if r.state == "failed"]
        blocked = [(r, lineage.parent(r)) for r in all_stages if r.state == "blocked"]
        own += [r for r, above in blocked if above is not None and above.done]  # by what was mended since
    taken = {r.digest: r for r in own}
    for one in own:  # what blocks it, should it be blocked
        missing = itertools.takewhile(lambda above: above.state in BARRED, lineage.ancestors(one))
        taken |= {above.digest: above for above in missing}
    taken |= {r.digest: r for r in lineage.descendants(taken, through=lambda below: below.state == "blocked")}
    if old := outdated(all_stages) & set(taken):
        raise UserError(
            f"{len(old)} of them were planned for an older version of the code ({', '.join(sorted(old)[:3])}): "
            "'make sweep' plans them anew"
        )
    return list(taken.values())


def places(own: list[Record], all_stages: list[Record], request: Request) -> dict[tuple[str, str, str], list[Stage]]:
    """(task, cluster, preset) -> stages, parents first; the cluster asked for, or the one they were on."""
    lineage = Lineage(all_stages)
    chosen: dict[tuple[str, str, str], list[Stage]] = defaultdict(list)
    for record in sorted(own, key=lineage.depth):
        name, preset = (record.element.cluster, record.element.preset) if record.element else ("local", "default")
        name = request.cluster if "cluster" in request.given else name
        stage = Stage(record.folder, record.config, lineage.depth(record), record.state, "asked for again")
        chosen[record.task, name, preset].append(stage)
    return chosen
