"""The granularity of pruning. An atom, what lives or goes as one, is a single weight or a block of weights; or N of
every M weights live. Needs no torch.

``structure`` is written ``weights``, ``RxC`` (a block is R outputs by C inputs at one kernel position, so that every
block has R*C weights) or ``N:M`` (N of every M weights along the input axis live). Tensors are (out, in, kernel...).
"""

import math
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from common.sparsity import allocation as rules
from common.sparsity.allocation import AllocationError, Living, Pools, Rule, Shape, Sizes, shapes_of

_SLIP = 1e-3  # of a weight in a group: 1:3 has no finite decimal
_FORM = re.compile(r"([1-9][0-9]{0,5})([x:])([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class Blocks:
    """Atoms of ``rows`` outputs by ``columns`` inputs; 1 by 1 are single weights."""

    rows: int = 1
    columns: int = 1
    kind: ClassVar[Literal["RxC"]] = "RxC"

    @property
    def size(self) -> int:
        """Weights in an atom."""
        return self.rows * self.columns

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"

    def grid(self, sizes: Sizes) -> dict[str, Shape]:
        """Atoms along each axis of each tensor. ``AllocationError`` where blocks do not divide one."""
        shapes = shapes_of(sizes)
        if self.size == 1:
            return shapes
        if odd := [n for n, s in shapes.items() if len(s) < 2 or s[0] % self.rows or s[1] % self.columns]:
            raise AllocationError(
                f"blocks of {self} do not divide {odd[0]} of shape {shapes[odd[0]]}: its outputs (first axis) must be "
                f"a multiple of {self.rows}, its inputs (second axis) of {self.columns}{rules.instead(odd)}"
            )
        return {n: (shape[0] // self.rows, shape[1] // self.columns, *shape[2:]) for n, shape in shapes.items()}

    def pools(self, sizes: Sizes, sparsity: float, allocation: str | Rule, living: Living = None) -> Pools:
        """The pools of an allocation, over tensors of atoms; ``living``: atoms that may live, by name."""
        grid = self.grid(sizes)
        if callable(allocation):
            return allocation(grid, sparsity, living)
        return rules.allocate(allocation, grid, sparsity, living, of=sizes)


@dataclass(frozen=True)
class Pattern:
    """N of every M consecutive weights along the input axis live."""

    n: int
    m: int
    kind: ClassVar[Literal["N:M"]] = "N:M"
    size: ClassVar[int] = 1  # weights in an atom: each is counted alone

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    @property
    def sparsity(self) -> float:
        """The one share of zeros that it is."""
        return 1 - self.n / self.m

    def meets(self, sparsity: float) -> bool:
        """Is ``sparsity`` the pattern's own, apart from rounding (1:3 has no finite decimal)?"""
        return abs(self.m * (1 - sparsity) - self.n) < _SLIP

    def kept(self, sparsity: float) -> int:
        """How many of M live on the way to the pattern: the fewest that leave no more zeros than ``sparsity``."""
        kept = math.ceil(self.m * (1 - rules.check_sparsity(sparsity)) - _SLIP)
        if kept < self.n:
            raise AllocationError(f"{self} is a sparsity of {self.sparsity:.9g} and never more, found {sparsity}")
        return kept

    def pools(self, sizes: Sizes, sparsity: float, allocation: Any = None, living: Living = None) -> Pools:
        """Groups of M; no allocation has a say, for every group has its count."""
        return rules.n_of_m(sizes, self.kept(sparsity), self.m)


def form(structure: str) -> Blocks | Pattern:
    """A ``structure`` by its name. ``AllocationError`` where it is none."""
    if structure == "weights":
        return Blocks()
    if found := _FORM.fullmatch(structure):
        a, sign, b = int(found[1]), found[2], int(found[3])
        if sign == "x" and a * b == 1:
            raise AllocationError("blocks of 1x1 are single weights: expected weights, found '1x1'")
        if sign == "x" or a < b:
            return Blocks(a, b) if sign == "x" else Pattern(a, b)
    raise AllocationError(f"expected weights, RxC as in 4x4, or N:M with N < M as in 2:4; found {structure!r}")


def met(target: float, sparsity: float, total: int, structure: str = "weights", tolerance: float | None = None) -> bool:
    """Is the ``sparsity`` of ``total`` weights the ``target``, to half an atom, or to the ``tolerance``, a share?"""
    shape = form(structure)
    exact = _SLIP / shape.m if isinstance(shape, Pattern) else shape.size / 2 / total
    return abs(sparsity - target) <= (exact if tolerance is None else tolerance) + _SLIP / total


def pools(
    sizes: Sizes, sparsity: float, allocation: str | Rule = "global", structure: str = "weights", living: Living = None
) -> Pools:
    """How many atoms live where: the pools of an allocation under a structure.

    ``allocation``: a rule's name, or a function of (sizes, sparsity, living) that returns pools, in atoms.
    ``AllocationError`` where these tensors cannot be pruned so.
    """
    shape = form(structure)
    try:
        return shape.pools(sizes, sparsity, allocation, living)
    except AllocationError as error:
        if isinstance(shape, Blocks) and shape.size > 1 and "blocks of" not in str(error):
            raise AllocationError(f"{error} (counted in blocks of {shape})") from None
        raise
