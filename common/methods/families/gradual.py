"""Pruning during training, in steps along a cubic; shared by what prunes by magnitude, at random or by layer rules."""

from dataclasses import dataclass
from typing import Any

from common import sparsity as sp
from common.methods.families.base import Method, Sparse, State
from common.methods.families.facts import DURING, Facts
from common.settings.schema import option


@dataclass
class Gradual(Sparse):
    begin: float = option(0.1, "share of training after which pruning begins", least=0, below=1)
    end: float = option(0.8, "share of training at which the target is reached, exactly", above=0, most=1)
    every: int = option(100, "optimizer steps between prunings", least=1)


class GradualPruning(Method):
    """Subclasses say in ``prune`` what goes to reach a sparsity."""

    Config = Gradual
    facts = Facts(paper="", when=DURING, score="", schedule="cubic from `begin` to `end`")

    def complaints(self) -> list[str]:
        found, c = super().complaints(), self.config
        if c.begin >= c.end:
            found.append(f"method.begin must be below method.end, found {c.begin} and {c.end}")
        return found

    def window(self, steps: int) -> tuple[int, int]:
        """The first and the last step after which something is pruned, of ``steps`` of this stage."""
        return round(self.config.begin * steps), max(1, round(self.config.end * steps))

    def on_step(self, state: State) -> None:
        begin, end = self.window(state.steps)
        if sp.due(state.step, begin, end, self.config.every):
            self.prune(state, sp.cubic(state.step, begin, end, self.config.sparsity))

    def prune(self, state: State, sparsity: float) -> None:
        raise NotImplementedError(f"{type(self).__name__} must say what is pruned")

    def settled(self, step: int, steps: int) -> bool:
        return step >= self.window(steps)[1]


@dataclass
class ByMagnitude(Gradual):
    returning: bool = option(
        False,
        "False: what is gone stays gone, as in SMC-Bench; True: pruned weights keep their value and may come back, as "
        "in Zhu and Gupta's own code and The State of Sparsity",
        neutral=False,
    )


class GradualMagnitudePruning(GradualPruning):
    """The smallest weights go, by the settings' allocation or a subclass's.

    Zhu and Gupta multiply weights and masks, so that a pruned weight keeps the value it had. Here it is zero and its
    value is remembered, which is the same but for momentum and weight decay: those would still move it there.
    """

    Config = ByMagnitude
    facts = GradualPruning.facts.but(
        paper="Zhu and Gupta, ICLR 2018 workshops, arXiv:1710.01878",
        score="magnitude",
        topology="shrinks; with `returning` it is chosen anew, and what was pruned may come back",
        memory={"returning=true": 4},
        choosing=6,
    )

    def __init__(self, config: Any):
        super().__init__(config)
        self.values: dict = {}  # returning: what each weight was when it last lived
        self.remembered = ("values",) if config.returning else ()

    def prune(self, state: State, sparsity: float) -> None:
        if not self.config.returning:
            state.set_masks(self.choose(state, sp.magnitude(state.weights), sparsity, within=state.masks))
            return
        for name, weight in state.weights.items():
            now = weight.detach().clone()
            self.values[name] = now.where(state.masks[name], self.values[name]) if name in self.values else now
        kept = self.choose(state, sp.magnitude(self.values), sparsity)
        state.set_masks(kept, grown_values=self.values)
