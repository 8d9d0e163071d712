"""SET: drop the smallest living weights, grow as many at random (Mocanu et al., Nature Communications 2018).

The share moved stays the same to the end; new connections start at zero, as in the comparisons of Evci et al. (2020),
where Mocanu et al. draw them anew. The topology rests for the last quarter, so that validation can choose.
"""

from dataclasses import dataclass

from common import dynamic
from common import sparsity as sp
from common.method import option


@dataclass
class Config(dynamic.Dynamic):
    allocation: str = option("erk", "global, uniform, erk, erk_plus or rows")


class Method(dynamic.Method):
    Config = Config

    def start(self, state):
        super().start(state)
        pools = sp.allocate(self.config.allocation, state.weights, self.config.sparsity)
        state.set_masks(sp.select(sp.random_score(state.weights, state.stream("mask")), pools))

    def on_step(self, state):
        if self.due(state):
            drop, grow = sp.magnitude(state.weights), sp.random_score(state.weights, state.stream("grow", state.step))
            state.set_masks(sp.drop_and_grow(state.masks, drop, grow, self.config.drop_fraction))
