"""Random search: of several random masks on the starting weights, the one with the least training loss before training.

The search that chosen masks have to beat at equal information about the data. The first candidate is the mask of
``random_before``, so one candidate is that method; each candidate is drawn from a stream of its own.
"""

import math
from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.base import Tensor
from common.methods.families.before_training import Allocated, BeforeTraining, State, allocated
from common.settings.schema import option


@dataclass
class Config(Allocated):
    allocation: str = allocated("uniform")
    candidates: int = option(10, "random masks that are looked at", least=1)
    batches: int = option(10, "training batches the loss of each is averaged over, the same for all", least=1)


class Method(BeforeTraining):
    Config = Config
    facts = BeforeTraining.facts.but(
        paper="none: a control",
        score="random; of `candidates` masks the one with the least training loss",
        choosing=10,
        looks=lambda config: config.candidates * config.batches,
        cost="the batches looked at are not differentiated",
    )

    def start(self, state: State) -> None:
        chosen: dict[str, Tensor] = {}
        least = math.inf
        for number in range(self.config.candidates):
            stream = state.stream("mask", number) if number else state.stream("mask")
            masks = self.choose(state, sp.random_score(state.weights, stream))
            loss = state.loss(self.config.batches, masks)
            if not chosen or loss < least:  # ties go to the earlier; a loss that is no number never wins
                chosen, least = masks, math.inf if math.isnan(loss) else loss
        state.set_masks(chosen)
