"""The control of gradual pruning: as many weights go at the same steps, chosen at random (Gale et al., 2019)."""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families import gradual
from common.methods.families.base import State, allocated


@dataclass
class Config(gradual.Gradual):
    allocation: str = allocated("uniform")


class Method(gradual.Method):
    Config = Config
    facts = gradual.Method.facts.but(
        paper="Gale, Elsen and Hooker, 2019, arXiv:1902.09574",
        score="random, drawn once",
        topology="shrinks",
        choosing=6,
    )

    def prune(self, state: State, sparsity: float) -> None:
        score = sp.random_score(state.weights, state.stream("mask"))  # one ranking: choices add up
        state.set_masks(self.choose(state, score, sparsity, within=state.masks))
