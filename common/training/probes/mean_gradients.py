"""The loss, its gradient and its Hessian's product with that, as means over batches, at weights as they are."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from common.training import optimization
from common.training.probes.undisturbed import undisturbed
from common.training.protocols import AnyState, AnyTrainer


def _losses(trainer: AnyTrainer, state: AnyState, batches: int) -> Iterator[torch.Tensor]:
    """The losses of the first ``batches`` batches of the probe's own stream, one at a time."""
    order = optimization.Order(state.stream("probe"), trainer.examples(), trainer.run.batch_size)
    for position in range(batches):
        yield trainer.loss(state.model, trainer.batch(order(position), position))


def gradients(
    trainer: AnyTrainer, state: AnyState, batches: int, magnitudes: bool, dropout: bool
) -> dict[str, torch.Tensor]:
    """See ``State.probe``."""
    total = {name: torch.zeros_like(w) for name, w in state.weights.items()}
    with undisturbed(trainer, state, dropout):
        for loss in _losses(trainer, state, batches):
            found = torch.autograd.grad(loss, list(state.weights.values()), allow_unused=True)
            for name, gradient in zip(total, found, strict=True):
                if gradient is not None:
                    total[name] += gradient.abs() / batches if magnitudes else gradient / batches
    return total


@torch.no_grad()
def loss(trainer: AnyTrainer, state: AnyState, batches: int, masks: Mapping[str, torch.Tensor] | None) -> float:
    """See ``State.loss``."""
    masks = masks or {}
    kept = {name: w.detach().clone() for name, w in state.weights.items() if masks}
    try:
        for name in kept:
            state.weights[name].mul_(masks[name].to(state.weights[name].device))
        with undisturbed(trainer, state):
            total = sum(loss.item() for loss in _losses(trainer, state, batches))
    finally:
        for name, value in kept.items():
            state.weights[name].copy_(value)
    return trainer.team.mean(total / batches)  # a choice made by it is then the same in all processes


def hessian_gradient(trainer: AnyTrainer, state: AnyState, batches: int, temperature: float) -> dict[str, torch.Tensor]:
    """See ``State.hessian_gradient``."""
    weights = list(state.weights.values())
    mean, total = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    plain = sdpa_kernel(SDPBackend.MATH)  # the other kernels have no second derivative
    with plain, _divided(state.model, temperature):
        with undisturbed(trainer, state):
            for loss in _losses(trainer, state, batches):
                _add(mean, torch.autograd.grad(loss, weights, allow_unused=True), batches)
        with undisturbed(trainer, state):  # the same random numbers again
            for loss in _losses(trainer, state, batches):
                found = torch.autograd.grad(loss, weights, allow_unused=True, create_graph=True)
                product = sum((a * b).sum() for a, b in zip(found, mean) if a is not None)
                if torch.is_tensor(product) and product.requires_grad:  # else no weight changes any gradient
                    _add(total, torch.autograd.grad(product, weights, allow_unused=True), batches)
    return dict(zip(state.weights, total))


def _add(total: list[torch.Tensor], found: Iterable[torch.Tensor | None], batches: int) -> None:
    for sum_, value in zip(total, found, strict=True):
        if value is not None:
            sum_ += value / batches


@contextmanager
def _divided(model: nn.Module, temperature: float) -> Iterator[None]:
    """Inside, all real outputs of the model come divided by ``temperature``."""

    def divide(value: Any) -> Any:
        return value / temperature if torch.is_tensor(value) and value.is_floating_point() else value

    hook = model.register_forward_hook(lambda module, inputs, output: pytree.tree_map(divide, output))
    try:
        yield
    finally:
        hook.remove()
