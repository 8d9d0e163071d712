"""GraNet: prune gradually and, each time, move connections to where gradients are large (Liu et al., NeurIPS 2021).

At each update the smallest weights of the whole network go until the cubic's sparsity is reached, then each layer drops
a share of what is left and grows as many by gradient ("zero-cost neuroregeneration"). From a dense network, or from a
sparse random one (``initial_sparsity``, ERK), which makes all of training sparse.

Deviations from the authors' code: there connections move until the end of training, with a cosine over all of it down
to a share of 0.005; here they rest when the target is reached (``end``), and the cosine ends there, at zero. There an
update comes after an optimizer step; here it takes the place of one, as in RigL's code.
"""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.gradual import Gradual, GradualPruning, State
from common.settings.schema import option


@dataclass
class Config(Gradual):
    begin: float = option(0.0, "share of training after which pruning begins", least=0, below=1)
    end: float = option(
        0.8,
        "share of training at which the target is reached, exactly, and the topology rests",
        above=0,
        below=1,
        because="the last update takes the place of the step after it",
    )
    initial_sparsity: float = option(0.0, "0: dense to sparse; above: from a sparse random ERK mask", least=0, below=1)
    drop_fraction: float = option(0.5, "share of weights moved at first; a cosine takes it to zero", above=0, most=1)


class Method(GradualPruning):
    Config = Config
    structures = ("weights", "RxC")  # as for all that drops and grows
    facts = GradualPruning.facts.but(
        paper="Liu et al., NeurIPS 2021, arXiv:2106.10404",
        score="magnitude; what grows: gradient",
        topology="shrinks, and each layer moves `drop_fraction` of its weights",
        allocation="global; the first mask of `initial_sparsity`: erk",
        choosing=9,
        cost="an update takes the place of a step",
    )

    def complaints(self) -> list[str]:
        found, c = super().complaints(), self.config
        if c.initial_sparsity > c.sparsity:
            limit = f"0 and method.sparsity={c.sparsity}"
            found.append(f"method.initial_sparsity must be between {limit}, found {c.initial_sparsity}")
        return found

    def start(self, state: State) -> None:
        if self.config.initial_sparsity:
            score = sp.random_score(state.weights, state.stream("mask"))
            state.set_masks(self.choose(state, score, self.config.initial_sparsity, allocation="erk"))

    def on_gradients(self, state: State) -> bool:
        """The update takes the place of the step it falls on, whose dense gradient says where to grow (as in RigL)."""
        begin, end = self.window(state.steps)
        if not state.step or not sp.due(state.step, begin, end, self.config.every):
            return False
        now = sp.cubic(state.step, begin, end, self.config.sparsity, self.config.initial_sparsity)
        state.set_masks(self.choose(state, sp.magnitude(state.weights), now, within=state.masks))
        drop, grow = sp.magnitude(state.weights), sp.gradient_magnitude(state.gradients())
        moved = sp.cosine(state.step, end, self.config.drop_fraction)
        state.set_masks(sp.drop_and_grow(state.masks, drop, grow, moved, self.config.structure))
        return True

    def on_step(self, state: State) -> None:
        """Pruning needs the gradient, which is gone by now."""

    def settled(self, step: int, steps: int) -> bool:
        return step > self.window(steps)[1]
