"""One-shot magnitude pruning after dense training, then retraining over the full schedule (Han et al., 2015)."""

from dataclasses import dataclass

from common import method
from common import sparsity as sp
from common.method import option


@dataclass
class Config(method.Sparse):
    allocation: str = option("global", "global, uniform, erk or rows")


class Method(method.Method):
    Config = Config

    def ancestors(self):
        return [("dense", {})]

    def start(self, state):
        state.load(state.parent.weights())
        pools = sp.allocate(self.config.allocation, state.weights, self.config.sparsity)
        state.set_masks(sp.select(sp.magnitude(state.weights), pools))
