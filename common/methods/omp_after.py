"""One-shot magnitude pruning after dense training, then retraining (Han et al., 2015; policies: Renda et al., 2020)."""

from dataclasses import dataclass

from common import sparsity as sp
from common.method import option
from common.retraining import AfterTraining, Retraining


@dataclass
class Config(Retraining):
    allocation: str = option("global", "global, uniform, erk, erk_plus or rows")


class Method(AfterTraining):
    Config = Config

    def masks(self, state):
        pools = sp.allocate(self.config.allocation, state.weights, self.config.sparsity)
        return sp.select(sp.magnitude(state.weights), pools)
