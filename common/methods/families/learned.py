"""Sparsity learned under a growing penalty, and cut to the exact target at the end: what such methods share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from common import sparsity as sp
from common.methods.families.base import Method, Sparse, State, Tensor, allocated
from common.methods.families.facts import DURING, Facts
from common.settings.schema import option


@dataclass
class Regularised(Sparse):
    allocation: str = allocated(help="how the final cut is spread over layers")
    begin: float = option(0.2, "share of training after which the penalty begins to grow", least=0, below=1)
    end: float = option(0.7, "share of training at which it has its full strength", least=0, most=1)
    ramp: str = option("linear", "how the penalty grows", choices={"linear": "", "cubic": "as in gradual pruning"})


class LearnedSparsity(Method):
    """Subclasses say in ``attach`` what is learned, in ``price`` what weights cost, in ``finish`` what lives."""

    Config = Regularised
    remembered = ("learned_sparsity",)
    facts = Facts(
        paper="",
        when=DURING,
        score="",
        schedule="dense under a penalty that grows from `begin` to `end`; cut at the last step",
        memory={"": 16},
        measures={"learned_sparsity": "share of zeros in [0, 1] that was learned, before the cut to the exact target"},
    )

    def __init__(self, config: Any):
        super().__init__(config)
        self.learned_sparsity: float | None = None

    def complaints(self) -> list[str]:
        found, c = super().complaints(), self.config
        if c.begin > c.end:
            found.append(f"method.begin must not be above method.end, found {c.begin} and {c.end}")
        return found

    def growth(self, step: int, steps: int) -> float:
        """The penalty's share of its full strength in the step that follows ``step`` of ``steps``."""
        begin, end = self.config.begin * steps, self.config.end * steps
        if begin < step < end and self.config.ramp == "linear":
            return (step - begin) / (end - begin)
        return sp.cubic(step, begin, end, 1.0)  # 0 until it begins and 1 from its end on, whatever the ramp

    def penalty(self, state: State) -> Tensor | float:
        """strength / examples times the price of all weights, as it stands beside the mean loss of an example."""
        factor = self.config.strength / state.examples * self.growth(state.step, state.steps)
        return factor * self.price(state)

    def price(self, state: State) -> Tensor | float:
        """What the prunable weights cost in all, a float32 scalar with gradient."""
        raise NotImplementedError(f"{type(self).__name__} must say what weights cost")

    def on_step(self, state: State) -> None:
        if state.step == state.steps:
            self.learned_sparsity = self.finish(state)

    def finish(self, state: State) -> float:
        """Make the model a plain sparse one; returns the share of zeros that was learned, before the exact cut."""
        raise NotImplementedError(f"{type(self).__name__} must say what lives in the end")

    def settled(self, step: int, steps: int) -> bool:
        return step >= steps

    def measure(self, state: State, evaluate: Callable) -> dict[str, Any]:
        return {"learned_sparsity": self.learned_sparsity}
