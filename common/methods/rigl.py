"""RigL: drop the smallest living weights, grow where the dense gradient is largest (Evci et al., ICML 2020).

``stop`` is the paper's three quarters of training; the authors' code for CIFAR-10 ends at 75,000 of 97,656 steps, 77%.
As there, an update takes the place of the optimizer step, and new weights start from zero. Deviation: their code adds
noise of 1e-5 to the magnitudes, which breaks ties; here the order of weights does.
"""

from dataclasses import dataclass
from typing import Any

from common import sparsity as sp
from common.methods.families.base import Tensor
from common.methods.families.dynamic import Dynamic, DynamicTraining, State
from common.settings.schema import option


@dataclass
class Config(Dynamic):
    initial: str = option(
        "erk",
        "how the first masks are chosen",
        choices={
            "erk": "at random",
            "uniform": "at random",
            "uniform_first_dense": "at random, the layers of RigL's own Uniform",
            "omp": "global",
            "snip": "global",
        },
    )
    grown: str = option(
        "zero",
        "what new weights start from",
        choices={"zero": "", "last": "their value when dropped", "pretrained": ""},
        neutral="zero",
    )
    batches: int = option(10, "initial=snip: training batches the score is accumulated over", least=1)


class Method(DynamicTraining):
    Config = Config
    facts = DynamicTraining.facts.but(
        paper="Evci et al., ICML 2020, arXiv:1911.11134",
        score="magnitude; what grows: gradient; the first masks by `initial`",
        topology="each layer moves `drop_fraction` of its weights, along a cosine to zero",
        allocation="by `initial`: erk, uniform or uniform_first_dense; global for omp and snip",
        memory={"grown=last": 4},
        looks=lambda config: config.batches * (config.initial == "snip"),
        cost="an update takes the place of the step it falls on",
    )

    def __init__(self, config: Any):
        super().__init__(config)
        self.values: dict = {}  # grown=last: what each weight was when it last lived
        self.remembered = ("values",) if config.grown == "last" else ()

    @property
    def allocation(self) -> str:
        return "global" if self.config.initial in ("omp", "snip") else self.config.initial

    def start(self, state: State) -> None:
        if self.config.initial == "omp":
            score = sp.magnitude(state.weights)
        elif self.config.initial == "snip":
            score = sp.saliency(state.weights, state.probe(self.config.batches))
        else:
            score = sp.random_score(state.weights, state.stream("mask"))
        state.set_masks(self.choose(state, score))

    def on_gradients(self, state: State) -> bool:
        if not self.due(state):
            return False
        drop, grow = sp.magnitude(state.weights), sp.gradient_magnitude(state.gradients())
        moved = sp.cosine(state.step, self.end(state.steps), self.config.drop_fraction)
        masks = sp.drop_and_grow(state.masks, drop, grow, moved, self.config.structure)
        state.set_masks(masks, self.starting_values(state))
        return True

    def starting_values(self, state: State) -> dict[str, Tensor] | None:
        """What weights that grow now start from, None for zero."""
        if self.config.grown == "pretrained":
            return state.starting_weights()
        if self.config.grown == "zero":
            return None
        for name, weight in state.weights.items():
            before = self.values.get(name, weight.new_zeros(()))  # never alive yet: zero
            self.values[name] = weight.detach().where(state.masks[name], before)
        return self.values
