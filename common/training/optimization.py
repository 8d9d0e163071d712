"""Optimizers, learning rates and data order; the last two are pure functions of the step."""

import math

import torch

from common import seeds


def optimizer(run, groups: list[dict]) -> torch.optim.Optimizer:
    """torch's optimizer for ``run`` over parameter groups; a group's ``scale`` is a factor on its learning rate."""
    for group in groups:
        group.setdefault("scale", 1.0)
    shared = dict(lr=run.learning_rate, weight_decay=run.weight_decay, fused=True)
    if run.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=run.momentum, nesterov=run.nesterov, **shared)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[run.optimizer](groups, **shared)


def learning_rate(run, step: int, steps: int) -> float:
    """The rate of the step that follows ``step`` finished ones, of ``steps`` in all."""
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


class Order:
    """Which examples make up batch ``position``: endless shuffled passes, a function of (seed, position) alone."""

    def __init__(self, seed: int, examples: int, batch_size: int):
        self.seed, self.examples, self.batch_size = seed, examples, batch_size
        self._passes: dict[int, torch.Tensor] = {}

    def _permutation(self, epoch: int) -> torch.Tensor:
        if epoch not in self._passes:
            self._passes = {k: v for k, v in self._passes.items() if k == epoch - 1}  # a batch spans two passes at most
            self._passes[epoch] = torch.randperm(self.examples, generator=seeds.generator(self.seed, "order", epoch))
        return self._passes[epoch]

    def __call__(self, position: int) -> torch.Tensor:
        """int64[batch_size] indices into the training set."""
        first = position * self.batch_size
        pieces, wanted = [], self.batch_size
        while wanted:
            epoch, offset = divmod(first, self.examples)
            piece = self._permutation(epoch)[offset : offset + wanted]
            pieces.append(piece)
            first, wanted = first + len(piece), wanted - len(piece)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
