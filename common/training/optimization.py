"""Optimizers, learning rates and data order; the last two are pure functions of the step."""

import math
from typing import Any

import torch

from common import seeds
from common.settings.run import Run


def optimizer(run: Run, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """torch's optimizer for ``run`` over parameter groups; a group's ``scale`` is a factor on its learning rate."""
    for group in groups:
        group.setdefault("scale", 1.0)
    shared: dict[str, Any] = dict(lr=run.learning_rate, weight_decay=run.weight_decay, fused=True)
    if run.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=run.momentum, nesterov=run.nesterov, **shared)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[run.optimizer](groups, **shared)


def learning_rate(run: Run, step: int, steps: int) -> float:
    """The rate of the step that follows ``step`` finished ones, of ``steps`` in all."""
    if run.schedule == "one_cycle":
        return _one_cycle(run, step, steps)
    if step < run.warmup_steps:
        return run.learning_rate * (step + 1) / run.warmup_steps
    progress = (step - run.warmup_steps) / max(1, steps - run.warmup_steps)
    if run.schedule == "linear":
        return run.learning_rate * (1 - progress)
    if run.schedule == "cosine":
        return run.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    if run.schedule == "steps":
        return run.learning_rate * run.decay ** sum(step >= share * steps for share in run.milestones)
    return run.learning_rate


def _one_cycle(run: Run, step: int, steps: int) -> float:
    """One cycle (Smith and Topin, 2018, arXiv:1708.07120), with half cosines as torch's OneCycleLR has them.

    From a 25th of the peak up to it at step ``run.warmup_steps``, and at the last step down to a 10,000th of where it
    began. Unlike torch's, momentum stays as it is.
    """
    peak, top, last = run.learning_rate, max(0, run.warmup_steps - 1), steps - 1
    if step < top:
        start, end, progress = peak / 25, peak, step / top
    else:
        start, end, progress = peak, peak / 25 / 1e4, (step - top) / max(1, last - top)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


class Order:
    """Which examples make up batch ``position``: endless shuffled passes, a function of (seed, position) alone."""

    def __init__(self, seed: int, examples: int, batch_size: int):
        self.seed, self.examples, self.batch_size = seed, examples, batch_size
        self._passes: dict[int, torch.Tensor] = {}

    def _shuffled(self, epoch: int) -> torch.Tensor:
        """int64[examples]: the order of one pass."""
        return torch.randperm(self.examples, generator=seeds.generator(self.seed, "order", epoch))

    def __call__(self, position: int) -> torch.Tensor:
        """int64[batch_size] indices into the training set."""
        first = position * self.batch_size
        pieces, wanted = [], self.batch_size
        while wanted:
            epoch, offset = divmod(first, self.examples)
            if epoch not in self._passes:  # of which the one before may still be asked for
                self._passes = {k: v for k, v in self._passes.items() if k == epoch - 1}
                self._passes[epoch] = self._shuffled(epoch)
            pieces.append(self._passes[epoch][offset : offset + wanted])
            first, wanted = first + len(pieces[-1]), wanted - len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


class OrderByLength(Order):
    """The same with examples of like length in a batch: padding costs time, and batches of one length need none.

    A pass is shuffled and cut into pools of ``pools`` batches; each pool is sorted by length and filled into batches,
    which are shuffled again. A batch that spans two passes takes what comes.
    """

    def __init__(self, seed: int, lengths: torch.Tensor, batch_size: int, pools: int):
        super().__init__(seed, len(lengths), batch_size)
        self.lengths, self.pools = lengths, pools

    def _shuffled(self, epoch: int) -> torch.Tensor:
        order = super()._shuffled(epoch)
        start = min(-epoch * self.examples % self.batch_size, self.examples)  # the end of a batch begun before
        end = start + (self.examples - start) // self.batch_size * self.batch_size
        pools = order[start:end].split(self.pools * self.batch_size)
        batches = [b for pool in pools for b in pool[self.lengths[pool].argsort(stable=True)].split(self.batch_size)]
        again = torch.randperm(len(batches), generator=seeds.generator(self.seed, "batches", epoch)).tolist()
        return torch.cat([order[:start], *(batches[i] for i in again), order[end:]])
