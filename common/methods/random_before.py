"""A random mask on the starting weights, then training: the control of pruning before it (Liu et al., ICLR 2022).

One seed ranks the weights once, so its masks are nested over sparsities. That paper's allocations are ``uniform``,
``erk`` and ``erk_plus``.
"""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families import base
from common.methods.families.facts import BEFORE, Facts
from common.settings.schema import option


@dataclass
class Config(base.Sparse):
    allocation: str = option("uniform", "global, uniform, erk, erk_plus or rows")


class Method(base.Method):
    Config = Config
    facts = Facts(
        paper="Liu et al., ICLR 2022, arXiv:2202.02643", when=BEFORE, score="random", schedule="once", choosing=5
    )

    def start(self, state):
        state.set_masks(self.choose(state, sp.random_score(state.weights, state.stream("mask"))))
