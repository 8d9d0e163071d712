"""SNIP: before training, keep the weights whose removal would change the loss most (Lee et al., ICLR 2019)."""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families import before_training
from common.methods.families.base import State
from common.settings.schema import option


@dataclass
class Config(before_training.Config):
    batches: int = option(10, "training batches the score is accumulated over", least=1)
    sum: str = option(
        "gradients",
        "how batches are put together",
        choices={"gradients": "|w * sum of g|, as in the paper", "magnitudes": "sum of |w * g| over batches"},
    )
    dropout: bool = option(False, "score with dropout on")


class Method(before_training.Method):
    Config = Config
    facts = before_training.Method.facts.but(
        paper="Lee, Ajanthan and Torr, ICLR 2019, arXiv:1810.02340",
        score="|w g|: what the loss would change",
        choosing=12,
        looks=lambda config: config.batches,
    )

    def start(self, state: State) -> None:
        gradients = state.probe(
            self.config.batches, magnitudes=self.config.sum == "magnitudes", dropout=self.config.dropout
        )
        state.set_masks(self.choose(state, sp.saliency(state.weights, gradients)))
