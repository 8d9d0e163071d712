"""Dynamic sparse training: connections move, their number stands; shared by what grows at random or by gradient."""

from dataclasses import dataclass

from common.methods.families.base import Method, Sparse, State
from common.methods.families.facts import DURING, Facts
from common.settings.schema import option


@dataclass
class Dynamic(Sparse):
    drop_fraction: float = option(0.3, "share of living weights moved at an update", above=0, most=1)
    every: int = option(100, "optimizer steps between updates", least=1)
    stop: float = option(0.75, "share of training after which the topology rests", above=0, most=1)


class DynamicTraining(Method):
    Config = Dynamic
    structures = ("weights", "RxC")  # inside a group of M there is next to nowhere to go
    facts = Facts(paper="", when=DURING, score="", schedule="constant, sparse from the start", choosing=8)

    def complaints_for(self, steps: int) -> list[str]:
        found = super().complaints_for(steps)
        if self.config.every < (end := self.end(steps)):
            return found
        return [
            *found,
            f"no update would ever come: the first is due at step {self.config.every} (method.every), and the topology "
            f"rests from step {end} on (method.stop={self.config.stop:g} of {steps} steps); choose a smaller "
            "method.every, or more steps",
        ]

    def end(self, steps: int) -> int:
        """The step from which the topology rests, of ``steps``."""
        return round(self.config.stop * steps)

    def due(self, state: State) -> bool:
        """Is an update due after ``state.step`` steps?"""
        return 0 < state.step < self.end(state.steps) and state.step % self.config.every == 0

    def settled(self, step: int, steps: int) -> bool:
        return step >= self.end(steps)
