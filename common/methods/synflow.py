"""SynFlow: before training and without data, keep what carries most flow, in many rounds (Tanaka et al., NeurIPS 2020).

Their algorithm: after round k of n the share (1 - sparsity)^(k / n) lives. No layer is emptied as long as others have
weights to spare (their theorem), which one-shot scores cannot promise.
"""

from dataclasses import dataclass

from common.methods.families.before_training import Allocated, BeforeTraining, State
from common.settings.schema import option


@dataclass
class Config(Allocated):
    iterations: int = option(100, "rounds in which the target is reached, with new scores in each", least=1)


class Method(BeforeTraining):
    Config = Config
    facts = BeforeTraining.facts.but(
        paper="Tanaka et al., NeurIPS 2020, arXiv:2006.05467",
        score="|w dR/dw|, the synaptic flow, without data",
        schedule="geometric, in `iterations` rounds before the first step",
        choosing=41,
        looks=lambda config: config.iterations,
        cost="a look is one example of ones, in double precision",
    )

    def start(self, state: State) -> None:
        c = self.config
        for done in range(1, c.iterations + 1):
            now = c.sparsity if done == c.iterations else 1 - (1 - c.sparsity) ** (done / c.iterations)
            state.set_masks(self.choose(state, state.synaptic_flow(), now, within=state.masks))
