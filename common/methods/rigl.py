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
    grown: str = option(
        "zero", "what new weights start from: zero, last (their value when dropped) or pretrained", neutral="zero"
    )
    batches: int = option(10, "initial=snip: training batches the score is accumulated over")


class Method(method.Method):
    Config = Config

    def __init__(self, config):
        super().__init__(config)
        self.values: dict = {}  # grown=last: what each weight was when it last lived

    def complaints(self):
        found, c = super().complaints(), self.config
        if c.grown not in ("zero", "last", "pretrained"):
            found.append(f"method.grown must be zero, last or pretrained, found {c.grown!r}")
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
        masks = sp.drop_and_grow(state.masks, drop, grow, sp.cosine(state.step, end, self.config.drop_fraction))
        state.set_masks(masks, self.starting_values(state))
        return True

    def starting_values(self, state) -> dict | None:
        """What weights that grow now start from, None for zero."""
        if self.config.grown == "pretrained":
            return state.starting_weights()
        if self.config.grown == "zero":
            return None
        for name, weight in state.weights.items():
            before = self.values.get(name, weight.new_zeros(()))  # never alive yet: zero
            self.values[name] = weight.detach().where(state.masks[name], before)
        return self.values

    def state_dict(self):
        return {"values": dict(self.values)} if self.config.grown == "last" else {}

    def load_state_dict(self, state):
        self.values = state.get("values", {})

    def settled(self, step, steps):
        return step >= round(self.config.stop * steps)
