"""One-shot magnitude pruning of the starting (initial or pretrained) weights, then training with that mask."""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families import base
from common.methods.families.facts import BEFORE, Facts
from common.settings.schema import option


@dataclass
class Config(base.Sparse):
    allocation: str = option("global", "global, uniform, erk, erk_plus or rows")


class Method(base.Method):
    Config = Config
    facts = Facts(
        paper="a control: Frankle et al., ICLR 2021, arXiv:2009.08576",
        when=BEFORE,
        score="magnitude of the starting weights",
        schedule="once",
        choosing=6,
    )

    def start(self, state):
        state.set_masks(self.choose(state, sp.magnitude(state.weights)))
