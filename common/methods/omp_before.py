"""One-shot magnitude pruning of the starting (initial or pretrained) weights, then training with that mask."""

from common import sparsity as sp
from common.methods.families import before_training
from common.methods.families.base import State


class Method(before_training.Method):
    facts = before_training.Method.facts.but(
        paper="a control: Frankle et al., ICLR 2021, arXiv:2009.08576",
        score="magnitude of the starting weights",
        choosing=6,
    )

    def start(self, state: State) -> None:
        state.set_masks(self.choose(state, sp.magnitude(state.weights)))
