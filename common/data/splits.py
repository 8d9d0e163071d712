"""What the splits of every task share: examples dealt at random once and for all, and kept in the process. No torch."""

import functools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import numpy as np

Part = TypeVar("Part")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Splits(Generic[Part]):
    """What a task's trainer loads. A task may add to it."""

    train: Part
    validation: Part
    test: Part
    checksum: str  # of all that these were read from, to compare with the planned fingerprint
    warnings: list[str]


def draws(seed: int, count: int) -> np.ndarray:
    """uint64 [count]: the raw stream of a bit generator, which numpy promises never to change."""
    return np.random.PCG64(seed).random_raw(count)


def order(seed: int, count: int) -> np.ndarray:
    """int64 [count]: the numbers below ``count`` in random order (``Generator.permutation`` may change with numpy)."""
    return np.argsort(draws(seed, count), kind="stable")


def kept(stamp: Callable[[Any], tuple], most: int) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Decorator for a function of a task's configuration and of more: its last ``most`` answers stay in the process.

    Forked workers share one copy. Once files were replaced ``stamp(config)`` is another, and they are read again.
    """

    def decorate(function: Callable[..., Answer]) -> Callable[..., Answer]:
        @functools.lru_cache(maxsize=most)
        def answer(kind: Callable[..., Any], values: str, stamp: tuple, *more) -> Answer:
            return function(kind(**json.loads(values)), *more)

        @functools.wraps(function)
        def ask(config: Any, *more) -> Answer:
            kind: Callable[..., Any] = type(config)
            return answer(kind, json.dumps(asdict(config), sort_keys=True), stamp(config), *more)

        return ask

    return decorate
