"""The corner of a curve of scores over sparsity: how far one can prune before it costs much more than until there.

Jaiswal et al. (NeurIPS 2023) call it essential sparsity: the point beyond which performance declines much faster. They
read it off their figures; here it is a rule, that of Kneedle for curves that fall ever faster (Satopää, Albrecht,
Irwin and Raghavan, *Finding a "Kneedle" in a Haystack*, 2011): with both axes scaled to [0, 1], the knee is the level
whose score lies farthest above the straight line from the dense network, at sparsity 0, to the last level. In place of
their smoothing seeds are averaged.

There is no knee where the curve does not fall (by more than a hundredth of the dense score, and than noise), and none
where it lies above the line by less than a fifth of the fall, or than noise: at a fifth, the curve falls at least
(0.6 / 0.4)^2 = 2.25 times as fast beyond the knee as before it. Noise: three standard errors of the difference of two
means over seeds.
It is one of the levels that were measured, and what it is depends on where they end: they should go to where little is
left. Where the last level still scores more than half-way from answering blindly up to dense, they end too ``early``
to trust it: most of the fall is not in the picture, and a knee, or its absence, is that of the part that is.
It does not say that nothing is lost until there: reports tell that beside it. No torch, no numpy.
"""

import math
from typing import NamedTuple

LEVELS = 4  # fewer measured sparsities have no corner worth the name
ABOVE = 0.2  # of the fall
FALL = 0.01  # of the dense score
ERRORS = 3  # standard errors that count as noise


class Point(NamedTuple):
    """A mean score over ``n`` seeds, or folds and seeds; ``deviation``: that of a sample, None where there is one."""

    sparsity: float
    mean: float
    deviation: float | None
    n: int


class Knee(NamedTuple):
    """``above``: distance from the line, as a share of the fall; ``faster``: the fall beyond it, against before it."""

    sparsity: float
    score: float
    above: float
    faster: float


def find(dense: Point | None, levels: list[Point]) -> Knee | None:
    """The knee of the curve from ``dense`` (or its first level) through ``levels``; None: no knee, too few levels."""
    curve = sorted({point.sparsity: point for point in ([dense] if dense else []) + levels}.values())
    if len(levels) < LEVELS or not all(math.isfinite(point.mean) for point in curve):
        return None
    first, last = curve[0], curve[-1]
    width, fall, noise = last.sparsity - first.sparsity, first.mean - last.mean, ERRORS * _error(curve)
    if fall <= max(FALL * abs(first.mean), noise):
        return None

    def above(point: Point) -> float:
        return (point.mean - last.mean) / fall - (last.sparsity - point.sparsity) / width

    knee = max(curve[1:-1], key=above)
    if above(knee) < max(ABOVE, noise / fall):
        return None
    before = (first.mean - knee.mean) / (knee.sparsity - first.sparsity)
    beyond = (knee.mean - last.mean) / (last.sparsity - knee.sparsity)
    return Knee(knee.sparsity, knee.mean, above(knee), beyond / before if before > 0 else math.inf)


def early(dense: float, last: float, blind: float) -> bool:
    """Do the levels end too early? ``last``: the last one's score; ``blind``: that of the best constant answer."""
    return last > (blind + dense) / 2


def _error(curve: list[Point]) -> float:
    """The standard error of a difference of two means, pooled over points with several seeds; 0 where none has."""
    known = [point.deviation**2 / point.n for point in curve if point.deviation is not None]
    return math.sqrt(2 * math.fsum(known) / len(known)) if known else 0.0
