"""Boolean masks over a set of weights: in-place zeroing, exact counts, packed bits on disk.

Weights are zeroed in place rather than multiplied inside the graph, so gradients stay dense and growth criteria see
them. One byte per weight in memory, one bit on disk.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

Tensors = Mapping[str, torch.Tensor]
_PIECE = 1 << 18


def pack(mask: torch.Tensor) -> torch.Tensor:
    """bool of any shape with n entries -> uint8[ceil(n / 8)], first entry in the highest bit."""
    return torch.from_numpy(np.packbits(mask.detach().cpu().numpy().reshape(-1)))


def unpack(bits: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The inverse of ``pack``: uint8[ceil(n / 8)] -> bool[shape]. ``ValueError`` if the sizes do not agree."""
    n = int(np.prod(shape))
    if bits.dtype != torch.uint8 or bits.numel() != (n + 7) // 8:
        expected = f"a mask of shape {tuple(shape)} takes {(n + 7) // 8} bytes"
        raise ValueError(f"{expected}, found {bits.numel()} of {bits.dtype}")
    return torch.from_numpy(np.unpackbits(bits.cpu().numpy(), count=n).astype(bool)).reshape(tuple(shape))


_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _zero_outside(tensor: torch.Tensor, bits: torch.Tensor) -> None:
    """Set ``tensor`` to zero where its mask is False, in place, whatever was there.

    The words that hold the numbers are multiplied by 0 or 1, as fast as the numbers are: inf * 0 would be NaN.
    """
    mask = bits.view(torch.int8)
    tensor = tensor.view(_WORDS[tensor.element_size()])
    large = tensor.numel() > _PIECE and tensor.device.type == "cpu"
    if not (large and tensor.is_contiguous() and mask.is_contiguous()):
        tensor.mul_(mask)
        return
    # torch makes a wide copy of the mask: piece by piece it stays in cache, six times faster
    for piece, part in zip(tensor.view(-1).split(_PIECE), mask.view(-1).split(_PIECE), strict=True):
        piece.mul_(part)


def reset_optimizer_state(optimizer: torch.optim.Optimizer, parameter: torch.Tensor, where: torch.Tensor) -> None:
    """Zero every per-weight statistic (momentum, Adam moments) of ``parameter`` at ``where`` (bool, same shape)."""
    for value in optimizer.state.get(parameter, {}).values():
        if torch.is_tensor(value) and value.shape == parameter.shape:
            value.masked_fill_(where, 0)


class Masks:
    """One boolean per weight, True where the weight lives. Starts dense."""

    def __init__(self, weights: Mapping[str, torch.nn.Parameter]):
        self.weights = dict(weights)
        self._check = getattr(weights, "check", lambda: None)  # have the model's tensors been replaced since?
        self.bits = {name: torch.ones_like(w, dtype=torch.bool) for name, w in self.weights.items()}
        self.total = sum(w.numel() for w in self.weights.values())
        self._recount()

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.bits[name]

    def _recount(self) -> None:
        self.counts = {name: int(torch.count_nonzero(bits)) for name, bits in self.bits.items()}
        self._summarise()

    def _summarise(self) -> None:
        self.kept = sum(self.counts.values())
        # dense tensors need no multiplication: dense training costs nothing extra
        self._pruned = [name for name, kept in self.counts.items() if kept < self.bits[name].numel()]

    @property
    def sparsity(self) -> float:
        """Share of pruned weights in the prunable set."""
        return 1 - self.kept / self.total

    @torch.no_grad()
    def update(
        self, new: Tensors, optimizer: torch.optim.Optimizer | None = None, grown_values: Tensors | None = None
    ) -> tuple[int, int]:
        """Replace the masks, zero what is dropped and clear the optimizer's memory of every weight that changed.

        Grown weights start at zero, or at ``grown_values[name]`` (same shape as the weight). Returns the numbers of
        grown and dropped weights. ``ValueError`` if names, shapes or dtype (bool) are wrong; nothing is changed then.
        """
        if set(new) != set(self.bits):
            raise ValueError(f"masks are for {sorted(self.bits)}, got {sorted(new)}")
        for name, bits in new.items():
            if bits.dtype != torch.bool or bits.shape != self.bits[name].shape:
                expected = tuple(self.bits[name].shape)
                raise ValueError(f"mask of {name}: expected bool{expected}, found {bits.dtype}{tuple(bits.shape)}")
            if grown_values is not None and (name not in grown_values or grown_values[name].shape != bits.shape):
                raise ValueError(f"grown_values must hold a tensor of shape {tuple(bits.shape)} for {name}")
        grown = dropped = 0
        for name, weight in self.weights.items():
            bits = new[name].to(weight.device)
            changed = bits ^ self.bits[name]
            n_changed, kept = int(torch.count_nonzero(changed)), int(torch.count_nonzero(bits))
            n_grown = (n_changed + kept - self.counts[name]) // 2  # what grew less what was dropped is what was gained
            grown, dropped = grown + n_grown, dropped + n_changed - n_grown
            if n_grown:
                new_ones = changed & bits
                if grown_values is None:
                    weight.masked_fill_(new_ones, 0)
                else:
                    weight.copy_(torch.where(new_ones, grown_values[name].to(weight), weight))
            if n_changed and optimizer is not None:
                reset_optimizer_state(optimizer, weight, changed)
            self.bits[name] = bits.clone() if bits is new[name] else bits
            self.counts[name] = kept
        self._summarise()
        self.apply()
        return grown, dropped

    @torch.no_grad()
    def apply(self) -> None:
        """Zero the pruned weights, in place. ``ValueError`` where the model holds other tensors by now."""
        self._check()
        for name in self._pruned:
            _zero_outside(self.weights[name], self.bits[name])

    @torch.no_grad()
    def apply_to_gradients(self) -> None:
        """Zero the gradients of pruned weights, in place, so that momentum and clipping see live weights only."""
        for name in self._pruned:
            gradient = self.weights[name].grad
            if gradient is not None:
                _zero_outside(gradient, self.bits[name])

    def _checksum(self, packed: Tensors) -> str:
        digest = hashlib.sha256()
        for name, weight in self.weights.items():
            digest.update(f"{name}{tuple(weight.shape)}".encode())
            digest.update(packed[name].cpu().numpy().tobytes())
        return digest.hexdigest()

    def checksum(self) -> str:
        """SHA-256 over names, shapes and bits: equal on two machines if and only if the masks are."""
        return self.state_dict()["checksum"]

    def state_dict(self) -> dict[str, Any]:
        """Packed bits by name, and the checksum."""
        packed = {name: pack(bits) for name, bits in self.bits.items()}
        return {"bits": packed, "checksum": self._checksum(packed)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the masks and zero weights to match. ``ValueError``, before any change: of other weights, or damaged."""
        packed = state["bits"]
        if set(packed) != set(self.bits):
            raise ValueError(f"saved masks are for {sorted(packed)}, the model has {sorted(self.bits)}")
        bits = {name: unpack(packed[name], weight.shape).to(weight.device) for name, weight in self.weights.items()}
        if self._checksum(packed) != state["checksum"]:
            raise ValueError("saved masks are damaged: their checksum does not match")
        self.bits = bits
        self._recount()
        self.apply()


AnyMasks = Masks | Tensors  # either gives the bool tensor of a name
