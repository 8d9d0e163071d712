"""Gradual magnitude pruning as The State of Sparsity ends with it: first layer dense, last at most 80%, 1.5x steps.

Gale, Elsen and Hooker (2019): the other layers share one sparsity, such that the target is met exactly over the whole
prunable set; pruned weights keep their value and may come back. "First" and "last" are the order of definition.
"""

from dataclasses import dataclass

from common import gradual
from common import sparsity as sp
from common.method import option


@dataclass
class Config(gradual.ByMagnitude):
    returning: bool = option(True, "pruned weights keep their value and may come back")
    last_sparsity: float = option(0.8, "the most the last layer is pruned")
    longer: float = option(1.5, "training steps, as a multiple of the run's; the schedule is stretched")


class Method(gradual.MagnitudeMethod):
    Config = Config

    def complaints(self):
        found, c = super().complaints(), self.config
        if not 0 <= c.last_sparsity < 1:
            found.append(f"method.last_sparsity must be in [0, 1), found {c.last_sparsity}")
        if not c.longer > 0:
            found.append(f"method.longer must be above 0, found {c.longer}")
        return found

    def budget(self, steps):
        return max(1, round(self.config.longer * steps))

    def start(self, state):
        self.pools(state, self.config.sparsity, None)  # an impossible target is known before the first step

    def pools(self, state, sparsity, living):
        first, *between, last = state.weights
        size = {name: weight.numel() for name, weight in state.weights.items()}
        ends = {first: size[first], last: sp.kept_count(size[last], min(sparsity, self.config.last_sparsity))}
        left = sp.kept_count(sum(size.values()), sparsity) - sum(ends.values())
        room = sum(size[name] for name in between)
        if not 0 <= left <= room:
            raise ValueError(
                f"at method.sparsity={sparsity:.4g} the first layer ({first}, dense) and the last ({last}) alone hold "
                f"{sum(ends.values())} weights of the {left + sum(ends.values())} that may live: a lower target, or gmp"
            )
        pools = [sp.Pool((name,), kept) for name, kept in ends.items()]
        return pools + (sp.uniform({n: state.weights[n] for n in between}, 1 - left / room) if between else [])
