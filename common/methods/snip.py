"""SNIP: before training, keep the weights whose removal would change the loss most (Lee et al., ICLR 2019)."""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.before_training import Allocated, BeforeTraining, Score, State
from common.settings.schema import option


@dataclass
class Config(Allocated):
    batches: int = option(10, "training batches the score is accumulated over", least=1)
    sum: str = option(
        "gradients",
        "how batches are put together",
        choices={"gradients": "|w * sum of g|, as in the paper", "magnitudes": "sum of |w * g| over batches"},
    )
    dropout: bool = option(False, "score with dropout on")


class Method(BeforeTraining):
    Config = Config
    facts = BeforeTraining.facts.but(
        paper="Lee, Ajanthan and Torr, ICLR 2019, arXiv:1810.02340",
        score="|w g|: what the loss would change",
        choosing=12,
        looks=lambda config: config.batches,
    )

    def score(self, state: State) -> Score:
        c = self.config
        return sp.saliency(state.weights, state.probe(c.batches, c.sum == "magnitudes", c.dropout))
