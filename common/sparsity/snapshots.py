"""Keeping weights and going back to them."""

import hashlib
from collections.abc import Mapping

import torch

from common.sparsity.weights import unwrapped


def snapshot(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy on the CPU of all parameters and buffers; tied ones are one tensor in it too, in memory and in files."""
    own = unwrapped(model).state_dict(keep_vars=True)
    copies = {id(value): value.detach().cpu().clone() for value in own.values()}
    return {name: copies[id(value)] for name, value in own.items()}


@torch.no_grad()
def restore(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Set all parameters and buffers, in place. ``ValueError``, before any change: another name or shape."""
    own = unwrapped(model).state_dict()
    if set(own) != set(state):
        missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
        raise ValueError(f"the weights belong to another model: missing {missing[:3]}, unknown {extra[:3]}")
    for name, value in own.items():
        if value.shape != state[name].shape:
            raise ValueError(f"{name}: the model has shape {tuple(value.shape)}, the file {tuple(state[name].shape)}")
    for name, value in own.items():
        value.copy_(state[name])


def checksum(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names and values."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
