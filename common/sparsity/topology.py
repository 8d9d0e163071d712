"""Drop and grow: the one routine behind SET, RigL and their relatives."""

import math

import torch

from common.sparsity import choosing, granularity
from common.sparsity.allocation import AllocationError, Pool, from_masks
from common.sparsity.masks import AnyMasks
from common.sparsity.scores import Score, Tensors
from common.sparsity.selection import select


@torch.no_grad()
def drop_and_grow(
    masks: AnyMasks, drop: Score | Tensors, grow: Score | Tensors, fraction: float, form: str = "weights"
) -> dict[str, torch.Tensor]:
    """Per tensor, drop the ``fraction`` of live weights with the lowest ``drop`` score, then grow as many by ``grow``.

    Every tensor keeps its count exactly. Candidates for growth are all positions that are dead after the drop, those
    just dropped included (Evci et al., 2020: a weight that returns at once keeps its value and its momentum).
    ``drop`` and ``grow`` are scores; returns new masks ``{name: bool}`` without applying them.

    ``form``: the structure of ``masks`` (see ``granularity``). Blocks move as one, by the sums of their scores, and are
    what is counted. N:M, where a weight could only move inside its group, is an ``AllocationError``.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"the share of weights to drop must be in [0, 1], found {fraction}")
    atom = granularity.form(form)
    if not isinstance(atom, granularity.Blocks):
        raise AllocationError(f"connections that move keep no pattern: weights or blocks, found {form}")
    if atom.size > 1:
        masks, drop, grow = choosing.whole(masks, atom), choosing.blocks(drop, atom), choosing.blocks(grow, atom)
    drop, grow = Score.of(drop), Score.of(grow)
    new = {}
    for pool in from_masks(masks):
        (name,), moved = pool.names, math.floor(fraction * pool.keep)
        survivors = select(drop, [Pool((name,), pool.keep - moved)], within=masks)[name].to(masks[name].device)
        grown = select(grow, [Pool((name,), moved)], within={name: ~survivors})[name].to(masks[name].device)
        new[name] = survivors | grown
    return new if atom.size == 1 else choosing.spread(new, atom)
