"""The control of pruning after training: random weights of the trained network go, then it is retrained."""

from dataclasses import dataclass

from common import method
from common import sparsity as sp
from common.method import option


@dataclass
class Config(method.Sparse):
    allocation: str = option("uniform", "global, uniform, erk or rows")


class Method(method.Method):
    Config = Config

    def ancestors(self):
        return [("dense", {})]

    def start(self, state):
        state.load(state.parent.weights())
        pools = sp.allocate(self.config.allocation, state.weights, self.config.sparsity)
        state.set_masks(sp.select(sp.random_score(state.weights, state.stream("mask")), pools))
