"""The control of gradual pruning: as many weights go at the same steps, chosen at random (Gale et al., 2019)."""

from dataclasses import dataclass

from common import gradual
from common import sparsity as sp
from common.method import option


@dataclass
class Config(gradual.Gradual):
    allocation: str = option("uniform", "global, uniform, erk, erk_plus or rows")


class Method(gradual.Method):
    Config = Config

    def prune(self, state, sparsity):
        pools = sp.allocate(self.config.allocation, state.weights, sparsity, state.masks.counts)
        score = sp.random_score(state.weights, state.stream("mask"))  # one ranking: choices add up
        state.set_masks(sp.select(score, pools, within=state.masks))
