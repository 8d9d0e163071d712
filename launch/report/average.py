"""What a table shows of one method at one sparsity: the average of its results over folds and seeds.

Deviations are sample standard deviations (n - 1).
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from launch.report.rows import Row
from launch.request import folds
from launch.request.folds import Pair

Spread = tuple[float, float | None]  # a mean, and the deviation where there are two or more values


class Average(NamedTuple):
    """Scores over the folds and seeds of one method at one sparsity; ``deviation`` is None where there is one result.

    ``deviation`` is that of all results. ``between`` looks at its parts: the deviation of the means of each fold, and
    that of the means of each seed; None for what there is one of.
    """

    n: int
    mean: float
    deviation: float | None
    collapsed: int
    sparsity: float
    steps: Spread | None = None  # mean and deviation of the best step by validation; None: no steps
    line: float | None = None  # mean of the optimizer steps of a stage and its ancestors; None: not known of each
    measurements: dict[str, Spread] | None = None  # the same of what else was measured, by name
    pairs: frozenset[Pair] = frozenset()  # the fold and seed of every result; methods are compared on the same ones
    between: tuple[float | None, float | None] = (None, None)
    missed: int = 0  # results of another sparsity than the one asked for

    def text(self, expected: int) -> str:
        """``97.12±0.15``; ``*`` marks collapsed stages, ``!`` those of another sparsity; n where not ``expected``."""
        spread = "" if self.deviation is None else f"±{self.deviation:.2f}"
        number = "" if self.n == expected else f" (n={self.n})"
        marks = "*" * bool(self.collapsed) + "!" * bool(self.missed)
        return f"{self.mean:.2f}{spread}{marks}{number}"


def joined(members: Iterable[Row], name: str, warnings: list[str], several: list[str]) -> Average | None:
    """The average of some rows; None where no score is a number: only numbers count.

    Of two results with one fold and seed the newer counts. What is left out is added to ``warnings``, what is there
    twice to ``several``, by ``name``.
    """
    found: dict[Pair, Row] = {}
    for row in sorted(members, key=lambda row: row.updated):
        pair = row.replicate, row.seed
        if not finite(row.score):
            warnings.append(f"{name}, {folds.pair(*pair)}: the score is {row.score}; it is left out")
            continue
        if pair in found:
            several.append(f"{name}, {folds.pair(*pair)}")
        found[pair] = row
    if not found:
        return None
    rows = list(found.values())
    steps = [row.best_step for row in rows if row.best_step is not None and row.steps != 0]
    lines = [row.steps_of_line for row in rows if row.steps_of_line is not None]
    scores = {pair: float(row.score) for pair, row in found.items() if row.score is not None}
    return Average(
        len(found),
        *spread(list(scores.values())),
        sum(bool(row.collapsed) for row in rows),
        statistics.fmean(float(row.sparsity or 0.0) for row in rows),
        spread(steps) if steps else None,
        statistics.fmean(lines) if len(lines) == len(rows) else None,
        _measurements([row.measurements for row in rows]),
        frozenset(found),
        (_between(scores, 0), _between(scores, 1)),
        sum(row.missed for row in rows),
    )


def spread(values: Sequence[float]) -> Spread:
    """Mean, and sample standard deviation where there are two or more values."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def finite(value: object) -> bool:
    """Is it a number, and neither infinite nor NaN?"""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _between(scores: dict[Pair, float], part: int) -> float | None:
    """The deviation of the means over all results that share this ``part`` of their pair: 0 the fold, 1 the seed."""
    groups: dict[object, list[float]] = defaultdict(list)
    for pair, score in scores.items():
        groups[pair[part]].append(score)
    return spread([statistics.fmean(group) for group in groups.values()])[1]


def _measurements(found: Sequence[dict[str, Any]]) -> dict[str, Spread]:
    """Mean and deviation of what every result has measured; lists, such as whole curves, stay in the summaries."""
    shared: dict[str, list[Any]] = {name: [one.get(name) for one in found] for name in found[0]}
    return {name: spread([float(x) for x in own]) for name, own in shared.items() if all(map(finite, own))}
