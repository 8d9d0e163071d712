"""Learning from the dense network as well as from the labels (Hinton, Vinyals and Dean, 2015)."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import kl_div, log_softmax

from common import sparsity as sp
from common.errors import UserError
from common.training.state import State


class Teacher:
    """The dense network from which a line of stages descends, with its final weights, in evaluation mode.

    It sees what the student's forward pass was given, whatever the task: the loss belongs to the last forward pass in
    training mode. ``temperature``: logits of both are divided by it.
    """

    def __init__(self, state: State, temperature: float):
        self.temperature = temperature
        self.model = state.build().to(next(state.model.parameters()).device)
        sp.restore(self.model, state.parent.of_root())
        self.model.eval().requires_grad_(False)
        self.seen: list[tuple[tuple, dict[str, Any], Any]] = []
        state.model.register_forward_hook(self._remember, with_kwargs=True)

    def _remember(self, module: nn.Module, inputs: tuple, named: dict[str, Any], output: Any) -> None:
        if module.training and torch.is_grad_enabled():
            self.seen.append((inputs, named, output))

    def loss(self) -> torch.Tensor:
        """T^2 KL(teacher || student) over the last dimension, mean over the rest; a scalar with gradient.

        Where all the teacher's logits are 0 nothing was asked: that is padding, which does not count. The factor T^2
        keeps gradients comparable over temperatures (their section on distillation).
        ``UserError``: the network gives no logits.
        """
        if len(self.seen) != 1 or not _logits(self.seen[0][2]):
            found = f"{len(self.seen)} forward passes" if len(self.seen) != 1 else type(self.seen[0][2]).__name__
            self.seen.clear()
            raise UserError(
                "method.distill needs a network whose forward pass, called once a batch, returns logits of two or more "
                f"classes, found {found}; train this task without it"
            )
        inputs, named, output = self.seen.pop()
        with torch.no_grad():
            target = self.model(*inputs, **named)
        student, teacher = (log_softmax(x.float() / self.temperature, -1).flatten(0, -2) for x in (output, target))
        asked = target.flatten(0, -2).any(-1)
        apart = kl_div(student[asked], teacher[asked], reduction="sum", log_target=True)
        return self.temperature**2 * apart / asked.sum().clamp(min=1)


def _logits(output: Any) -> bool:
    return torch.is_tensor(output) and output.is_floating_point() and output.ndim > 1 and output.shape[-1] > 1
