"""oBERT, the optimal BERT surgeon: after training, prune by second-order information in blocks (Kurtic et al., 2022).

EMNLP 2022, and the authors' code in sparseml. With F the block-diagonal empirical Fisher matrix of ``gradients``
batches (``common/sparsity/fisher.py``), the weights of all tensors with the lowest w_i^2 / (2 [F^-1]_ii) go, and those
that stay in a block are moved to make up for it. What is pruned stays so and has no part in later F.

``prunings=1`` prunes once and then retrains, as SMC-Bench does (whose code can also prune in rounds). ``prunings=7`` is
the paper's gradual pruning: to 70% after 2 of 30 epochs, then along a cubic every fourth epoch until the 26th (its
learning rate, which returns to its peak after each pruning, is not here; its recipes learn from the dense network
alone, the task's own loss counts nothing, while ``distill`` is added to that loss). ``recomputations`` splits each
pruning further.

Deviations: arithmetic is in float64, some gradients at a time; the 1.2e-7 that the code adds to 2 [F^-1]_ii in the
score, and to [F^-1]_ii in the correction, is left out; counts are exact. ``update=joint`` is not in the paper's
experiments: with it the correction is the optimum for all weights of a block that go, which costs little and, on the
digits, loses less.
"""

import math
from dataclasses import dataclass
from functools import partial

from common import sparsity as sp
from common.errors import UserError
from common.methods.families.after_training import Retrained, Retraining, State, allocated
from common.settings.schema import option


@dataclass
class Config(Retraining):
    allocation: str = allocated()
    block: int = option(50, "weights per block of the Fisher matrix; 4 bytes x (block + 16) per weight", least=1)
    gradients: int = option(1024, "training batches whose gradients make up the Fisher matrix", least=1)
    damping: float = option(1e-7, "added to the diagonal of the Fisher matrix; worth tuning for each network", above=0)
    recomputations: int = option(1, "equal parts in which weights go, each with a Fisher matrix of its own", least=1)
    update: str = option(
        "single",
        "how survivors make up for pruned weights",
        choices={
            "single": "each one's own, summed, as published",
            "joint": "exact for all that go from a block",
            "none": "",
        },
    )
    passes: int = option(
        1, "parts in which blocks come: less memory, gradients taken 2 passes - 1 times", least=1, identity=False
    )
    prunings: int = option(1, "1: at once, before retraining; more: as many during it, the last at share end", least=1)
    initial: float = option(0.7, "prunings above 1: sparsity of the first, at most the target", least=0, below=1)
    begin: float = option(2 / 30, "prunings above 1: share of training after which the first comes", least=0, below=1)
    end: float = option(26 / 30, "prunings above 1: share of training after which the last comes", above=0, most=1)


class Method(Retrained):
    Config = Config
    facts = Retrained.facts.but(
        paper="Kurtic et al., EMNLP 2022, arXiv:2203.07259",
        score="w^2 / (2 [F^-1]_ii), with blocks of the empirical Fisher matrix",
        schedule="once, before retraining; with `prunings` a cubic from `initial` during it",
        topology="shrinks; survivors are corrected",
        choosing=lambda config: 4 * (config.block + 16) / config.passes + 20,
        looks=lambda config: (2 * config.passes - 1) * config.gradients * config.recomputations * config.prunings,
    )

    def complaints(self) -> list[str]:
        found, c = super().complaints(), self.config
        if c.begin >= c.end:
            found.append(f"method.begin must be below method.end, found {c.begin} and {c.end}")
        if c.prunings > 1 and c.retrain == "weights":
            found.append("method.retrain=weights goes back to early weights after pruning: it needs method.prunings=1")
        if c.prunings > 1 and c.retrain == "none":
            found.append("method.retrain=none has no steps to prune in: it needs method.prunings=1")
        return found

    def complaints_for(self, steps: int) -> list[str]:
        found = super().complaints_for(steps)
        begin, end, _ = self.window(self.budget(steps))
        if self.config.prunings > 1 and end - begin < self.config.prunings - 1:
            found.append(f"method.prunings={self.config.prunings} do not fit between steps {begin} and {end}")
        return found

    def ancestors(self) -> list[tuple[str, dict]]:
        return [("dense", {})]

    def window(self, steps: int) -> tuple[int, int, int]:
        """The steps after which the first and the last gradual pruning come, and those from one to the next."""
        begin, end = (max(1, round(share * steps)) for share in (self.config.begin, self.config.end))
        return begin, end, max(1, math.ceil((end - begin) / max(1, self.config.prunings - 1)))

    def start(self, state: State) -> None:
        self.check_memory(state)
        self.load_trained(state)
        if self.config.prunings == 1:
            self.prune(state, self.config.sparsity)
            self.restart(state)
            state.set_masks(state.masks.bits)  # the early weights of retrain=weights are dense

    def check_memory(self, state: State) -> None:
        c, total = self.config, state.masks.total
        device = next(iter(state.weights.values())).device
        needed, free = sp.InverseFisher.memory(state.weights, c.block, c.passes), state.free_memory()
        if needed > free:
            raise UserError(
                f"oBERT needs {needed / 2**30:.3g} GiB for {total:,} weights with method.block={c.block} (4 bytes x "
                f"(block + 16) each, method.passes={c.passes}), {free / 2**30:.3g} GiB are free on {device}; give a "
                f"smaller method.block, more method.passes, or METHOD=obd (blocks of one weight, without correction)"
            )

    def prune(self, state: State, sparsity: float) -> None:
        """To ``sparsity``, in equal parts of what is missing (linear in sparsity, as in the authors' code)."""
        c, before = self.config, state.masks.sparsity
        if sp.kept_count(state.masks.total, sparsity) == state.masks.kept:
            return
        for part in range(1, c.recomputations + 1):
            last = part == c.recomputations
            level = sparsity if last else before + (sparsity - before) * part / c.recomputations
            batches = range((part - 1) * c.gradients, part * c.gradients)
            sample = partial(state.gradients_of, batches)
            inverse = sp.InverseFisher(state.masks, sample, c.gradients, c.block, c.damping, c.passes)
            masks = self.choose(state, sp.surgeon(state.weights, inverse.diagonal()), level, within=state.masks)
            state.set_masks(masks, correction=inverse.correction(masks, c.update))

    def on_step(self, state: State) -> None:
        if self.config.prunings > 1:
            begin, end, every = self.window(state.steps)
            if sp.due(state.step, begin, end, every):
                initial = min(self.config.initial, self.config.sparsity)
                self.prune(state, sp.cubic(state.step, begin, end, self.config.sparsity, initial))

    def settled(self, step: int, steps: int) -> bool:
        return self.config.prunings == 1 or step >= self.window(steps)[1]
