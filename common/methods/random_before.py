"""A random mask on the starting weights, then training: the control of pruning before it (Liu et al., ICLR 2022).

One seed ranks the weights once, so its masks are nested over sparsities. That paper's allocations are ``uniform``,
``erk`` and ``erk_plus``.
"""

from dataclasses import dataclass

from common import method
from common import sparsity as sp
from common.method import option


@dataclass
class Config(method.Sparse):
    allocation: str = option("uniform", "global, uniform, erk, erk_plus or rows")


class Method(method.Method):
    Config = Config

    def start(self, state):
        pools = sp.allocate(self.config.allocation, state.weights, self.config.sparsity)
        state.set_masks(sp.select(sp.random_score(state.weights, state.stream("mask")), pools))
