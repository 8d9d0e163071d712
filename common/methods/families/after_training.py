"""What follows pruning: how long the survivors train, at which rates, from which weights, and with which teacher.

Renda, Frankle and Carbin (ICLR 2020), for a dense training of T steps and a retraining of t: fine-tuning
keeps the trained weights and the last learning rate; learning-rate rewinding keeps the weights and replays the last t
steps of the schedule; weight rewinding replays them from the weights as they were at step T - t. Over the whole
schedule (t = T) the latter two are "retrain as at first" and the one-shot ticket. Without retraining (t = 0), which is
SMC-Bench's "after training" as well, a stage takes no step: validation and the test set see the network as pruned.
"""

import re
from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.base import Method, Sparse, State, Tensor, allocated
from common.methods.families.facts import AFTER, Facts
from common.settings.schema import option


@dataclass
class Retraining(Sparse):
    """The settings; at their neutral values a stage is what it was before they existed."""

    retrain: str = option(
        "full",
        "how the survivors are trained",
        choices={
            "full": "the whole schedule",
            "fine_tune": "retrain_share of it at the last learning rate",
            "learning_rate": "its last retrain_share again; as fine_tune where the rate is constant",
            "weights": "the same, from the weights as they were then",
            "none": "not at all: pruned and scored",
        },
        neutral="full",
    )
    retrain_share: float = option(1.0, "share of dense steps, but for retrain=full", above=0, most=1, neutral=1.0)
    distill: float = option(0.0, "weight of distillation from the dense network in the loss", least=0, neutral=0.0)
    temperature: float = option(2.0, "distillation: logits are divided by it", above=0, neutral=2.0)


class Retrained(Method):
    """Base of methods that prune the network of a parent stage and train it further."""

    Config = Retraining
    facts = Facts(
        paper="",
        when=AFTER,
        score="",
        schedule="once, before retraining",
        memory={"distill=1": 4},
        cost="`distill`: a step runs the dense network forward too",
    )
    teacher = None

    def complaints(self) -> list[str]:
        found, c = super().complaints(), self.config
        if c.retrain in ("full", "none") and c.retrain_share != 1:
            found.append("method.retrain_share is for method.retrain=fine_tune, learning_rate or weights")
        if c.distill and c.retrain == "none":
            what = "method.distill is part of the loss that survivors train on"
            found.append(f"{what}, with method.retrain=none they do not")
        return found

    def budget(self, steps: int) -> int:
        if self.config.retrain in ("full", "none"):
            return steps if self.config.retrain == "full" else 0
        return max(1, round(self.config.retrain_share * steps))

    def clock(self, step: int, steps: int) -> tuple[int, int]:
        if self.config.retrain == "fine_tune":
            return steps - 1, steps
        return steps - self.budget(steps) + step, steps

    def load_trained(self, state: State) -> None:
        """Set the parent's weights: those of its last step, to be trained further; without retraining those that were
        scored, so that the whole curve is of one network."""
        state.load(state.parent.scored() if self.config.retrain == "none" else state.parent.weights())

    def restart(self, state: State) -> None:
        """Set the weights that the survivors start from, after masks were chosen on the parent's weights."""
        if self.config.retrain == "weights":
            state.load(state.parent.rewound(str(state.run_steps - state.steps)))

    def attach(self, state: State) -> None:
        if self.config.distill:
            from common.training.distillation import Teacher  # torch, which listing methods does without

            self.teacher = Teacher(state, self.config.temperature)

    def penalty(self, state: State) -> Tensor | float:
        return self.config.distill * self.teacher.loss() if self.teacher else 0


class Rewound(Retrained):
    """Base of tickets: survivors go back to ``rewind``, a step of the dense training or ``pretrained``.

    With ``retrain=full`` they train the rest from there: rewinding goes back in the schedule too.
    """

    def complaints(self) -> list[str]:
        found, rewind = super().complaints(), self.config.rewind
        if rewind != "pretrained" and not re.fullmatch("0|[1-9][0-9]*", rewind):  # one spelling, one identity
            found.append(f"method.rewind must be a step (0, 1, 2, ...) or 'pretrained', found {rewind!r}")
        return found

    def complaints_for(self, steps: int) -> list[str]:
        found, rewind = super().complaints_for(steps), self.config.rewind
        if rewind.isdecimal() and int(rewind) > steps:
            found.append(f"method.rewind={rewind} is beyond the {steps} steps of the dense training")
        return found

    def budget(self, steps: int) -> int:
        rewind = self.config.rewind
        if self.config.retrain == "full" and rewind.isdecimal():
            return max(0, steps - int(rewind))
        return super().budget(steps)


class AfterTraining(Retrained):
    """One-shot: prune the dense network by ``masks``, then retrain."""

    def ancestors(self) -> list[tuple[str, dict]]:
        return [("dense", {})]

    def start(self, state: State) -> None:
        self.load_trained(state)
        masks = self.masks(state)
        self.restart(state)
        state.set_masks(masks)

    def masks(self, state: State) -> dict[str, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} must say which weights of the trained network live")


@dataclass
class MagnitudeRetraining(Retraining):
    allocation: str = allocated()


class MagnitudeAfterTraining(AfterTraining):
    """The largest weights of the trained network live."""

    Config = MagnitudeRetraining
    facts = AfterTraining.facts.but(score="magnitude of the trained weights", choosing=6)

    def masks(self, state: State) -> dict[str, Tensor]:
        return self.choose(state, sp.magnitude(state.weights))
