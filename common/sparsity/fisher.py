"""The empirical Fisher matrix of a network, diagonal or in blocks, and what pruning does with its inverse.

    F = damping I + 1/m sum_j g_j g_j^T

over the gradients g_j of m batches, in the place of the Hessian. Kurtic et al. ("The Optimal BERT Surgeon", EMNLP 2022,
arXiv 2203.07259) keep the square blocks along F's diagonal that belong to ``block`` consecutive weights of a
tensor's flat order (its last block is smaller where the division leaves a rest), and build up their inverses with the
Woodbury/Sherman-Morrison identity. For k gradients at a time, the rows of G:

    F^-1 <- F^-1 - F^-1 G^T (m I + G F^-1 G^T)^-1 G F^-1,   from F^-1 = I / damping

With k = 1 that is the paper's recursion; the result does not depend on k. Inverses are kept in float32, as large as the
paper says (4 ``block`` bytes per weight); each step is computed in float64, some blocks at a time, since the first
ones subtract numbers near 1 / damping from each other.

Measured on one core (AVX-512, torch 2.13), blocks of 50, the networks' own gradients not counted; the time grows with
weights times gradients, and memory is within 5% of what ``InverseFisher.memory`` says from some hundred MiB on:

    weights    gradients  passes   memory     inverse   correction
    1 million       1024       1  0.29 GiB      18 s         0.1 s
    25 million        64       1  6.3 GiB       32 s         1.5 s    (so nine minutes for 1024 gradients)
    25 million        64       4  2.0 GiB       30 s          26 s    (parts are computed once more)
"""

import math
from collections.abc import Callable, Iterable, Iterator

import torch

from common.sparsity.masks import AnyMasks, Masks, Tensors

TOGETHER = 16  # gradients that wait to be taken in at once: 64 bytes per weight, a sixteenth of the passes over F^-1
UPDATES = ("single", "joint", "none")
Piece = tuple[str, int, int]  # name, first and last of consecutive weights in a tensor's flat order
Sample = Callable[[], Iterator[dict[str, torch.Tensor]]]


def fisher_diagonal(gradients: Iterable[Tensors], damping: float) -> dict[str, torch.Tensor]:
    """F_ii = damping + 1/m sum_j g_ji^2 for the m ``gradients``; float32, of their shapes. ``ValueError``: none."""
    total: dict[str, torch.Tensor] = {}
    m = 0
    for m, gradient in enumerate(gradients, 1):  # noqa: B007
        for name, values in gradient.items():
            square = values.detach().float().square()
            total[name] = total[name].add_(square) if name in total else square
    if m == 0:
        raise ValueError("a Fisher matrix needs at least one gradient")
    return {name: values.div_(m).add_(damping) for name, values in total.items()}


class InverseBlocks:
    """The inverse blocks of ``count`` consecutive weights, from ``gradients`` gradients given one by one.

    ``inverse``: float32[blocks, width, width]. Places after the last weight have no gradient: they change nothing.
    """

    def __init__(self, count: int, block: int, gradients: int, damping: float, device: torch.device | str = "cpu"):
        self.count, self.width, self.gradients = count, min(block, count), gradients
        blocks = math.ceil(count / self.width)
        self.inverse = torch.zeros(blocks, self.width, self.width, device=device)
        self.inverse.diagonal(dim1=1, dim2=2).fill_(1 / damping)
        self.waiting = torch.zeros(min(TOGETHER, gradients), blocks * self.width, device=device)
        self.filled = self.seen = 0

    @torch.no_grad()
    def add(self, gradient: torch.Tensor) -> None:
        """Take in float[count]."""
        self.waiting[self.filled, : self.count] = gradient
        self.filled, self.seen = self.filled + 1, self.seen + 1
        if self.filled == len(self.waiting):
            self._take_in()

    def finish(self) -> "InverseBlocks":
        """After the last gradient. ``ValueError``: not as many as said, or no inverse that float32 can hold."""
        if self.seen != self.gradients:
            raise ValueError(f"the Fisher matrix was to be of {self.gradients} gradients, {self.seen} came")
        self._take_in()
        del self.waiting
        lowest = self.inverse.diagonal(dim1=1, dim2=2).amin().item()
        if not 0 < lowest < math.inf:
            raise ValueError(_UNSTABLE)
        return self

    def _tiles(self) -> Iterator[slice]:
        step = tile(self.width, self.inverse.device)
        for first in range(0, len(self.inverse), step):
            yield slice(first, first + step)

    @torch.no_grad()
    def _take_in(self) -> None:
        if self.filled == 0:
            return
        rows = self.waiting[: self.filled].view(self.filled, -1, self.width)
        if self.width == 1:  # the same for numbers: a factorisation each would take minutes
            squares = torch.zeros_like(self.inverse.view(-1), dtype=torch.float64)
            for row in rows:
                squares += row.view(-1).double().square()
            self.inverse.view(-1).div_(self.inverse.view(-1) * squares.div_(self.gradients) + 1)
            self.filled = 0
            return
        for part in self._tiles():
            inverse, some = self.inverse[part].double(), rows[:, part].transpose(0, 1).double()
            reached = some @ inverse  # [blocks, k, width]
            inner = reached @ some.mT
            inner.diagonal(dim1=1, dim2=2).add_(self.gradients)
            root, failed = torch.linalg.cholesky_ex(inner)
            if failed.any():
                raise ValueError(_UNSTABLE)
            half = torch.linalg.solve_triangular(root, reached, upper=False)
            self.inverse[part] = torch.baddbmm(inverse, half.mT, half, alpha=-1)
        self.filled = 0

    def diagonal(self) -> torch.Tensor:
        """[F^-1]_ii, float32[count]."""
        return self.inverse.diagonal(dim1=1, dim2=2).reshape(-1)[: self.count]

    @torch.no_grad()
    def correction(self, weights: torch.Tensor, dropped: torch.Tensor, update: str = "single") -> torch.Tensor:
        """What is added to all ``count`` weights when those at ``dropped`` (bool) go; float32[count].

        ``single``: the sum of the updates that each would cause alone, -w_i / [F^-1]_ii F^-1 e_i. This is what the
        authors' code does (sparseml, ``OBSPruningParamsScorer.mask_update``): exact where one weight of a block goes;
        of several it ignores that one makes up for another that goes as well. ``joint``: the exact one for all of a
        block together, -F^-1_{:,Q} (F^-1_{QQ})^-1 w_Q (the paper's update for a group Q, here all dropped ones); it
        leaves the quadratic's loss lowest.
        """
        shape, device = (len(self.inverse), self.width, 1), self.inverse.device
        gone, chosen = (torch.zeros(shape, dtype=torch.float64, device=device) for _ in range(2))
        gone.view(-1)[: self.count] = torch.where(dropped, weights, 0).double()
        chosen.view(-1)[: self.count] = dropped.double()
        out = torch.empty_like(self.inverse[:, :, :1])
        for part in self._tiles():
            inverse, which = self.inverse[part].double(), chosen[part]
            if update == "single":
                along = gone[part] / inverse.diagonal(dim1=1, dim2=2).unsqueeze(-1)
            else:  # rows and columns that stay become those of the identity, so that all blocks are solved at once
                inner = inverse * which * which.mT + torch.diag_embed(1 - which.squeeze(-1))
                root, failed = torch.linalg.cholesky_ex(inner)
                if failed.any():
                    raise ValueError(_UNSTABLE)
                along = torch.cholesky_solve(gone[part], root)
            out[part] = -(inverse @ along)
        return out.view(-1)[: self.count]


_UNSTABLE = (
    "the inverse of a Fisher block is no positive matrix in float32: gradients are not finite, or so large that "
    "method.damping is lost beside their squares; raise method.damping"
)


def tile(width: int, device: torch.device | str) -> int:
    """Blocks that are worked on together: 2 MiB of float64 stay in a processor's cache, a GPU wants more at a time."""
    return max(1, (1 << 25 if torch.device(device).type == "cuda" else 1 << 18) // width**2)


class InverseFisher:
    """The inverse blocks of all prunable weights at their current values, in ``passes`` parts one after the other.

    ``masks``: pruned weights have no part in F. ``sample()``: an iterator over ``gradients`` dense gradients (``{name:
    tensor}``), the same ones whenever it is called. With one pass the blocks stay in memory; with more, only those of
    one part do, and the gradients are computed 2 ``passes`` - 1 times, since the parts are needed for the score and,
    once the masks are known, for the correction. The result is the same for any number of passes.
    """

    def __init__(self, masks: Masks, sample: Sample, gradients: int, block: int, damping: float, passes: int = 1):
        self.masks, self.sample, self.gradients, self.block, self.damping = masks, sample, gradients, block, damping
        self.parts = parts(masks.weights, block, passes)
        self._held: tuple[int | None, dict[Piece, InverseBlocks]] = (None, {})

    @staticmethod
    def memory(weights: Tensors, block: int, passes: int = 1) -> int:
        """Bytes needed beside the network's own: blocks and waiting gradients at their peak, and what weights take.

        That is nearly 4 (``block`` + 16) / ``passes`` + 20 bytes per weight, and what the arithmetic itself takes.
        """
        total, most, arithmetic = 0, 0, 0
        for pieces in parts(weights, block, passes):
            size = 0
            for name, first, last in pieces:
                width = min(block, weights[name].numel())
                blocks = math.ceil((last - first) / width)
                size += 4 * blocks * width * (width + TOGETHER)
                together = min(blocks, tile(width, weights[name].device))
                arithmetic = max(arithmetic, 8 * together * width * (3 * width + 3 * TOGETHER))
            most, total = max(most, size), total + sum(last - first for _, first, last in pieces)
        return most + arithmetic + 20 * total  # gradient, squares or products of it, diagonal, correction, score

    def _blocks(self, index: int) -> dict[Piece, InverseBlocks]:
        if self._held[0] == index:
            return self._held[1]
        self._held = (None, {})  # what was held goes before what comes
        found = {}
        for name, first, last in self.parts[index]:
            sizes, device = (last - first, self.block, self.gradients), self.masks[name].device
            found[name, first, last] = InverseBlocks(*sizes, self.damping, device)
        for gradient in self.sample():
            for (name, first, last), blocks in found.items():
                blocks.add(gradient[name].reshape(-1)[first:last] * self.masks[name].reshape(-1)[first:last])
        for blocks in found.values():
            blocks.finish()
        self._held = (index, found)
        return found

    def _whole(self, indices: Iterable[int], values: Callable[..., torch.Tensor]) -> dict[str, torch.Tensor]:
        """``values(blocks, name, places)`` of all parts, put together."""
        out = {name: torch.empty(w.shape, device=w.device) for name, w in self.masks.weights.items()}
        for index in indices:
            for (name, first, last), blocks in self._blocks(index).items():
                out[name].view(-1)[first:last] = values(blocks, name, slice(first, last))
            del blocks  # or it would be in memory together with the next part
        return out

    def diagonal(self) -> dict[str, torch.Tensor]:
        """[F^-1]_ii, float32 of each weight's shape."""
        return self._whole(range(len(self.parts)), lambda blocks, name, places: blocks.diagonal())

    def correction(self, masks: AnyMasks, update: str = "single") -> dict[str, torch.Tensor]:
        """See ``InverseBlocks.correction``, for the weights that ``masks`` drop; ``none``: an empty dictionary."""
        if update not in UPDATES:
            raise ValueError(f"the update must be one of {', '.join(UPDATES)}; found {update!r}")
        if update == "none":
            return {}

        def values(blocks: InverseBlocks, name: str, places: slice) -> torch.Tensor:
            weights = self.masks.weights[name].detach().reshape(-1)[places]
            dropped = self.masks[name].reshape(-1)[places] & ~masks[name].reshape(-1)[places].to(weights.device)
            return blocks.correction(weights, dropped, update)

        return self._whole(reversed(range(len(self.parts))), values)  # the last part is still there


def parts(weights: Tensors, block: int, passes: int) -> list[list[Piece]]:
    """At most ``passes`` parts of about equal size, cut where tiles begin."""
    limit = math.ceil(sum(w.numel() for w in weights.values()) / passes)
    found: list[list[Piece]] = [[]]
    room = limit
    for name, weight in weights.items():
        numel, first = weight.numel(), 0
        unit = tile(min(block, numel), weight.device) * min(block, numel)
        while first < numel:
            if room <= 0 and len(found) < passes:
                found, room = [*found, []], limit
            last = numel if len(found) == passes else min(numel, first + math.ceil(room / unit) * unit)
            found[-1].append((name, first, last))
            room, first = room - (last - first), last
    return found
