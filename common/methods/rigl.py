"""RigL: drop the smallest living weights, grow where the dense gradient is largest (Evci et al., ICML 2020)."""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families import dynamic
from common.settings.schema import option


@dataclass
class Config(dynamic.Dynamic):
    initial: str = option("erk", "the first masks: erk or uniform (random weights), omp or snip (global)")
    drop_fraction: float = option(0.3, "share of living weights moved at the first update; a cosine takes it to zero")
    every: int = option(100, "optimizer steps between updates; an update replaces the step it falls on")
    grown: str = option(
        "zero", "what new weights start from: zero, last (their value when dropped) or pretrained", neutral="zero"
    )
    batches: int = option(10, "initial=snip: training batches the score is accumulated over")


class Method(dynamic.Method):
    Config = Config
    facts = dynamic.Method.facts.but(
        paper="Evci et al., ICML 2020, arXiv:1911.11134",
        score="magnitude; what grows: gradient; the first masks by `initial`",
        topology="each layer moves `drop_fraction` of its weights, along a cosine to zero",
        allocation="by `initial`: erk or uniform; global for omp and snip",
        memory={"grown=last": 4},
        looks=lambda config: config.batches * (config.initial == "snip"),
        cost="an update takes the place of a step",
    )

    def __init__(self, config):
        super().__init__(config)
        self.values: dict = {}  # grown=last: what each weight was when it last lived

    def complaints(self):
        found, c = super().complaints(), self.config
        if c.grown not in ("zero", "last", "pretrained"):
            found.append(f"method.grown must be zero, last or pretrained, found {c.grown!r}")
        if c.initial not in ("erk", "uniform", "omp", "snip"):
            found.append(f"method.initial must be erk, uniform, omp or snip, found {c.initial!r}")
        if c.batches < 1:
            found.append(f"method.batches must be at least 1, found {c.batches}")
        return found

    def start(self, state):
        super().start(state)
        initial = self.config.initial
        if initial == "omp":
            score = sp.magnitude(state.weights)
        elif initial == "snip":
            score = sp.saliency(state.weights, state.probe(self.config.batches))
        else:
            score = sp.random_score(state.weights, state.stream("mask"))
        spread = initial if initial in ("erk", "uniform") else "global"
        state.set_masks(self.choose(state, score, allocation=spread))

    def on_gradients(self, state):
        if not self.due(state):
            return False
        drop, grow = sp.magnitude(state.weights), sp.gradient_magnitude(state.gradients())
        moved = sp.cosine(state.step, self.end(state.steps), self.config.drop_fraction)
        masks = sp.drop_and_grow(state.masks, drop, grow, moved, self.config.structure)
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
        if self.config.grown == "last":
            self.values = state["values"]
        else:
            super().load_state_dict(state)  # which keeps nothing, and says so
