"""RigL: drop the smallest living weights, grow where the dense gradient is largest (Evci et al., ICML 2020)."""

from dataclasses import dataclass

from common import method
from common import sparsity as sp
from common.method import option


@dataclass
class Config(method.Sparse):
    initial: str = option("erk", "the first masks: erk or uniform (random weights), omp or snip (global)")
    drop_fraction: float = option(0.3, "share of living weights moved at the first update; a cosine takes it to zero")
    every: int = option(100, "optimizer steps between updates; an update replaces the step it falls on")
    stop: float = option(0.75, "share of training after which the topology rests")
    batches: int = option(10, "initial=snip: training batches the score is accumulated over")


class Method(method.Method):
    Config = Config

    def complaints(self):
        found, c = super().complaints(), self.config
        if c.initial not in ("erk", "uniform", "omp", "snip"):
            found.append(f"method.initial must be erk, uniform, omp or snip, found {c.initial!r}")
        if not 0 < c.drop_fraction <= 1:
            found.append(f"method.drop_fraction must be in (0, 1], found {c.drop_fraction}")
        if not 0 < c.stop <= 1:
            found.append(f"method.stop must be in (0, 1], found {c.stop}")
        if c.every < 1 or c.batches < 1:
            found.append(f"method.every and method.batches must be at least 1, found {c.every} and {c.batches}")
        return found

    def complaints_for(self, steps: int) -> list[str]:
        """What is wrong with these settings in a training of ``steps`` optimizer steps."""
        if self.config.every < (end := round(self.config.stop * steps)):
            return []
        return [f"no update would ever come: method.every={self.config.every}, the topology rests at {end}"]

    def start(self, state):
        for complaint in self.complaints_for(state.steps):  # known only here where run.epochs says how long
            raise ValueError(complaint)
        initial = self.config.initial
        if initial == "omp":
            score = sp.magnitude(state.weights)
        elif initial == "snip":
            score = sp.saliency(state.weights, state.probe(self.config.batches))
        else:
            score = sp.random_score(state.weights, state.stream("mask"))
        spread = initial if initial in ("erk", "uniform") else "global"
        pools = sp.allocate(spread, state.weights, self.config.sparsity)
        state.set_masks(sp.select(score, pools))

    def on_gradients(self, state):
        end = round(self.config.stop * state.steps)
        if state.step == 0 or state.step >= end or state.step % self.config.every:
            return False
        drop, grow = sp.magnitude(state.weights), sp.gradient_magnitude(state.gradients())
        state.set_masks(
            sp.drop_and_grow(state.masks, drop, grow, sp.cosine(state.step, end, self.config.drop_fraction))
        )
        return True

    def settled(self, step, steps):
        return step >= round(self.config.stop * steps)
