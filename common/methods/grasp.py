"""GraSP: before training, keep the weights without which the gradient would shrink most (Wang et al., ICLR 2020).

Their algorithm, with two differences of data and none of formula: batches are the run's, not drawn evenly from the
classes, and the linear layers are scored with the weights they start from (their code draws others for the score).
"""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.before_training import Allocated, BeforeTraining, Score, State
from common.settings.schema import option


@dataclass
class Config(Allocated):
    batches: int = option(10, "training batches that gradient and Hessian product are averaged over", least=1)
    temperature: float = option(200.0, "the model's outputs are divided by it while scoring; 1: as they are", above=0)


class Method(BeforeTraining):
    Config = Config
    facts = BeforeTraining.facts.but(
        paper="Wang, Zhang and Grosse, ICLR 2020, arXiv:2002.07376",
        score="w (H g): what the gradient's norm would lose",
        choosing=24,
        looks=lambda config: 2 * config.batches,
        cost="half of the batches looked at are differentiated twice, at about three times the time",
    )

    def score(self, state: State) -> Score:
        products = state.hessian_gradient(self.config.batches, self.config.temperature)
        return sp.gradient_flow(state.weights, products)
