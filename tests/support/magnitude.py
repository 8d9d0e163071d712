"""For tests of what pruning by magnitude keeps."""

import numpy as np
import torch


def largest(scores: dict, keep: int) -> dict:
    """The ``keep`` highest over all tensors, by a plain sort; ties by order."""
    flat = torch.cat([value.reshape(-1) for value in scores.values()]).numpy()
    chosen = np.zeros(len(flat), dtype=bool)
    chosen[np.argsort(-flat, kind="stable")[:keep]] = True
    sizes = [value.numel() for value in scores.values()]
    pieces = torch.from_numpy(chosen).split(sizes)
    return {name: piece.view(value.shape) for (name, value), piece in zip(scores.items(), pieces, strict=True)}
