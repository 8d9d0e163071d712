"""Stages to do become Slurm arrays: pure bookkeeping, no files, no scheduler.

Stages whose descendants look alike share an array, so that the j-th children of all of them line up: element i of the
children's array then needs element i of the parents' (``aftercorr``). Where a parent has more children than the array
has parents, each parent's children are an array of their own that needs that one element (``afterok``). Either way a
stage starts when its own parent is done, whatever its parent's neighbours do.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from common.errors import UserError


@dataclass(eq=False)
class Unit:
    """Stages that one array element trains one after the other, and the units that need it."""

    stages: list
    after: str | None = None  # the element of an earlier submission that trains the parent of the first stage
    need: Any = None  # what it asks of the cluster: only equal ones share an array
    children: list["Unit"] = field(default_factory=list)


After = str | tuple[int, int | None] | None  # see ``Array``


@dataclass(frozen=True)
class Array:
    """``lanes``: per element the stages it trains. ``after``: what it waits for.

    ``after`` is None, the id of an element submitted earlier, or (number of an array before this one, its element),
    where None as the element stands for the one of the same index.
    """

    lanes: tuple[tuple, ...]
    after: After
    need: Any = None


def arrays(
    stages: Iterable,
    live: dict[str, str] | None = None,
    most: int = 1001,
    limit: int | None = None,
    need: Callable[[Any], Any] = lambda stage: None,
) -> list[Array]:
    """``stages`` (with ``digest`` and ``parent``; parents first) as arrays, each after those it waits for.

    ``live``: digest of a parent that an earlier submission trains -> its element; any other parent outside of
    ``stages`` counts as done. ``most``: elements an array may have. ``limit``: elements that may be submitted in all;
    where there are more, chains, then siblings without children, then whole trees share an element. ``UserError``
    where not even that fits.
    """
    roots = _fit(_units(stages, live or {}, need), limit)
    shapes = _shapes(roots)
    # The longest chains first: under a throttle they decide how long everything takes.
    heights = _heights(roots)
    roots.sort(key=lambda unit: -heights[id(unit)])
    found: list[Array] = []
    together = _groups(roots, lambda unit: (unit.after, shapes[id(unit)]))
    waiting: list[tuple[After, list[Unit]]] = [(group[0].after, group) for group in together]
    while waiting:
        after, group = waiting.pop(0)
        for start in range(0, len(group), most):
            # A corresponding element has the same index only in an array cut at the same places, which parents' are.
            members = group[start : start + most]
            waiting += _followers(len(found), members, shapes)
            found.append(Array(tuple(tuple(unit.stages) for unit in members), after, members[0].need))
    return found


def _followers(number: int, members: list[Unit], shapes: dict[int, int]) -> list[tuple[After, list[Unit]]]:
    """What waits for the elements of array ``number``, whose units all have children of the same shapes."""
    found: list[tuple[After, list[Unit]]] = []
    rows = [_groups(unit.children, lambda u: shapes[id(u)]) for unit in members]
    rows = [sorted(row, key=lambda group: shapes[id(group[0])]) for row in rows]
    for columns in zip(*rows, strict=True):  # one shape; per member its children of that shape
        if len(members) <= len(columns[0]):
            found += [((number, index), list(children)) for index, children in enumerate(columns)]
        else:
            found += [((number, None), list(slice_)) for slice_ in zip(*columns, strict=True)]
    return found


def _units(stages: Iterable, live: dict[str, str], need: Callable) -> list[Unit]:
    units: dict[str, Unit] = {}
    roots = []
    for stage in stages:
        unit = units[stage.digest] = Unit([stage], need=need(stage))
        if stage.parent in units:
            units[stage.parent].children.append(unit)
        else:
            unit.after = live.get(stage.parent)
            roots.append(unit)
    return roots


def _walk(roots: list[Unit]) -> list[Unit]:
    """Every unit, parents before children."""
    found = list(roots)
    for unit in found:  # grows while it is walked
        found.extend(unit.children)
    return found


def _shapes(roots: list[Unit]) -> dict[int, int]:
    """A number for every unit, the same for those whose needs and descendants look alike."""
    known: dict[tuple, int] = {}
    shapes: dict[int, int] = {}
    for unit in reversed(_walk(roots)):
        key = (unit.need, tuple(sorted(shapes[id(child)] for child in unit.children)))
        shapes[id(unit)] = known.setdefault(key, len(known))
    return shapes


def _heights(roots: list[Unit]) -> dict[int, int]:
    heights: dict[int, int] = {}
    for unit in reversed(_walk(roots)):
        heights[id(unit)] = len(unit.stages) + max((heights[id(child)] for child in unit.children), default=0)
    return heights


def _groups(units: list[Unit], key: Callable) -> list[list[Unit]]:
    found = defaultdict(list)
    for unit in units:
        found[key(unit)].append(unit)
    return list(found.values())


def _alike(units: list[Unit]) -> list[list[Unit]]:
    """Those that wait for the same, and ask for the same, together."""
    return _groups(units, lambda unit: (unit.after, unit.need))


# --- few elements --------------------------------------------------------------------------------------------------


def _fit(roots: list[Unit], limit: int | None) -> list[Unit]:
    """As many units as ``limit`` allows, giving up as little concurrency as that takes."""
    if limit is None or len(_walk(roots)) <= limit:
        return roots
    roots = [_chained(unit) for unit in roots]  # a chain has nothing to run side by side
    families = [roots, *(unit.children for unit in _walk(roots))]
    alike = [group for family in families for group in _alike(family)]
    leaves = max((sum(not unit.children for unit in group) for group in alike), default=0)
    size = 2
    while len(_walk(roots)) > limit and size < 2 * leaves:
        candidate = _paired(roots, size)
        if len(_walk(candidate)) <= limit:
            return candidate
        size *= 2
    return roots if len(_walk(roots)) <= limit else _dealt(roots, limit)


def _chained(unit: Unit) -> Unit:
    stages, after = list(unit.stages), unit.after
    while len(unit.children) == 1 and unit.children[0].need == unit.need:
        unit = unit.children[0]
        stages += unit.stages
    return Unit(stages, after, unit.need, [_chained(child) for child in unit.children])


def _paired(family: list[Unit], size: int) -> list[Unit]:
    """The family with up to ``size`` childless siblings in one unit, all the way down."""
    found = [Unit(u.stages, u.after, u.need, _paired(u.children, size)) for u in family if u.children]
    for group in _alike([u for u in family if not u.children]):
        for start in range(0, len(group), size):
            some = group[start : start + size]
            found.append(Unit([s for u in some for s in u.stages], some[0].after, some[0].need))
    return found


def _dealt(roots: list[Unit], limit: int) -> list[Unit]:
    """Whole trees, the largest first, each to the unit that has least to do."""
    groups = _alike(roots)
    if limit < len(groups):
        raise UserError(
            f"the cluster takes {max(0, limit)} more elements from you now and this sweep needs {len(groups)} or more: "
            "repeat it when some of your jobs have ended, or raise max_submitted in the cluster's file"
        )
    found = []
    for group in groups:
        trees = sorted(([s for u in _walk([root]) for s in u.stages] for root in group), key=len, reverse=True)
        share = max(1, limit * len(group) // len(roots))
        lanes = [Unit([], group[0].after, group[0].need) for _ in range(min(share, len(trees)))]
        for tree in trees:
            min(lanes, key=lambda lane: len(lane.stages)).stages.extend(tree)
        found += lanes
    while len(found) > limit:  # from giving every group at least one
        first, *_, last = max(_alike(found), key=len)
        found.remove(last)
        first.stages.extend(last.stages)
    return found
