"""Drop and grow: the one routine behind SET, RigL and their relatives."""

import math

import torch

from common.sparsity.allocation import Pool
from common.sparsity.masks import Masks
from common.sparsity.scores import Score
from common.sparsity.selection import select


@torch.no_grad()
def drop_and_grow(masks: Masks, drop, grow, fraction: float) -> dict[str, torch.Tensor]:
    """Per tensor, drop the ``fraction`` of live weights with the lowest ``drop`` score, then grow as many by ``grow``.

    Every tensor keeps its count exactly. Candidates for growth are all positions that are dead after the drop, those
    just dropped included (Evci et al., 2020: a weight that returns at once keeps its value and its momentum).
    ``drop`` and ``grow`` are scores; returns new masks ``{name: bool}`` without applying them.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"the share of weights to drop must be in [0, 1], found {fraction}")
    drop, grow = Score.of(drop), Score.of(grow)
    new = {}
    for name, kept in masks.counts.items():
        moved = math.floor(fraction * kept)
        survivors = select(drop, [Pool((name,), kept - moved)], within=masks)[name].to(masks[name].device)
        grown = select(grow, [Pool((name,), moved)], within={name: ~survivors})[name].to(masks[name].device)
        new[name] = survivors | grown
    return new
