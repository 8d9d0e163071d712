"""The control of pruning after training: random weights of the trained network go, then it is retrained."""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.after_training import AfterTraining, Retraining, State, Tensor, allocated


@dataclass
class Config(Retraining):
    allocation: str = allocated("uniform")


class Method(AfterTraining):
    Config = Config
    facts = AfterTraining.facts.but(
        paper="a control: Liu et al., SMC-Bench, ICLR 2023, arXiv:2303.02141", score="random", choosing=5
    )

    def masks(self, state: State) -> dict[str, Tensor]:
        return self.choose(state, sp.random_score(state.weights, state.stream("mask")))
