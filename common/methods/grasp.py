"""GraSP: before training, keep the weights without which the gradient would shrink most (Wang et al., ICLR 2020).

Their algorithm 1, with two differences of data and none of formula: batches are the run's, not drawn evenly from the
classes, and the linear layers are scored with the weights they start from (their code draws others for the score).
"""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families import base
from common.methods.families.facts import BEFORE, Facts
from common.settings.schema import option


@dataclass
class Config(base.Sparse):
    allocation: str = option("global", "global, uniform, erk, erk_plus or rows")
    batches: int = option(10, "training batches the gradient and its product with the Hessian are averaged over")
    temperature: float = option(200.0, "the model's outputs are divided by it while scoring; 1: scored as they are")


class Method(base.Method):
    Config = Config
    facts = Facts(
        paper="Wang, Zhang and Grosse, ICLR 2020, arXiv:2002.07376",
        when=BEFORE,
        score="w (H g): what the gradient's norm would lose",
        schedule="once",
        choosing=24,
        looks=lambda config: 2 * config.batches,
        cost="half of the batches looked at are differentiated twice, at about three times the time",
    )

    def complaints(self):
        found, c = super().complaints(), self.config
        if c.batches < 1:
            found.append(f"method.batches must be at least 1, found {c.batches}")
        if c.temperature <= 0:
            found.append(f"method.temperature must be above 0, found {c.temperature}")
        return found

    def start(self, state):
        products = state.hessian_gradient(self.config.batches, self.config.temperature)
        state.set_masks(self.choose(state, sp.gradient_flow(state.weights, products)))
