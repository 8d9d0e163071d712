"""One-shot magnitude pruning of the starting (initial or pretrained) weights, then training with that mask."""

from common import sparsity as sp
from common.methods.families.before_training import BeforeTraining, Score, State


class Method(BeforeTraining):
    facts = BeforeTraining.facts.but(
        paper="a control: Frankle et al., ICLR 2021, arXiv:2009.08576",
        score="magnitude of the starting weights",
        choosing=6,
    )

    def score(self, state: State) -> Score:
        return sp.magnitude(state.weights)
