"""Looking at a network without training it: whatever that changes is put back."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from common.training.protocols import AnyState, AnyTrainer

BATCH_NORMALISATION = nn.modules.batchnorm._BatchNorm


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Inside, modules may be put into training or evaluation mode; afterwards each is in its own again."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def differentiable(model: nn.Module) -> AbstractContextManager:
    """Inside, there are gradients in evaluation mode, which cuDNN's recurrent layers do not have."""
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    return torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()


@contextmanager
def undisturbed(trainer: AnyTrainer, state: AnyState, dropout: bool = False) -> Iterator[None]:
    """Inside, the loss can be taken: weights aside, whatever that changes is put back. Gradients reach all layers."""
    buffers = {name: buffer.clone() for name, buffer in state.model.named_buffers()}
    with modes_kept(state.model):
        state.model.train(dropout)
        for module in state.model.modules():
            if isinstance(module, BATCH_NORMALISATION):  # its running averages mean nothing before training
                module.train()
        try:
            with trainer.random_stream("probe", "noise"), differentiable(state.model):
                yield
        finally:
            with torch.no_grad():
                for name, buffer in state.model.named_buffers():
                    buffer.copy_(buffers[name])
