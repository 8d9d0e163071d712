"""How much of what flows through a network passes each weight: SynFlow's score (see ``State.synaptic_flow``)."""

import copy
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from common.training import optimization
from common.training.probes.undisturbed import BATCH_NORMALISATION
from common.training.protocols import AnyState, AnyTrainer

_BY_CHANNEL = (BATCH_NORMALISATION, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)  # scaled along axis 1
_TABLES = (nn.Embedding, nn.EmbeddingBag)
_NOTHING = 1e-9  # a share of the whole flow that rounding explains


class _Reached(Exception):
    """The model's output, on its way past the loss."""


def scores(trainer: AnyTrainer, state: AnyState) -> dict[str, torch.Tensor]:
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


def _scaled(module: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    """A normalisation as the linear map it is in evaluation, without its shift; statistics of ones mean nothing."""
    (values,) = inputs
    scale = torch.ones((), dtype=values.dtype) if module.weight is None else module.weight
    if isinstance(module, BATCH_NORMALISATION) and module.running_var is not None:
        scale = scale / torch.sqrt(module.running_var + module.eps)
    if isinstance(module, _BY_CHANNEL) and scale.ndim:
        scale = scale.view(-1, *[1] * (values.ndim - 2))
    return values * scale


def _from_ones(trainer: AnyTrainer, state: AnyState, twin: nn.Module) -> torch.Tensor:
    """The output of ``twin`` for one example whose real inputs, or whose embeddings, are all ones."""
    met: list[torch.Tensor] = []

    def ones(value: Any) -> Any:
        if not torch.is_tensor(value) or not value.is_floating_point():
            return value
        met.append(value)
        return torch.ones_like(value, dtype=torch.float64)

    def leave(module: nn.Module, arguments: tuple, output: Any) -> None:
        raise _Reached(next(v for v in pytree.tree_leaves(output) if torch.is_tensor(v) and v.is_floating_point()))

    twin.register_forward_pre_hook(lambda _, *arguments: pytree.tree_map(ones, arguments), with_kwargs=True)
    for module in [module for module in twin.modules() if isinstance(module, _TABLES)]:
        module.register_forward_hook(lambda _, arguments, output: ones(output))
    twin.register_forward_hook(leave)
    order = optimization.Order(state.stream("probe"), trainer.examples(), trainer.run.batch_size)
    batch, precision = trainer.batch(order(0)[:1], 0), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # for what a model creates on the way, such as first hidden states
    try:
        trainer.loss(twin, batch)
    except _Reached as reached:
        if met:
            return reached.args[0]
        none = "the model has neither real inputs nor embeddings"
        raise ValueError(f"synaptic flow has nowhere to start: {none}") from None
    finally:
        torch.set_default_dtype(precision)
    raise ValueError("the task's loss does not call the model itself: synaptic flow cannot be measured")
