"""Training anew with a mask that pruning during training found: is it the mask, or the weights?

Gale, Elsen and Hooker (2019); scratch-E and scratch-B after Liu et al. (ICLR 2019). The mask is that of a
finished stage of gradual magnitude pruning with the settings in force for ``gmp`` and those given here.
"""

from dataclasses import dataclass, fields

from common import sparsity as sp
from common.methods.families.base import Method, Sparse, State, allocated
from common.methods.families.facts import FOUND, Facts
from common.settings.schema import option


@dataclass
class Found(Sparse):
    """``gmp``'s settings under the same names, so that one word of a command sets both; None: those in force."""

    allocation: str | None = allocated(None, "how gmp spreads the budget, where not as in force for it", neutral=None)
    begin: float | None = option(None, "the same: share of training after which pruning begins", neutral=None)
    end: float | None = option(None, "the same: share of training at which the target is reached", neutral=None)
    every: int | None = option(None, "the same: optimizer steps between prunings", neutral=None)
    returning: bool | None = option(None, "the same: may pruned weights come back?", neutral=None)


@dataclass
class Config(Found):
    start: str = option(
        "fresh",
        "the weights that are trained",
        choices={"fresh": "another random initialisation", "augmented": "one with the variance of what remains"},
    )


class FromGradual(Method):
    """Subclasses say in ``start`` which weights are trained with the parent's masks."""

    Config = Found
    facts = Facts(
        paper="Gale, Elsen and Hooker, 2019, arXiv:1902.09574",
        when=FOUND,
        score="that of `gmp`",
        schedule="constant, sparse from the start",
        allocation="that of `gmp`'s final mask",
        choosing=8,
    )

    def ancestors(self) -> list[tuple[str, dict]]:
        names = ("sparsity", "structure", *(f.name for f in fields(Found) if f.default is None))
        given = {name: getattr(self.config, name) for name in names}
        return [("gmp", {name: value for name, value in given.items() if value is not None})]


class Scratch(FromGradual):
    """Subclasses set ``times``: how many times the run's steps they train."""

    Config = Config
    facts = FromGradual.facts.but(
        paper="Liu et al., ICLR 2019, arXiv:1810.05270; Gale, Elsen and Hooker, 2019, arXiv:1902.09574"
    )
    times = 1

    def budget(self, steps: int) -> int:
        return self.times * steps

    def start(self, state: State) -> None:
        masks = state.parent.masks()
        state.load(state.initialise("scratch"))
        if self.config.start == "augmented":
            sp.augment(state.weights, masks, state.stream("augmented"))
        state.set_masks(masks)
