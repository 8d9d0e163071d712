"""How many weights live where: every rule becomes a list of pools with integer keep counts.

A ``Pool`` is one competition among whole tensors; ``Groups`` are equal-sized runs of weights along the input axis of
one tensor, each with its own count. ``sizes`` below is ``{name: shape}`` or ``{name: tensor}``. Sparsity is the share
of zeros, in [0, 1). Counts always add up to ``kept_count(total, sparsity)`` unless the rule fixes them locally (N:M,
per-layer rates). A rule that gives each tensor a count leaves at least one weight in each; only a pool of several
tensors can empty one. ``living`` (``{name: count}``) caps each tensor's count, for pruning step by step within masks:
rounding alone may give a tensor one weight more at a higher sparsity.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Sizes = Mapping[str, Any]  # shapes by name, or what has one: tensors
Living = Mapping[str, int] | None


@dataclass(frozen=True)
class Pool:
    """``keep`` of all weights in the tensors ``names`` live."""

    names: tuple[str, ...]
    keep: int


@dataclass(frozen=True)
class Groups:
    """Every ``size`` weights in a row along the input axis of tensor ``name`` keep ``keeps[group]`` (int64[groups])."""

    name: str
    size: int
    keeps: np.ndarray

    @property
    def keep(self) -> int:
        """Live weights in all groups together."""
        return int(self.keeps.sum())


Pools = Sequence[Pool | Groups]
Rule = Callable[[Sizes, float, Living], Pools]


class AllocationError(ValueError):
    """A request no allocation can meet; the message names the tensor and the numbers."""


def shapes_of(sizes: Sizes) -> dict[str, Shape]:
    """The shapes alone, where ``sizes`` may hold tensors."""
    return {name: tuple(value.shape if hasattr(value, "shape") else value) for name, value in sizes.items()}


def _numel(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


def check_sparsity(sparsity: float) -> float:
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float)) or not 0 <= sparsity < 1:
        raise AllocationError(f"sparsity is the share of zeros, a number in [0, 1); found {sparsity!r}")
    return float(sparsity)


def kept_count(total: int, sparsity: float) -> int:
    """The integer number of live weights among ``total``: total * (1 - sparsity), rounded to nearest (halves up).

    ``sparsity`` counts as the decimal number that it is written as: of 5 weights at 0.9 half a one is one.
    """
    return _nearest(total * (1 - _decimal(check_sparsity(sparsity))))


def _decimal(number: float) -> Fraction:
    return Fraction(repr(float(number)))


def _nearest(number: Fraction) -> int:
    return math.floor(number + Fraction(1, 2))


def _largest_remainder(exact: np.ndarray, total: int, limit: np.ndarray) -> np.ndarray:
    """Integers near ``exact`` that add up to ``total``, none above ``limit``; ties go to the earlier entry."""
    keeps = np.minimum(np.floor(exact).astype(np.int64), limit)
    for i in np.argsort(-np.round(exact - keeps, 9), kind="stable"):
        if keeps.sum() >= total:
            break
        keeps[i] += keeps[i] < limit[i]
    short = total - int(keeps.sum())
    while short > 0 and (room := np.flatnonzero(keeps < limit)).size:  # only when rounding met the limits
        keeps[room[:short]] += 1
        short = total - int(keeps.sum())
    if short != 0:
        raise AllocationError(f"{total} weights cannot be kept where only {int(limit.sum())} exist")
    return keeps


def global_pool(sizes: Sizes, sparsity: float, living: Living = None) -> list[Pool]:
    """All tensors compete for one budget (which never grows with the sparsity, so that ``living`` changes nothing)."""
    shapes = shapes_of(sizes)
    return [Pool(tuple(shapes), kept_count(sum(map(_numel, shapes.values())), sparsity))]


def _shared(shapes: dict[str, Shape], densities: np.ndarray, total: int, living: Living) -> list[Pool]:
    """``total`` weights in proportion to densities * sizes (which add up to it), at least one in every tensor."""
    limit = np.array([_numel(s) if living is None else living[n] for n, s in shapes.items()], dtype=np.int64)
    exact, least = densities * [_numel(s) for s in shapes.values()], np.minimum(limit, 1)
    if total < least.sum():
        raise AllocationError(
            f"{total} of {sum(map(_numel, shapes.values()))} weights would live, in {len(shapes)} tensors that keep at "
            "least one each: prune less, or with an allocation that may empty a layer (global)"
        )
    raised = np.zeros(len(exact), dtype=bool)
    while (low := ~raised & (exact < least)).any():
        raised |= low
        rest = exact[~raised].sum()
        exact = np.where(raised, least, exact * ((total - least[raised].sum()) / rest if rest else 0))
    return [Pool((n,), int(keep)) for n, keep in zip(shapes, _largest_remainder(exact, total, limit), strict=True)]


def _uniform(shapes: dict[str, Shape], total: int, living: Living) -> list[Pool]:
    return _shared(shapes, np.full(len(shapes), total / max(1, sum(map(_numel, shapes.values())))), total, living)


def uniform(sizes: Sizes, sparsity: float, living: Living = None) -> list[Pool]:
    """The same sparsity in every tensor; counts are exact in total by largest remainder."""
    shapes = shapes_of(sizes)
    return _uniform(shapes, kept_count(sum(map(_numel, shapes.values())), sparsity), living)


def _erdos_renyi_kernel(shapes: dict[str, Shape], total: int, living: Living, of: Sizes | None) -> list[Pool]:
    n = np.array([_numel(s) for s in shapes.values()], dtype=np.float64)
    as_whole = shapes if of is None else shapes_of(of)
    raw = np.array([sum(as_whole[name]) / _numel(as_whole[name]) for name in shapes])
    dense = np.zeros(len(n), dtype=bool)
    while True:
        scale = (total - n[dense].sum()) / (raw * n)[~dense].sum() if not dense.all() else 0.0
        over = ~dense & (raw * scale > 1)
        if not over.any():
            return _shared(shapes, np.where(dense, 1.0, raw * scale), total, living)
        dense |= over


def erdos_renyi_kernel(sizes: Sizes, sparsity: float, living: Living = None, of: Sizes | None = None) -> list[Pool]:
    """Density proportional to (n_in + n_out + kernel sides) / (n_in n_out kernel area), at most 1.

    Mocanu et al., Nature Communications 2018, for matrices; Evci et al., ICML 2020, for kernels. Tensors are (out, in,
    kernel...). Dense tensors are taken out and the rest solved again until none passes 1. ``of``: the tensors whose
    shapes say the densities, where ``sizes`` counts their blocks.
    """
    shapes = shapes_of(sizes)
    return _erdos_renyi_kernel(shapes, kept_count(sum(map(_numel, shapes.values())), sparsity), living, of)


def _beside_a_dense(
    name: str, rule: str, plain: str, sizes: Sizes, sparsity: float, living: Living, share: Callable[..., list[Pool]]
) -> list[Pool]:
    """Tensor ``name`` dense, and ``share`` of the others with what is left of the same total; in the order of all."""
    shapes = shapes_of(sizes)
    size, every = _numel(shapes[name]), sum(map(_numel, shapes.values()))
    total, others = kept_count(every, sparsity), {n: shape for n, shape in shapes.items() if n != name}
    if total < size + len(others):
        raise AllocationError(
            f"{rule} keeps {name} with its {size} weights dense and one weight or more in each of the others, and only "
            f"{total} of all {every} may live at sparsity {sparsity}; {plain} can"
        )
    dense = Pool((name,), size if living is None else min(size, living[name]))
    found = {pool.names[0]: pool for pool in [dense, *(share(others, total - dense.keep, living) if others else [])]}
    return [found[n] for n in shapes]


def erdos_renyi_kernel_plus(
    sizes: Sizes, sparsity: float, living: Living = None, of: Sizes | None = None
) -> list[Pool]:
    """ERK+: ERK with the last fully connected layer dense, at the same total (Liu et al., ICLR 2022).

    That layer is the last tensor of two dimensions; the others share what is left as by ``erdos_renyi_kernel``.
    ``AllocationError`` where there is no such tensor, or where it leaves too few for the others.
    """
    matrices = [name for name, shape in shapes_of(sizes).items() if len(shape) == 2]
    if not matrices:
        raise AllocationError(f"erk_plus keeps the last matrix dense, there is none among {', '.join(sizes)}")
    share = lambda shapes, total, alive: _erdos_renyi_kernel(shapes, total, alive, of)  # noqa: E731
    return _beside_a_dense(matrices[-1], "erk_plus", "erk", sizes, sparsity, living, share)


def uniform_first_dense(sizes: Sizes, sparsity: float, living: Living = None) -> list[Pool]:
    """The first tensor dense, one sparsity for all others, at the same total.

    The layers of RigL's Uniform (Evci et al., ICML 2020, and their code), which leaves the first layer out
    of its count: to have the others at ``sparsity`` itself, exclude the first layer and use ``uniform``.
    """
    first = next(iter(sizes))
    return _beside_a_dense(first, "uniform_first_dense", "uniform", sizes, sparsity, living, _uniform)


def per_layer(sizes: Sizes, keep_shares: Mapping[str, float]) -> list[Pool]:
    """Each tensor keeps a share (its name -> share in [0, 1]) of its weights: the nearest number, 0 for 0 alone."""
    shapes = shapes_of(sizes)
    if set(keep_shares) != set(shapes):
        raise AllocationError(f"shares are needed for {sorted(shapes)}, found {sorted(keep_shares)}")
    for name, share in keep_shares.items():
        if not 0 <= share <= 1:
            raise AllocationError(f"the share kept of {name} must be in [0, 1], found {share}")
    nearest = {n: _nearest(_numel(shape) * _decimal(keep_shares[n])) for n, shape in shapes.items()}
    return [Pool((name,), max(keep, int(keep_shares[name] > 0))) for name, keep in nearest.items()]


def _input_width(name: str, shape: Shape) -> int:
    """Weights per output unit: everything but the first axis."""
    if len(shape) < 2:
        raise AllocationError(f"{name} has shape {tuple(shape)}: rows need two or more dimensions")
    return _numel(shape[1:])


def per_row(sizes: Sizes, sparsity: float, living: Living = None) -> list[Groups]:
    """Every output unit of a tensor keeps the same number of inputs (within one); exact in total."""
    shapes, groups = shapes_of(sizes), []
    for pool in uniform(sizes, sparsity, living):
        (name,) = pool.names
        width, rows = _input_width(name, shapes[name]), shapes[name][0]
        keeps = np.full(rows, pool.keep // rows, dtype=np.int64)
        keeps[: pool.keep % rows] += 1
        groups.append(Groups(name, width, keeps))
    return groups


def n_of_m(sizes: Sizes, n: int, m: int) -> list[Groups]:
    """N of every M consecutive weights along the input axis live (2:4: Mishra et al., arXiv 2104.08378).

    For kernels the input channel is the axis that is grouped. ``AllocationError`` where it is no multiple of M.
    """
    if not (isinstance(n, int) and isinstance(m, int) and 0 < n <= m):
        raise AllocationError(f"N:M needs whole numbers 0 < N <= M, found {n}:{m}")
    shapes = shapes_of(sizes)
    for name, shape in shapes.items():
        _input_width(name, shape)
    if odd := [name for name, shape in shapes.items() if shape[1] % m]:
        shape = shapes[odd[0]]
        raise AllocationError(
            f"groups of {m} are impossible on {odd[0]}: its input width {shape[1]} (shape {shape}) is no multiple of "
            f"{m}{instead(odd)}"
        )
    # one number, however many groups
    return [Groups(name, m, np.broadcast_to(np.int64(n), _numel(shape) // m)) for name, shape in shapes.items()]


def instead(names: list[str]) -> str:
    """What to do about tensors that a structure does not fit, of which the first was named."""
    others = f"; so it is with {', '.join(names[1:9])}{' and others' * (len(names) > 9)}" if names[1:] else ""
    return f"{others}; leave {'them' if others else 'it'} dense (run.exclude), or take another structure"


def from_masks(masks: Any) -> list[Pool]:
    """One pool per tensor with the counts that ``Masks``, or ``{name: bool}``, have now."""
    counts = masks.counts if hasattr(masks, "counts") else {name: int(bits.sum()) for name, bits in masks.items()}
    return [Pool((name,), kept) for name, kept in counts.items()]


RULES: dict[str, Callable[..., Pools]] = {
    "global": global_pool,
    "uniform": uniform,
    "uniform_first_dense": uniform_first_dense,
    "erk": erdos_renyi_kernel,
    "erk_plus": erdos_renyi_kernel_plus,
    "rows": per_row,
}


def check_rule(rule: str) -> None:
    """``AllocationError`` where no rule has this name."""
    if rule not in RULES:
        raise AllocationError(f"allocation must be one of {', '.join(RULES)}; found {rule!r}")


def allocate(rule: str, sizes: Sizes, sparsity: float, living: Living = None, of: Sizes | None = None) -> Pools:
    """The pools of a rule by its name, one of ``RULES``. ``of``: the tensors, where ``sizes`` counts blocks of them."""
    check_rule(rule)
    more = {"of": of} if rule.startswith("erk") else {}
    return RULES[rule](sizes, sparsity, living, **more)
