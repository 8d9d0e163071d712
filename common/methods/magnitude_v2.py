"""Gradual magnitude pruning as The State of Sparsity ends with it: first layer dense, last at most 80%, 1.5x steps.

Gale, Elsen and Hooker (2019): the other layers share one sparsity, such that the target is met exactly over the whole
prunable set; pruned weights keep their value and may come back. "First" and "last" are the order of definition.
"""

import math
from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.gradual import ByMagnitude, GradualMagnitudePruning, State
from common.settings.schema import option


@dataclass
class Config(ByMagnitude):
    returning: bool = option(True, "pruned weights keep their value and may come back")
    last_sparsity: float = option(0.8, "the most the last layer is pruned", least=0, below=1)
    longer: float = option(1.5, "training steps, as a multiple of the run's; the schedule is stretched", above=0)


class Method(GradualMagnitudePruning):
    Config = Config
    structures = ("weights", "RxC")  # a dense first layer has no N of M
    facts = GradualMagnitudePruning.facts.but(
        paper="Gale, Elsen and Hooker, 2019, arXiv:1902.09574",
        allocation="first layer dense, last at most `last_sparsity`, one sparsity for those between",
        memory={"": 4, "returning=false": -4},
        choosing=10,
    )

    def budget(self, steps: int) -> int:
        return max(1, round(self.config.longer * steps))

    def shaped(self) -> bool:
        return True  # an impossible target is known before anything is queued

    def start(self, state: State) -> None:
        sp.pools(state.weights, self.target, self.allocation, self.config.structure)  # and before the first step

    def allocation(self, sizes, sparsity, living=None):
        size = {name: math.prod(shape) for name, shape in sp.shapes_of(sizes).items()}
        first, *between, last = size
        some = max(1, sp.kept_count(size[last], min(sparsity, self.config.last_sparsity)))
        ends = {first: size[first], last: some}
        left = sp.kept_count(sum(size.values()), sparsity) - sum(ends.values())
        room = sum(size[name] for name in between)
        if not 0 <= left <= room:
            fewest = size[first] + sp.kept_count(size[last], self.config.last_sparsity)
            most = math.floor((1 - fewest / sum(size.values())) * 1e4) / 1e4
            raise ValueError(
                f"at method.sparsity={sparsity:.10g} the first layer ({first}, dense) and the last ({last}) alone hold "
                f"{sum(ends.values())} weights of the {left + sum(ends.values())} that may live: at most {most:g} here "
                "(it is made for networks whose first layer is small), or METHOD=gmp"
            )
        pools = [sp.Pool((name,), kept) for name, kept in ends.items()]
        return pools + (sp.uniform({n: sizes[n] for n in between}, 1 - left / room) if between else [])
