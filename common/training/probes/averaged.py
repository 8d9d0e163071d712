"""Looking at a network without training it, for scores that are taken before the first step."""

import copy
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from common.training import optimization

_BATCH = nn.modules.batchnorm._BatchNorm
_BY_CHANNEL = (_BATCH, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)  # scaled along axis 1, others the last
_TABLES = (nn.Embedding, nn.EmbeddingBag)
_NOTHING = 1e-9  # a share of the whole flow that rounding explains


@contextmanager
def modes_kept(model: nn.Module):
    """Inside, modules may be put into training or evaluation mode; afterwards each is in its own again."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _undisturbed(trainer, state, dropout: bool = False):
    """Inside, the loss can be taken: weights aside, whatever that changes is put back. Gradients reach all layers."""
    buffers = {name: buffer.clone() for name, buffer in state.model.named_buffers()}
    # cuDNN's recurrent layers have no gradient in evaluation mode
    recurrent = any(isinstance(module, nn.RNNBase) for module in state.model.modules())
    plain = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()
    with modes_kept(state.model):
        _set_modes(state.model, dropout)
        try:
            with trainer.random_stream("probe", "noise"), plain:
                yield
        finally:
            with torch.no_grad():
                for name, buffer in state.model.named_buffers():
                    buffer.copy_(buffers[name])


def _set_modes(model: nn.Module, dropout: bool) -> None:
    """Evaluation mode except for batch normalisation, whose running averages mean nothing before training."""
    model.train(dropout)
    for module in model.modules():
        if isinstance(module, _BATCH):
            module.train()


def _losses(trainer, state, batches: int):
    """The losses of the first ``batches`` batches of the probe's own stream, one at a time."""
    order = optimization.Order(state.stream("probe"), trainer.examples(), trainer.run.batch_size)
    for position in range(batches):
        yield trainer.loss(state.model, trainer.batch(order(position), position))


def gradients(trainer, state, batches: int, magnitudes: bool, dropout: bool) -> dict[str, torch.Tensor]:
    """See ``State.probe``."""
    total = {name: torch.zeros_like(w) for name, w in state.weights.items()}
    with _undisturbed(trainer, state, dropout):
        for loss in _losses(trainer, state, batches):
            found = torch.autograd.grad(loss, list(state.weights.values()), allow_unused=True)
            for name, gradient in zip(total, found, strict=True):
                if gradient is not None:
                    total[name] += gradient.abs() / batches if magnitudes else gradient / batches
    return total


@torch.no_grad()
def loss(trainer, state, batches: int, masks) -> float:
    """See ``State.loss``."""
    kept = {name: w.detach().clone() for name, w in state.weights.items()} if masks else {}
    try:
        for name in kept:
            state.weights[name].mul_(masks[name].to(state.weights[name].device))
        with _undisturbed(trainer, state):
            total = sum(loss.item() for loss in _losses(trainer, state, batches))
    finally:
        for name, value in kept.items():
            state.weights[name].copy_(value)
    return trainer.team.mean(total / batches)  # a choice made by it is then the same in all processes


def hessian_gradient(trainer, state, batches: int, temperature: float) -> dict[str, torch.Tensor]:
    """See ``State.hessian_gradient``."""
    weights = list(state.weights.values())
    mean, total = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    plain = sdpa_kernel(SDPBackend.MATH)  # the other kernels have no second derivative
    with plain, _divided(state.model, temperature):
        with _undisturbed(trainer, state):
            for loss in _losses(trainer, state, batches):
                _add(mean, torch.autograd.grad(loss, weights, allow_unused=True), batches)
        with _undisturbed(trainer, state):  # the same random numbers again
            for loss in _losses(trainer, state, batches):
                found = torch.autograd.grad(loss, weights, allow_unused=True, create_graph=True)
                product = sum((a * b).sum() for a, b in zip(found, mean) if a is not None)
                if torch.is_tensor(product) and product.requires_grad:  # else no weight changes any gradient
                    _add(total, torch.autograd.grad(product, weights, allow_unused=True), batches)
    return dict(zip(state.weights, total))


def _add(total: list[torch.Tensor], found, batches: int) -> None:
    for sum_, value in zip(total, found, strict=True):
        if value is not None:
            sum_ += value / batches


@contextmanager
def _divided(model: nn.Module, temperature: float):
    """Inside, all real outputs of the model come divided by ``temperature``."""

    def divide(value):
        return value / temperature if torch.is_tensor(value) and value.is_floating_point() else value

    hook = model.register_forward_hook(lambda module, inputs, output: pytree.tree_map(divide, output))
    try:
        yield
    finally:
        hook.remove()


# --- synaptic flow ----------------------------------------------------------------------------------------------------


class _Reached(Exception):
    """The model's output, on its way past the loss."""


def synaptic_flow(trainer, state) -> dict[str, torch.Tensor]:
    """See ``State.synaptic_flow``."""
    for path, module in state.model.named_modules():
        if isinstance(module, nn.RNNBase | nn.RNNCellBase):
            raise ValueError(
                f"synaptic flow is not defined through gates, and {path or 'the model'} is a {type(module).__name__}: "
                "take another method"
            )
        if isinstance(module, _TABLES):
            for name in (name for name, weight in state.weights.items() if weight is module.weight):
                raise ValueError(f"synaptic flow starts behind embeddings, {name} gets no score: leave it dense")
    twin = _positive(state.model)
    named = dict(twin.named_parameters(remove_duplicate=False))
    weights = {name: named[name].requires_grad_() for name in state.weights}
    with trainer.random_stream("probe", "noise"):
        output = _from_ones(trainer, state, twin)
    whole = output.sum()
    found = torch.autograd.grad(whole, list(weights.values()), allow_unused=True) if whole.requires_grad else ()
    flow = {name: torch.zeros_like(w, requires_grad=False) for name, w in weights.items()}
    dense = state.masks.kept == state.masks.total
    if whole == 0 and not dense:  # no path from the inputs to the outputs is left
        return flow
    if whole == 0:
        raise ValueError("nothing flows from the inputs of this model to its outputs: a layer has no weight but zeros")
    if not all(torch.isfinite(value).all() for value in (whole, *found) if value is not None):
        raise ValueError("the synaptic flow of this model is beyond double precision")
    for (name, weight), gradient in zip(weights.items(), found):
        if gradient is not None:
            flow[name] = weight.detach() * gradient / whole.detach()
            _check_flow(name, flow[name], dense)
    return flow


def _check_flow(name: str, shares: torch.Tensor, dense: bool) -> None:
    """``ValueError`` where the theory does not hold: every layer linear in what reaches it, all of that positive."""
    units = shares.flatten(1).sum(1)
    if shares.clamp(max=0).sum() < -_NOTHING:
        what = "is negative in part"
    elif dense and (units <= _NOTHING * units.mean().clamp(min=_NOTHING)).double().mean() >= 0.5:
        what = "is nothing"  # queries and keys of attention, fused or not: their softmax does not see equal inputs
    else:
        return
    raise ValueError(
        f"the synaptic flow through {name} {what}: it is defined for networks of linear layers, rectifiers and "
        f"normalisations. Leave such weights dense (run.exclude), or take another method"
    )


def _positive(model: nn.Module) -> nn.Module:
    """A copy in double precision and evaluation mode with |w| for every parameter and nothing that adds a constant."""
    twin = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            bias = parameter.ndim < 2 and "bias" in name.split(".")[-1]
            parameter.abs_().mul_(not bias)
    kinds = (*_BY_CHANNEL, nn.LayerNorm, nn.RMSNorm)
    for module in [module for module in twin.modules() if isinstance(module, kinds)]:
        module.register_forward_hook(_scaled)
    return twin


def _scaled(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    """A normalisation as the linear map it is in evaluation, without its shift; statistics of ones mean nothing."""
    (values,) = inputs
    scale = torch.ones((), dtype=values.dtype) if module.weight is None else module.weight
    if isinstance(module, _BATCH) and module.running_var is not None:
        scale = scale / torch.sqrt(module.running_var + module.eps)
    if isinstance(module, _BY_CHANNEL) and scale.ndim:
        scale = scale.view(-1, *[1] * (values.ndim - 2))
    return values * scale


def _from_ones(trainer, state, twin: nn.Module) -> torch.Tensor:
    """The output of ``twin`` for one example whose real inputs, or whose embeddings, are all ones."""
    met = []

    def ones(value):
        if not torch.is_tensor(value) or not value.is_floating_point():
            return value
        met.append(value)
        return torch.ones_like(value, dtype=torch.float64)

    def reached(module, arguments, output):
        raise _Reached(next(v for v in pytree.tree_leaves(output) if torch.is_tensor(v) and v.is_floating_point()))

    twin.register_forward_pre_hook(lambda _, *arguments: pytree.tree_map(ones, arguments), with_kwargs=True)
    for module in [module for module in twin.modules() if isinstance(module, _TABLES)]:
        module.register_forward_hook(lambda _, arguments, output: ones(output))
    twin.register_forward_hook(reached)
    order = optimization.Order(state.stream("probe"), trainer.examples(), trainer.run.batch_size)
    batch, precision = trainer.batch(order(0)[:1], 0), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # for what a model creates on the way, such as first hidden states
    try:
        trainer.loss(twin, batch)
    except _Reached as reached:
        if met:
            return reached.args[0]
        raise ValueError(
            "synaptic flow has nowhere to start: the model has neither real inputs nor embeddings"
        ) from None
    finally:
        torch.set_default_dtype(precision)
    raise ValueError("the task's loss does not call the model itself: synaptic flow cannot be measured")
