"""The control of pruning after training: random weights of the trained network go, then it is retrained."""

from dataclasses import dataclass

from common import sparsity as sp
from common.method import option
from common.retraining import AfterTraining, Retraining


@dataclass
class Config(Retraining):
    allocation: str = option("uniform", "global, uniform, erk, erk_plus or rows")


class Method(AfterTraining):
    Config = Config

    def masks(self, state):
        pools = sp.allocate(self.config.allocation, state.weights, self.config.sparsity)
        return sp.select(sp.random_score(state.weights, state.stream("mask")), pools)
