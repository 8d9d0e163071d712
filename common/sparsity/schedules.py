"""Pure functions of the step. Whatever the interval, a schedule's last event falls exactly on its end."""

import math


def due(step: int, begin: int, end: int, every: int) -> bool:
    """Is an update due after ``step`` optimizer steps? At begin, begin + every, ... and always exactly at ``end``."""
    if every < 1:
        raise ValueError(f"the interval between updates must be at least 1 step, found {every}")
    return begin <= step <= end and (step == end or (step - begin) % every == 0)


def cubic(step: int, begin: int, end: int, final: float, initial: float = 0.0) -> float:
    """Zhu and Gupta (2017): rises from ``initial`` at ``begin`` to exactly ``final`` at and after ``end``."""
    if step >= end:
        return final
    if step <= begin:
        return initial
    return final + (initial - final) * (1 - (step - begin) / (end - begin)) ** 3


def cosine(step: int, end: int, initial: float) -> float:
    """RigL's drop fraction (Evci et al., 2020): from ``initial`` at step 0 to exactly 0 at and after ``end``."""
    if step >= end:
        return 0.0
    return initial / 2 * (1 + math.cos(math.pi * step / end))


def geometric_levels(target: float, rate: float) -> list[float]:
    """Sparsities after rounds that each prune ``rate`` of what lives: 1 - (1 - rate)^k, and ``target`` last, exactly.

    A target on the grid (to nine digits) ends the list there, so that targets on one grid share all earlier rounds.
    """
    if not 0 < rate < 1:
        raise ValueError(f"the share pruned per round must be in (0, 1), found {rate}")
    if not 0 < target < 1:
        raise ValueError(f"the target sparsity of pruning in rounds must be in (0, 1), found {target}")
    levels: list[float] = []
    while True:
        level = round(1 - (1 - rate) ** (len(levels) + 1), 12)
        if level >= target - 1e-9:
            return [*levels, target if abs(level - target) > 1e-9 else level]
        levels.append(level)
