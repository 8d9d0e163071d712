"""Gradual magnitude pruning: sparsity rises along a cubic while training (Zhu and Gupta, 2017)."""

from dataclasses import dataclass

from common import method
from common import sparsity as sp
from common.method import option


@dataclass
class Config(method.Sparse):
    allocation: str = option("global", "global, uniform, erk or rows")
    begin: float = option(0.1, "share of training after which pruning begins")
    end: float = option(0.8, "share of training at which the target is reached, exactly")
    every: int = option(100, "optimizer steps between prunings")


class Method(method.Method):
    Config = Config

    def complaints(self):
        found, c = super().complaints(), self.config
        if not 0 <= c.begin < c.end <= 1:
            found.append(f"method.begin and method.end must satisfy 0 <= begin < end <= 1, found {c.begin} and {c.end}")
        if c.every < 1:
            found.append(f"method.every must be at least 1 step, found {c.every}")
        return found

    def window(self, steps: int) -> tuple[int, int]:
        return round(self.config.begin * steps), max(1, round(self.config.end * steps))

    def on_step(self, state):
        begin, end = self.window(state.steps)
        if sp.due(state.step, begin, end, self.config.every):
            now = sp.cubic(state.step, begin, end, self.config.sparsity)
            pools = sp.allocate(self.config.allocation, state.weights, now, state.masks.counts)
            # within the living weights: what is gone stays gone, as in SMC-Bench
            state.set_masks(sp.select(sp.magnitude(state.weights), pools, within=state.masks))

    def settled(self, step, steps):
        return step >= self.window(steps)[1]
