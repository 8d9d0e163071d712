"""Optimal brain damage: after training, prune where w^2 F_ii / 2 is smallest, then retrain (LeCun et al., 1989).

The second derivatives of the loss are estimated by the diagonal of the empirical Fisher matrix, F_ii = damping + mean
of g_i^2 over batches. That is what SMC-Bench runs under the name of oBERT: the block inverse with blocks of one weight,
whose update moves no other weight. It takes batch sums of the loss, dropout on, over one epoch; here it is batch means
in evaluation mode, as in oBERT's own code (the batch size is only a factor of F, which the damping is small beside).
"""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.after_training import AfterTraining, Retraining
from common.settings.schema import option


@dataclass
class Config(Retraining):
    allocation: str = option("global", "global, uniform, erk, erk_plus or rows")
    gradients: int = option(1024, "training batches whose gradients make up the Fisher matrix")
    damping: float = option(1e-7, "added to the diagonal of the Fisher matrix")


class Method(AfterTraining):
    Config = Config
    facts = AfterTraining.facts.but(
        paper="LeCun, Denker and Solla, NeurIPS 1989",
        score="w^2 F_ii / 2, with the diagonal of the empirical Fisher matrix",
        choosing=12,
        looks=lambda config: config.gradients,
    )

    def complaints(self):
        found, c = super().complaints(), self.config
        if c.gradients < 1:
            found.append(f"method.gradients must be at least 1, found {c.gradients}")
        if not c.damping >= 0:
            found.append(f"method.damping must not be negative, found {c.damping}")
        return found

    def masks(self, state):
        curvature = sp.fisher_diagonal(state.gradients_of(range(self.config.gradients)), self.config.damping)
        return self.choose(state, sp.damage(state.weights, curvature))
