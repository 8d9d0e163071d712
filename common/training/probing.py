"""Looking at gradients without training: for scores that are taken before the first step."""

import torch
from torch import nn

from common.training import optimization


def gradients(trainer, state, batches: int, magnitudes: bool, dropout: bool) -> dict[str, torch.Tensor]:
    """See ``State.probe``."""
    buffers = {name: buffer.clone() for name, buffer in state.model.named_buffers()}
    modes = {module: module.training for module in state.model.modules()}
    total = {name: torch.zeros_like(w) for name, w in state.weights.items()}
    order = optimization.Order(state.stream("probe"), trainer.examples(), trainer.run.batch_size)
    _set_modes(state.model, dropout)
    with trainer.random_stream("probe", "noise"):
        for position in range(batches):
            loss = trainer.loss(state.model, trainer.batch(order(position), position))
            found = torch.autograd.grad(loss, list(state.weights.values()), allow_unused=True)
            for name, gradient in zip(total, found, strict=True):
                if gradient is not None:
                    total[name] += gradient.abs() / batches if magnitudes else gradient / batches
    with torch.no_grad():
        for name, buffer in state.model.named_buffers():
            buffer.copy_(buffers[name])
    for module, training in modes.items():
        module.training = training
    return total


def _set_modes(model: nn.Module, dropout: bool) -> None:
    """Evaluation mode except for batch normalisation, whose running averages mean nothing before training."""
    model.train(dropout)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
