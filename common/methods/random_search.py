"""Random search: of several random masks on the starting weights, the one with the least training loss before training.

The search that chosen masks have to beat at equal information about the data. The first candidate is the mask of
``random_before``, so one candidate is that method; each candidate is drawn from a stream of its own.
"""

import math
from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families import base
from common.methods.families.facts import BEFORE, Facts
from common.settings.schema import option


@dataclass
class Config(base.Sparse):
    allocation: str = option("uniform", "global, uniform, erk, erk_plus or rows")
    candidates: int = option(10, "random masks that are looked at")
    batches: int = option(10, "training batches the loss of each is averaged over, the same for all")


class Method(base.Method):
    Config = Config
    facts = Facts(
        paper="none: a control",
        when=BEFORE,
        score="random; of `candidates` masks the one with the least training loss",
        schedule="once",
        choosing=10,
        looks=lambda config: config.candidates * config.batches,
        cost="the batches looked at are not differentiated",
    )

    def complaints(self):
        c = self.config
        few = [
            f"method.{n} must be at least 1, found {getattr(c, n)}"
            for n in ("candidates", "batches")
            if getattr(c, n) < 1
        ]
        return super().complaints() + few

    def start(self, state):
        chosen, least = None, math.inf
        for number in range(self.config.candidates):
            stream = state.stream("mask", number) if number else state.stream("mask")
            masks = self.choose(state, sp.random_score(state.weights, stream))
            loss = state.loss(self.config.batches, masks)
            if chosen is None or loss < least:  # ties go to the earlier; a loss that is no number never wins
                chosen, least = masks, math.inf if math.isnan(loss) else loss
        state.set_masks(chosen)
