"""Training from scratch with a mask that pruning during training found: is it the mask, or the weights?

Gale, Elsen and Hooker (2019), section 5; scratch-E and scratch-B after Liu et al. (ICLR 2019). The mask is that of a
finished stage of gradual magnitude pruning with the settings in force for ``gmp``.
"""

from dataclasses import dataclass

from common import sparsity as sp
from common.method import Method, Sparse, option

STARTS = ("fresh", "augmented")


@dataclass
class Config(Sparse):
    start: str = option("fresh", "fresh: another random initialisation; augmented: with the variance of what remains")


class Scratch(Method):
    """Subclasses say how much longer than the run's steps they train (``times``)."""

    Config = Config
    times = 1

    def complaints(self):
        found = super().complaints()
        if self.config.start not in STARTS:
            found.append(f"method.start must be one of {', '.join(STARTS)}; found {self.config.start!r}")
        return found

    def ancestors(self):
        return [("gmp", {"sparsity": self.config.sparsity})]

    def budget(self, steps):
        return self.times * steps

    def start(self, state):
        masks = state.parent.masks()
        state.load(state.initialise("scratch"))
        if self.config.start == "augmented":
            sp.augment(state.weights, masks, state.stream("augmented"))
        state.set_masks(masks)
