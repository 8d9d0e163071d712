"""Instability: how far apart the same training ends with other noise from some step on (Frankle et al., ICML 2020).

Frankle, Dziugaite, Roy and Carbin, *Linear Mode Connectivity and the Lottery Ticket Hypothesis* (ICML 2020).
The stage is a second copy of its parent: from that one's weights at step ``rewind`` it trains as that one did,
on other noise (data order, augmentation, dropout). Then the network is evaluated along the line between both results;
``instability`` is the highest test error on it minus the mean of its ends, in units of the score (points of accuracy).
Below about 2 points the authors call a network stable.

``sparsity=0``: the parent is the dense training. The copy repeats its first ``rewind`` steps as they were, for what the
optimizer remembers at that step; the weights there are the parent's own. Above: the parent is the ticket of ``imp``
with these settings, and the copy has its masks, starting weights and schedule. The test set is read once more for each
point of the line; nothing is chosen by it.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from common.methods import imp
from common.methods.families import rounds
from common.methods.families.base import State, settings
from common.methods.families.facts import FOUND
from common.settings.schema import option


@dataclass
class Config(rounds.Config):
    points: int = option(30, "places evaluated on the line, evenly spaced, its ends among them", least=3, most=1000)
    copy: int = option(1, "which other noise: 1, 2, ...; 0: the parent's own, which must give instability 0", least=0)


class Method(imp.Method):
    Config = Config
    facts = imp.Method.facts.but(
        paper="Frankle et al., ICML 2020, arXiv:1912.05671",
        when=FOUND,
        score="the parent's masks",
        schedule="as its parent",
        cost="`points` evaluations of validation and test set",
        measures={
            "instability": "highest test error on the line minus the mean of its ends, in points of the score; below "
            "about 2 the authors call a network stable; never negative, as the ends belong to the line",
            "loss_barrier": "the same of the test loss (nats for classification)",
            "barrier_alpha": "where on the line that test error is highest: 0 at the parent's weights, 1 at the copy's",
            "distance": "Euclidean distance between both ends, over all floating-point tensors of the model",
            "instability_validation": "as `instability`, on the validation split",
            "loss_barrier_validation": "as `loss_barrier`, on the validation split",
            "line_score": "the test score at each of `points` places, from the parent's weights to the copy's",
            "line_loss": "the test loss there",
            "line_score_validation": "as `line_score`, on the validation split",
            "line_loss_validation": "as `line_loss`, on the validation split",
        },
    )

    @property
    def dense(self) -> bool:
        """Is it the dense training that is copied?"""
        return self.config.sparsity == 0 and self.config.rounds is None

    @property
    def ticket(self) -> imp.Method:
        """The method that is copied, where it is sparse."""
        own = settings(self.config)
        return imp.Method(rounds.Config(**{f.name: own[f.name] for f in fields(rounds.Config)}))

    def complaints(self) -> list[str]:
        c = self.config
        found = self.ticket.complaints()
        if self.dense:
            found = [text for text in found if not text.startswith("method.sparsity=0")]
            if c.retrain != "full" or c.distill:
                found.append("method.sparsity=0 copies the dense training: method.retrain and distill are for tickets")
        return found

    def budget(self, steps: int) -> int:
        return steps if self.dense else super().budget(steps)

    def ancestors(self) -> list[tuple[str, dict]]:
        if self.dense:
            return [("dense", {})]
        return [*self.ticket.ancestors(), ("imp", settings(self.ticket.config))]

    def forks(self) -> int:
        """The step of this stage from which its noise is another."""
        return int(self.config.rewind) if self.dense and self.config.rewind != "pretrained" else 0

    def noise(self, step: int) -> tuple[str, ...]:
        return ("copy", str(self.config.copy)) if self.config.copy and step >= self.forks() else ()

    def start(self, state: State) -> None:
        if self.dense:
            return
        copied = state.parent
        state.parent = copied.before()  # it starts where its parent did
        super().start(state)
        state.parent = copied
        for name, mask in copied.masks().items():
            if not (state.masks[name] == mask.to(state.masks[name].device)).all():
                raise RuntimeError(f"the masks of {name} are not those of {copied.folder}, which is to be copied")

    def on_step(self, state: State) -> None:
        if self.dense and state.step == self.forks():
            last = state.step == state.run_steps
            state.load(state.parent.weights() if last else state.parent.rewound(str(state.step)))

    def measure(self, state: State, evaluate: Callable) -> dict[str, Any]:
        from common.training.probes import interpolation  # torch, which listing methods does without

        ends = state.parent.weights(), state.finished.weights()

        def look(model: Any) -> dict[str, dict]:
            return {split: evaluate(model, split) for split in state.splits}

        line = interpolation.along(state.model, *ends, self.config.points, look)
        found: dict[str, Any] = {}
        for split in reversed(state.splits):
            own = "" if split == "test" else f"_{split}"
            scores, losses = ([float(place[split][value]) for place in line] for value in ("score", "loss"))
            found[f"instability{own}"], alpha = interpolation.height([-score for score in scores])
            found[f"loss_barrier{own}"], _ = interpolation.height(losses)
            found |= {f"line_score{own}": scores, f"line_loss{own}": losses}
            if split == "test":
                found["barrier_alpha"] = alpha
        return found | {"distance": interpolation.distance(*ends)}
