"""SET: drop the smallest living weights, grow as many at random (Mocanu et al., Nature Communications 2018).

The share moved stays the same to the end; new connections start at zero, as in the comparisons of Evci et al. (2020),
where Mocanu et al. draw them anew.
"""

from dataclasses import dataclass

from common import method
from common import sparsity as sp
from common.method import option


@dataclass
class Config(method.Sparse):
    allocation: str = option("erk", "global, uniform, erk, erk_plus or rows")
    drop_fraction: float = option(0.3, "share of living weights moved at every update")
    every: int = option(100, "optimizer steps between updates")
    stop: float = option(0.75, "share of training after which the topology rests, so that validation can choose")


class Method(method.Method):
    Config = Config

    def complaints(self):
        found, c = super().complaints(), self.config
        shares = {"drop_fraction": c.drop_fraction, "stop": c.stop}
        found += [f"method.{n} must be in (0, 1], found {v}" for n, v in shares.items() if not 0 < v <= 1]
        if c.every < 1:
            found.append(f"method.every must be at least 1, found {c.every}")
        return found

    def complaints_for(self, steps):
        if self.config.every < (end := round(self.config.stop * steps)):
            return []
        return [f"no update would ever come: method.every={self.config.every}, the topology rests at {end}"]

    def start(self, state):
        for complaint in self.complaints_for(state.steps):  # known only here where run.epochs says how long
            raise ValueError(complaint)
        pools = sp.allocate(self.config.allocation, state.weights, self.config.sparsity)
        state.set_masks(sp.select(sp.random_score(state.weights, state.stream("mask")), pools))

    def on_step(self, state):
        end = round(self.config.stop * state.steps)
        if state.step >= end or state.step % self.config.every:
            return
        grow = sp.random_score(state.weights, state.stream("grow", state.step))
        state.set_masks(sp.drop_and_grow(state.masks, sp.magnitude(state.weights), grow, self.config.drop_fraction))

    def settled(self, step, steps):
        return step >= round(self.config.stop * steps)
