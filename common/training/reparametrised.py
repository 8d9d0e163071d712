"""Learned tensors beside the model, and effective weights computed from them: what the loss calls then."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Effective = Callable[[], dict[str, torch.Tensor]]


class Reparametrised(nn.Module):
    """The model as the loss sees it in training: with other weights than the stored ones, or with learned noise.

    ``learned``: parameters that are no part of the model; they are registered here so that what wraps this module
    averages their gradients too. ``effective()`` returns ``{name: tensor}``, the weights (of the stored ones' shapes)
    that take the stored ones' places in training mode, one call a forward pass: gradients go through it to all it was
    computed from. None: the stored weights themselves. In evaluation mode the model is called as it is.
    """

    def __init__(self, model: nn.Module, learned: dict[str, nn.Parameter], effective: Effective | None = None):
        super().__init__()
        self.model, self.learned, self.effective = model, nn.ParameterList(learned.values()), effective

    def forward(self, *arguments: Any, **named: Any) -> Any:
        if self.effective is None or not self.model.training:
            return self.model(*arguments, **named)
        return torch.func.functional_call(self.model, self.effective(), arguments, named)
