"""A random mask on the starting weights, then training: the control of pruning before it (Liu et al., ICLR 2022).

One seed ranks the weights once, so its masks are nested over sparsities. That paper's allocations are ``uniform``,
``erk`` and ``erk_plus``.
"""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families import before_training
from common.methods.families.base import State, allocated


@dataclass
class Config(before_training.Config):
    allocation: str = allocated("uniform")


class Method(before_training.Method):
    Config = Config
    facts = before_training.Method.facts.but(
        paper="Liu et al., ICLR 2022, arXiv:2202.02643", score="random", choosing=5
    )

    def start(self, state: State) -> None:
        state.set_masks(self.choose(state, sp.random_score(state.weights, state.stream("mask"))))
