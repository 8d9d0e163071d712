"""Optimal brain damage: after training, prune where w^2 F_ii / 2 is smallest, then retrain (LeCun et al., 1989).

The second derivatives of the loss are estimated by the diagonal of the empirical Fisher matrix, F_ii = damping + mean
of g_i^2 over batches. That is what SMC-Bench runs under the name of oBERT: the block inverse with blocks of one weight,
whose update moves no other weight. It takes batch sums of the loss, dropout on, over one epoch; here it is batch means
in evaluation mode, as in oBERT's own code (the batch size is only a factor of F, which the damping is small beside).
"""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.after_training import AfterTraining, Retraining, State, Tensor, allocated
from common.settings.schema import option


@dataclass
class Config(Retraining):
    allocation: str = allocated()
    gradients: int = option(1024, "training batches whose gradients make up the Fisher matrix", least=1)
    damping: float = option(1e-7, "added to the diagonal of the Fisher matrix", least=0)


class Method(AfterTraining):
    Config = Config
    facts = AfterTraining.facts.but(
        paper="LeCun, Denker and Solla, NeurIPS 1989",
        score="w^2 F_ii / 2, with the diagonal of the empirical Fisher matrix",
        choosing=12,
        looks=lambda config: config.gradients,
    )

    def masks(self, state: State) -> dict[str, Tensor]:
        curvature = sp.fisher_diagonal(state.gradients_of(range(self.config.gradients)), self.config.damping)
        return self.choose(state, sp.damage(state.weights, curvature))
