"""A random mask on the starting weights, then training: the control of pruning before it (Liu et al., ICLR 2022).

One seed ranks the weights once, so its masks are nested over sparsities. Of that paper's allocations ``uniform``,
``erk`` and ``erk_plus`` are here. Its uniform_plus (first layer dense, last at most 80% sparse) and ER are not; the
ratios that SNIP or GraSP find are ``reshuffle`` with ``method.of=snip`` or ``grasp``.
"""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.before_training import Allocated, BeforeTraining, Score, State, allocated


@dataclass
class Config(Allocated):
    allocation: str = allocated("uniform")


class Method(BeforeTraining):
    Config = Config
    facts = BeforeTraining.facts.but(paper="Liu et al., ICLR 2022, arXiv:2202.02643", score="random", choosing=5)

    def score(self, state: State) -> Score:
        return sp.random_score(state.weights, state.stream("mask"))
