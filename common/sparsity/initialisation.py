"""Starting weights that know which of them live."""

import math
from collections.abc import Mapping

import torch

from common.sparsity.masks import AnyMasks


@torch.no_grad()
def augment(weights: Mapping[str, torch.nn.Parameter], masks: AnyMasks, seed: int) -> None:
    """Draw ``weights`` anew, in place, with the variance that their living connections call for.

    Gale, Elsen and Hooker (2019): matrices (out, in) from a uniform distribution with Glorot's limit
    sqrt(6 / (fan in + fan out)), where a fan is the mean number of living connections a unit has; kernels (out, in,
    height, width) from a normal one with standard deviation sqrt(2 / (living weights / in)). A tensor without a living
    weight is left as it is. ``seed``: of one generator for all tensors, in their order.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, weight in weights.items():
        living = int(masks[name].sum())
        if not living:
            continue
        outputs, inputs = weight.shape[:2]
        if weight.ndim == 2:
            limit = math.sqrt(6 / (living / outputs + living / inputs))
            drawn = (torch.rand(weight.shape, generator=generator) * 2 - 1) * limit
        else:
            drawn = torch.randn(weight.shape, generator=generator) * math.sqrt(2 / (living / inputs))
        weight.copy_(drawn)
