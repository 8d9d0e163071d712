"""One-shot magnitude pruning of the starting (initial or pretrained) weights, then training with that mask."""

from dataclasses import dataclass

from common import method
from common import sparsity as sp
from common.method import option


@dataclass
class Config(method.Sparse):
    allocation: str = option("global", "global, uniform, erk, erk_plus or rows")


class Method(method.Method):
    Config = Config

    def start(self, state):
        pools = sp.allocate(self.config.allocation, state.weights, self.config.sparsity)
        state.set_masks(sp.select(sp.magnitude(state.weights), pools))
