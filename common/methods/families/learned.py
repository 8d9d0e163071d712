"""Sparsity learned under a growing penalty, and cut to the exact target at the end: what such methods share."""

import math
from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families import base
from common.methods.families.facts import DURING, Facts
from common.settings.schema import option

RAMPS = ("linear", "cubic")


@dataclass
class Regularised(base.Sparse):
    allocation: str = option("global", "how the final cut is spread: global, uniform, erk, erk_plus or rows")
    begin: float = option(0.2, "share of training after which the penalty begins to grow")
    end: float = option(0.7, "share of training at which it has its full strength")
    ramp: str = option("linear", "how it grows: linear, or cubic as sparsity does in gradual pruning")


class Method(base.Method):
    """Subclasses say in ``attach`` what is learned, in ``price`` what weights cost, in ``finish`` what lives."""

    Config = Regularised
    facts = Facts(
        paper="",
        when=DURING,
        score="",
        schedule="dense under a penalty that grows from `begin` to `end`; cut at the last step",
        memory={"": 16},
        measures={"learned_sparsity": "share of zeros in [0, 1] that was learned, before the cut to the exact target"},
    )

    def __init__(self, config):
        super().__init__(config)
        self.learned_sparsity: float | None = None

    def complaints(self):
        found, c = super().complaints(), self.config
        if not (0 <= c.begin <= c.end <= 1 and c.begin < 1):
            limits = "0 <= begin <= end <= 1, begin below 1"
            found.append(f"method.begin and method.end must satisfy {limits}, found {c.begin}, {c.end}")
        if c.ramp not in RAMPS:
            found.append(f"method.ramp must be one of {', '.join(RAMPS)}, found {c.ramp!r}")
        if not 0 <= c.strength < math.inf:
            found.append(f"method.strength must not be negative, found {c.strength}")
        if not 0 < c.rate < math.inf:
            found.append(f"method.rate must be above 0, found {c.rate}")
        return found

    def growth(self, step: int, steps: int) -> float:
        """The penalty's share of its full strength in the step that follows ``step`` of ``steps``."""
        begin, end = self.config.begin * steps, self.config.end * steps
        if step >= end:
            return 1.0
        if step <= begin:
            return 0.0
        return sp.cubic(step, begin, end, 1.0) if self.config.ramp == "cubic" else (step - begin) / (end - begin)

    def penalty(self, state):
        """strength / examples times the price of all weights, as it stands beside the mean loss of an example."""
        factor = self.config.strength / state.examples * self.growth(state.step, state.steps)
        return factor * self.price(state)

    def price(self, state):
        """What the prunable weights cost in all, a float32 scalar with gradient."""
        raise NotImplementedError(f"{type(self).__name__} must say what weights cost")

    def on_step(self, state):
        if state.step == state.steps:
            self.learned_sparsity = self.finish(state)

    def finish(self, state) -> float:
        """Make the model a plain sparse one; returns the share of zeros that was learned, before the exact cut."""
        raise NotImplementedError(f"{type(self).__name__} must say what lives in the end")

    def settled(self, step, steps):
        return step >= steps

    def measure(self, state, evaluate):
        return {"learned_sparsity": self.learned_sparsity}

    def state_dict(self):
        return {"learned_sparsity": self.learned_sparsity}

    def load_state_dict(self, state):
        self.learned_sparsity = state["learned_sparsity"]
