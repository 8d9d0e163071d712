"""One seed, named streams: adding a consumer of randomness never shifts another, and methods at one seed are paired."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for the stream ``names`` of run seed ``seed`` (SHA-256 of both; independent of call order)."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> "torch.Generator":
    """A CPU ``torch.Generator`` at the start of the stream ``names``."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *names))
