"""One routine from scores to masks, whatever lives or goes as one: single weights, blocks, N of every M."""

import math

import torch

from common.sparsity import allocation as rules
from common.sparsity import granularity
from common.sparsity.allocation import AllocationError, Rule
from common.sparsity.masks import AnyMasks, Masks
from common.sparsity.scores import Score, Tensors
from common.sparsity.selection import CHUNK, select


def choose(
    scores: Score | Tensors,
    sparsity: float,
    allocation: str | Rule = "global",
    structure: str = "weights",
    within: AnyMasks | None = None,
) -> dict[str, torch.Tensor]:
    """The masks (``{name: bool[shape]}``) that keep the highest scores at ``sparsity``, the share of zeros.

    ``scores``: a ``Score`` or ``{name: tensor}`` (higher: keep). ``allocation``: the name of a rule, or a function of
    (sizes, sparsity, living) that returns pools; with blocks both count blocks. ``within``: ``Masks`` or ``{name:
    bool}`` outside which nothing may live. ``AllocationError`` where the request cannot be met, ``ValueError`` where
    rows, blocks or N:M are asked of the weights of a transposed convolution.

    ``structure``: ``weights``, ``RxC`` or ``N:M`` (see ``granularity``). A block is worth the sum of its scores (see
    ``blocks``); ``kept_count`` of all blocks live, so the sparsity is met to half a block. N:M is met exactly at 1 -
    N/M; at a lower sparsity every group keeps as many as that allows, so that gradual pruning gets there.
    """
    score, form = Score.of(scores), granularity.form(structure)
    if score.weights is not None and (structure != "weights" or allocation == "rows"):
        score.weights.check_oriented()
    if isinstance(allocation, str):
        rules.check_rule(allocation)
    if isinstance(form, granularity.Pattern):
        return select(score, form.pools(score.shapes, sparsity), within=within)
    shapes = score.shapes
    if form.size > 1:
        score, within = Score.of(blocks(score, form)), None if within is None else whole(within, form)
    living = None if within is None else {pool.names[0]: pool.keep for pool in rules.from_masks(within)}
    pools = granularity.pools(shapes, sparsity, allocation, structure, living)
    if form.size == 1:
        return select(score, pools, within=within)
    try:
        return spread(select(score, pools, within=within), form)
    except AllocationError as error:
        raise AllocationError(f"{error} (counted in blocks of {form})") from None


def blocks(scores: Score | Tensors, form: granularity.Blocks) -> dict[str, torch.Tensor]:
    """The sum of the scores of each block, added in float64, as float32[out/R, in/C, kernel...] on the scores' device.

    -inf makes a block -inf, NaN makes it NaN. A few blocks' rows at a time, so that no copy of the weights is made.
    """
    score, sums = Score.of(scores), {}
    for name, grid in form.grid(score.shapes).items():
        width = form.rows * math.prod(score.shapes[name][1:])  # weights in a row of blocks, one after another
        step = max(1, CHUNK // width)
        parts = []
        for first in range(0, grid[0], step):
            last = min(first + step, grid[0])
            part = score.chunk(name, first * width, last * width).double()
            part = part.reshape(last - first, form.rows, grid[1], form.columns, *grid[2:])
            parts.append(part.sum(dim=(1, 3)).float())
        sums[name] = torch.cat(parts)
    return sums


def whole(masks: AnyMasks, form: granularity.Blocks) -> dict[str, torch.Tensor]:
    """Which blocks of ``masks`` (``Masks`` or ``{name: bool}``) live in all their weights: ``{name: bool[grid]}``."""
    bits = masks.bits if isinstance(masks, Masks) else masks
    split = {n: (g[0], form.rows, g[1], form.columns, *g[2:]) for n, g in form.grid(bits).items()}
    return {name: bits[name].reshape(shape).all(dim=3).all(dim=1) for name, shape in split.items()}


def spread(bits: Tensors, form: granularity.Blocks) -> dict[str, torch.Tensor]:
    """Masks of weights from masks of blocks."""
    return {n: value.repeat_interleave(form.rows, 0).repeat_interleave(form.columns, 1) for n, value in bits.items()}
