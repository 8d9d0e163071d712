"""What reaches each weight of a trained network: for methods that look at inputs (Wanda, DSnoT), not at gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from common.sparsity.weights import CONVOLUTIONS, owners
from common.training import optimization
from common.training.probes.undisturbed import modes_kept
from common.training.protocols import AnyState, AnyTrainer


class Inputs(NamedTuple):
    """For each input of a weight matrix (input channel of a kernel), over examples and positions: float32[inputs] each.

    ``norm``: the root of the sum of squares; ``mean`` and ``variance`` (with all in the denominator).
    """

    norm: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor


@torch.no_grad()
def inputs(trainer: AnyTrainer, state: AnyState, batches: int) -> dict[str, Inputs]:
    """See ``State.activations``."""
    sums: dict[str, list[torch.Tensor]] = {name: [] for name in state.weights}
    hooks = []
    try:
        for name, attribute, _, module in owners(state.model, state.weights):
            _check(name, attribute, module)
            hooks.append(module.register_forward_pre_hook(_adding(sums[name], module), with_kwargs=True))
        order = optimization.Order(state.stream("activations"), trainer.examples(), trainer.run.batch_size)
        with modes_kept(state.model), trainer.random_stream("activations", "noise"):
            state.model.eval()
            for position in range(batches):
                trainer.loss(state.model, trainer.batch(order(position), position))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _finish(name, found) for name, found in sums.items()}


def _check(name: str, attribute: str, module: nn.Module) -> None:
    kernel = isinstance(module, CONVOLUTIONS) and module.groups == 1
    if attribute != "weight" or not (kernel or isinstance(module, nn.Linear)):
        groups = f" with {module.groups} groups" if isinstance(module, CONVOLUTIONS) else ""
        raise ValueError(
            f"{name} belongs to a {type(module).__name__}{groups}: inputs are measured of linear layers and of "
            "convolutions without groups; leave it dense (run.exclude)"
        )


def _adding(sums: list[torch.Tensor], module: nn.Module) -> Callable[..., None]:
    """Adds up, in float64, how many inputs there were, their sum and their squares."""

    def add(_: nn.Module, arguments: tuple, named: dict[str, Any]) -> None:
        values = (arguments[0] if arguments else named["input"]).double()
        if isinstance(module, CONVOLUTIONS):
            values = values.movedim(-len(module.kernel_size) - 1, -1)
        rows = values.flatten(0, -2) if values.ndim > 1 else values[None]
        found = [torch.tensor(float(len(rows)), dtype=torch.float64), rows.sum(0), rows.square().sum(0)]
        sums[:] = [a + b for a, b in zip(sums, found, strict=True)] if sums else found

    return add


def _finish(name: str, found: list[torch.Tensor]) -> Inputs:
    if not found or not found[0]:
        raise ValueError(f"{name} was used without calling the layer that owns it, or not at all: leave it dense")
    count, total, squares = found
    mean = total / count
    return Inputs(squares.sqrt().float(), mean.float(), (squares / count - mean.square()).clamp(min=0).float())
