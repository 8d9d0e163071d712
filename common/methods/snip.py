"""SNIP: before training, keep the weights whose removal would change the loss most (Lee et al., ICLR 2019)."""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families import base
from common.methods.families.facts import BEFORE, Facts
from common.settings.schema import option


@dataclass
class Config(base.Sparse):
    allocation: str = option("global", "global, uniform, erk, erk_plus or rows")
    batches: int = option(10, "training batches the score is accumulated over")
    sum: str = option("gradients", "gradients: |w * sum of g| as in the paper; magnitudes: sum of |w * g| over batches")
    dropout: bool = option(False, "score with dropout on")


class Method(base.Method):
    Config = Config
    facts = Facts(
        paper="Lee, Ajanthan and Torr, ICLR 2019, arXiv:1810.02340",
        when=BEFORE,
        score="|w g|: what the loss would change",
        schedule="once",
        choosing=12,
        looks=lambda config: config.batches,
    )

    def complaints(self):
        found = super().complaints()
        if self.config.batches < 1:
            found.append(f"method.batches must be at least 1, found {self.config.batches}")
        if self.config.sum not in ("gradients", "magnitudes"):
            found.append(f"method.sum must be gradients or magnitudes, found {self.config.sum!r}")
        return found

    def start(self, state):
        gradients = state.probe(
            self.config.batches, magnitudes=self.config.sum == "magnitudes", dropout=self.config.dropout
        )
        state.set_masks(self.choose(state, sp.saliency(state.weights, gradients)))
