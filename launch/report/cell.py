"""One cell of a table: the results of one method at one sparsity, as a mean over folds and seeds.

Deviations are sample standard deviations (n - 1).
"""

import math
import statistics
from collections import defaultdict
from typing import NamedTuple

from launch.request import folds
from launch.request.folds import Pair


class Cell(NamedTuple):
    """Scores over the folds and seeds of one method at one sparsity; ``deviation`` is None where there is one result.

    ``deviation`` is that of all results. ``between`` looks at its parts: the deviation of the means of each fold, and
    that of the means of each seed; None for what there is one of.
    """

    n: int
    mean: float
    deviation: float | None
    collapsed: int
    sparsity: float
    steps: tuple[float, float | None] | None = None  # mean and deviation of the best step by validation; None: no steps
    line: float | None = None  # mean of the optimizer steps of a stage and all it stands on; None: not known of each
    measurements: dict[str, tuple[float, float | None]] | None = None  # the same of what else was measured, by name
    pairs: frozenset[Pair] = frozenset()  # the fold and seed of every result; methods are compared on the same ones
    between: tuple[float | None, float | None] = (None, None)

    def text(self, expected: int) -> str:
        """``97.12±0.15``; ``*`` marks collapsed stages; n where it is not the ``expected`` number of results."""
        spread = "" if self.deviation is None else f"±{self.deviation:.2f}"
        number = "" if self.n == expected else f" (n={self.n})"
        return f"{self.mean:.2f}{spread}{'*' if self.collapsed else ''}{number}"


def joined(members: list[dict], updated: dict, name: str, warnings: list[str], several: list[str]) -> Cell | None:
    """The cell of some rows; None where no score is a number, which alone counts.

    Of two results with one fold and seed the newer counts; ``updated``: digest -> when it was written. What is left out
    is told in ``warnings``, what is there twice in ``several``, by ``name``.
    """
    found: dict[Pair, dict] = {}
    for row in sorted(members, key=lambda row: updated.get(row["digest"], 0.0)):
        pair = row["replicate"] or "", row["seed"]
        if not finite(row["score"]):
            warnings.append(f"{name}, {folds.pair(*pair)}: the score is {row['score']}; it is left out")
            continue
        if pair in found:
            several.append(f"{name}, {folds.pair(*pair)}")
        found[pair] = row
    if not found:
        return None
    rows = found.values()
    steps = [row["best_step"] for row in rows if row["best_step"] is not None and row["steps"] != 0]
    lines = [row["steps_of_line"] for row in rows]
    scores = {pair: float(row["score"]) for pair, row in found.items()}
    return Cell(
        len(found),
        *spread(list(scores.values())),
        sum(bool(row["collapsed"]) for row in rows),
        statistics.fmean(float(row["sparsity"] or 0.0) for row in rows),
        spread(steps) if steps else None,
        None if None in lines else statistics.fmean(lines),
        _measurements([row["measurements"] for row in rows]),
        frozenset(found),
        (_between(scores, 0), _between(scores, 1)),
    )


def spread(values: list[float]) -> tuple[float, float | None]:
    """Mean, and sample standard deviation where there are two or more values."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def finite(value) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _between(scores: dict[Pair, float], part: int) -> float | None:
    """The deviation of the means over all results that share this ``part`` of their pair: 0 the fold, 1 the seed."""
    groups = defaultdict(list)
    for pair, score in scores.items():
        groups[pair[part]].append(score)
    return spread([statistics.fmean(group) for group in groups.values()])[1]


def _measurements(found: list[dict]) -> dict[str, tuple[float, float | None]]:
    """Mean and deviation of what every result has measured; lists, such as whole curves, stay in the summaries."""
    shared = {name: [one.get(name) for one in found] for name in found[0]}
    numbers = {n: v for n, v in shared.items() if all(finite(x) for x in v)}
    return {name: spread([float(value) for value in values]) for name, values in numbers.items()}
