"""What a weight is worth: higher is kept. Scores are computed piece by piece, so no copy of the weights is made.

A ``Score`` answers ``chunk(name, start, stop)`` with the scores of the flattened weights ``start..stop`` as a
one-dimensional float32 (or int32) tensor. A plain ``{name: tensor}`` works wherever a score is expected.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import torch

from common.sparsity.masks import Tensors
from common.sparsity.weights import Weights


class Score:
    """Scores by formula: ``function(*pieces)`` of equally flattened pieces of ``sources`` (``{name: tensor}`` each).

    Pieces are float32 whatever the sources are. ``ValueError`` if two sources differ in the shape of a tensor.
    """

    weights: Weights | None = None  # what is scored, where it knows its model

    def __init__(self, function: Callable[..., torch.Tensor], *sources: Tensors):
        self.function = function
        self.weights = next((source for source in sources if isinstance(source, Weights)), None)
        self.sources = [{name: w.detach().contiguous().view(-1) for name, w in source.items()} for source in sources]
        self.shapes = {name: tuple(tensor.shape) for name, tensor in sources[0].items()}
        for name, shape in self.shapes.items():
            if differing := [s[name] for s in sources[1:] if tuple(s[name].shape) != shape]:
                raise ValueError(f"{name} has shape {shape} in one source, {tuple(differing[0].shape)} in another")

    def chunk(self, name: str, start: int, stop: int) -> torch.Tensor:
        """float32 (or int32)[stop - start]."""
        return self.function(*(source[name][start:stop].float() for source in self.sources))

    @staticmethod
    def of(scores: "Score | Tensors") -> "Score":
        """``scores`` itself, or a ``{name: tensor}`` wrapped; int32 tensors keep their exact order."""
        return scores if isinstance(scores, Score) else _Table(scores)


class _Table(Score):
    def __init__(self, tensors: Tensors):
        super().__init__(torch.clone, tensors)

    def chunk(self, name: str, start: int, stop: int) -> torch.Tensor:
        piece = self.sources[0][name][start:stop]
        return piece if piece.dtype == torch.int32 else piece.float()


def magnitude(weights: Tensors) -> Score:
    """|w| (Han et al., 2015)."""
    return Score(torch.abs, weights)


def saliency(weights: Tensors, gradients: Tensors) -> Score:
    """|w g|, the first-order change of the loss when a weight is removed (SNIP: Lee et al., ICLR 2019)."""
    return Score(lambda w, g: (w * g).abs(), weights, gradients)


def gradient_magnitude(gradients: Tensors) -> Score:
    """|g|, RigL's growth criterion (Evci et al., ICML 2020)."""
    return Score(torch.abs, gradients)


def damage(weights: Tensors, curvature: Tensors) -> Score:
    """w^2 H_ii / 2, the second-order change of the loss when a weight alone is removed (OBD: LeCun et al., 1989)."""
    return Score(lambda w, h: w * w * h / 2, weights, curvature)


def surgeon(weights: Tensors, inverse_diagonal: Tensors) -> Score:
    """w^2 / (2 [H^-1]_ii), the same when the other weights make up for it (OBS: Hassibi and Stork, 1993)."""
    return Score(lambda w, d: w * w / (2 * d), weights, inverse_diagonal)


def gradient_flow(weights: Tensors, products: Tensors) -> Score:
    """w (H g): by how much, to first order, the squared norm of the gradient falls when a weight is removed, halved.

    Signed (GraSP: Wang et al., ICLR 2020, whose S(-w) = -w (H g) ranks what to remove: the highest first).
    ``products``: the Hessian times the gradient.
    """
    return Score(torch.mul, weights, products)


class random_score(Score):
    """Uniform int32 scores from a counter: a function of (seed, tensor name, flat index) alone.

    The same for any chunking, sharding or order of calls. SplitMix64's finaliser (Steele et al., OOPSLA 2014) over the
    counter, upper 32 bits.
    """

    def __init__(self, weights: Tensors, seed: int):
        self.weights = weights if isinstance(weights, Weights) else None
        self.shapes = {name: tuple(w.shape) for name, w in weights.items()}
        digests = {name: hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in weights}
        self.keys = {name: np.uint64(int.from_bytes(digest[:8], "big")) for name, digest in digests.items()}

    def chunk(self, name: str, start: int, stop: int) -> torch.Tensor:
        z = np.arange(start, stop, dtype=np.uint64)  # numpy: torch has no arithmetic on uint64
        z *= np.uint64(0x9E3779B97F4A7C15)
        z += self.keys[name]
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z ^= z >> np.uint64(shift)
            z *= np.uint64(factor)
        z ^= z >> np.uint64(31)
        z >>= np.uint64(32)
        return torch.from_numpy(z.astype(np.uint32).view(np.int32))
