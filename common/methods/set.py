"""SET: drop the smallest living weights, grow as many at random (Mocanu et al., Nature Communications 2018).

The share moved stays the same to the end; new connections start at zero, as in the comparisons of Evci et al. (2020),
where Mocanu et al. draw them anew. The topology rests for the last quarter, so that validation can choose.
"""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.base import allocated
from common.methods.families.dynamic import Dynamic, DynamicTraining, State


@dataclass
class Config(Dynamic):
    allocation: str = allocated("erk")


class Method(DynamicTraining):
    Config = Config
    facts = DynamicTraining.facts.but(
        paper="Mocanu et al., Nature Communications 2018, arXiv:1707.04780",
        score="magnitude; what grows and the first masks: random",
        topology="each layer moves `drop_fraction` of its weights",
    )

    def start(self, state: State) -> None:
        state.set_masks(self.choose(state, sp.random_score(state.weights, state.stream("mask"))))

    def on_step(self, state: State) -> None:
        if self.due(state):
            drop, grow = sp.magnitude(state.weights), sp.random_score(state.weights, state.stream("grow", state.step))
            share = self.config.drop_fraction
            state.set_masks(sp.drop_and_grow(state.masks, drop, grow, share, self.config.structure))
