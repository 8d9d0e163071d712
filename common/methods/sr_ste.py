"""SR-STE: masks are chosen anew at every step, and every weight keeps a value and a gradient (Zhou et al., ICLR 2021).

The forward pass sees the weights with the largest magnitudes, as N of every M (the paper's) or in any structure and
allocation. The gradient with respect to these masked weights is the gradient of the dense ones, straight through the
mask, and ``decay`` times the weight is added where the mask is zero, which keeps masks from flipping.
Sparsity is the target from the first step. The masks of the last weights are final: no weight outside them lives.
"""

from dataclasses import dataclass
from typing import Any

from common import sparsity as sp
from common.methods.families import base
from common.methods.families.base import State, Tensor, allocated
from common.methods.families.facts import DURING, Facts
from common.settings.schema import option


@dataclass
class Config(base.Sparse):
    allocation: str = allocated()
    decay: float = option(
        2e-4, "lambda_w: how strongly the gradient draws masked weights to zero; 0: plain straight-through", least=0
    )


class Method(base.Method):
    Config = Config
    facts = Facts(
        paper="Zhou et al., ICLR 2021, arXiv:2102.04010",
        when=DURING,
        score="magnitude",
        schedule="constant, sparse from the start",
        topology="chosen anew at every step; what is pruned keeps a value and may come back",
        memory={"": 1},
        choosing=6,
        cost="a step chooses masks and computes 4 bytes a weight of masked weights",
    )

    def __init__(self, config: Any):
        super().__init__(config)
        self.masks: dict[str, Tensor] = {}
        self.chosen_at: int | None = None  # the masks are those of the weights after so many steps

    def attach(self, state: State) -> None:
        state.reparametrise(lambda: {name: w + (kept - w).detach() for name, w, kept in self.masked(state)})

    def masked(self, state: State) -> list[tuple]:
        """(name, weight, masked weight) for every prunable tensor, as the weights are now."""
        if self.chosen_at != state.step:
            chosen = self.choose(state, sp.magnitude(state.weights))
            self.masks = {name: bits.to(state.weights[name].device) for name, bits in chosen.items()}
            self.chosen_at = state.step
        return [(name, w, w.detach().masked_fill(~self.masks[name], 0)) for name, w in state.weights.items()]

    def on_gradients(self, state: State) -> bool:
        for name, weight in state.weights.items():
            if weight.grad is not None:
                weight.grad.add_(weight.detach().masked_fill(self.masks[name], 0), alpha=self.config.decay)
        return False

    def deployed(self, state: State) -> dict[str, Tensor]:
        return {name: kept for name, _, kept in self.masked(state)}

    def on_step(self, state: State) -> None:
        if state.step == state.steps:
            state.set_masks(self.choose(state, sp.magnitude(state.weights)))

    def settled(self, step: int, steps: int) -> bool:
        return step >= steps
