"""The control of gradual pruning: as many weights go at the same steps, chosen at random (Gale et al., 2019)."""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.base import allocated
from common.methods.families.gradual import Gradual, GradualPruning, State


@dataclass
class Config(Gradual):
    allocation: str = allocated("uniform")


class Method(GradualPruning):
    Config = Config
    facts = GradualPruning.facts.but(
        paper="Gale, Elsen and Hooker, 2019, arXiv:1902.09574",
        score="random, drawn once",
        topology="shrinks",
        choosing=6,
    )

    def prune(self, state: State, sparsity: float) -> None:
        score = sp.random_score(state.weights, state.stream("mask"))  # one ranking: choices add up
        state.set_masks(self.choose(state, score, sparsity, within=state.masks))
