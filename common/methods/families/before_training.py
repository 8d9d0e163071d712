"""Pruning the starting weights once, before the first training step; shared by scores and their controls."""

from dataclasses import dataclass

from common.methods.families.base import Method, Score, Sparse, State, allocated
from common.methods.families.facts import BEFORE, Facts


@dataclass
class Allocated(Sparse):
    allocation: str = allocated()


class BeforeTraining(Method):
    """Subclasses say in ``score`` what the starting weights are worth."""

    Config = Allocated
    needs_pretrained = False  # are starting weights that were drawn at random refused, before anything is queued?
    facts = Facts(paper="", when=BEFORE, score="", schedule="once")

    def start(self, state: State) -> None:
        state.set_masks(self.choose(state, self.score(state)))

    def score(self, state: State) -> Score:
        """A score for every prunable weight, of which the highest live (``common/sparsity/scores.py``)."""
        raise NotImplementedError(f"{type(self).__name__} must say what weights are worth")
