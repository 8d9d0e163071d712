"""A random mask on the starting weights, then training: the control of pruning before it (Liu et al., ICLR 2022).

One seed ranks the weights once, so its masks are nested over sparsities. That paper's allocations are ``uniform``,
``erk`` and ``erk_plus``.
"""

from dataclasses import dataclass

from common import method
from common import sparsity as sp
from common.facts import BEFORE, Facts
from common.method import option


@dataclass
class Config(method.Sparse):
    allocation: str = option("uniform", "global, uniform, erk, erk_plus or rows")


class Method(method.Method):
    Config = Config
    facts = Facts(
        paper="Liu et al., ICLR 2022, arXiv:2202.02643", when=BEFORE, score="random", schedule="once", choosing=5
    )

    def start(self, state):
        state.set_masks(self.choose(state, sp.random_score(state.weights, state.stream("mask"))))
