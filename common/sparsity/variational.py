"""Gaussian noise on weights whose size is learned: variational dropout (Molchanov, Ashukha and Vetrov, ICML 2017).

A weight is drawn from N(theta, sigma^2). Where alpha = sigma^2 / theta^2 is large, the weight is all noise and can go.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from common.sparsity.masks import Tensors
from common.sparsity.weights import CONVOLUTIONS, owners

LARGEST = 8.0  # log alpha is held in [-8, 8] where the divergence is measured: beyond, it is flat
_TINY = 1e-8  # keeps logarithm and square root finite, as in the paper's own code
_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695  # the paper's fit of the divergence


def starting_log_variance(weight: torch.Tensor, value: float) -> torch.Tensor:
    """``value`` for each weight, on its device; in float32 or better, as log variances move by little."""
    return weight.detach().new_full(weight.shape, value, dtype=torch.promote_types(weight.dtype, torch.float32))


def log_alpha(weight: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """log(sigma^2 / theta^2) of each weight (equal shapes, real), not clipped; finite also where the weight is zero."""
    return log_variance - (weight.to(log_variance.dtype).square() + _TINY).log()


def noisy(weight: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """A draw of N(weight, exp(log_variance)), of equal shapes, from torch's global stream; gradients reach both."""
    return weight + (log_variance / 2).exp().to(weight.dtype) * torch.randn_like(weight)


def recurrent(model: nn.Module, weights: Tensors) -> list[str]:
    """The names of those of ``weights`` that a recurrent layer owns, and so uses at every step of its sequence.

    In definition order, each once: noise is drawn in this order, which must be the same in every process.
    """
    return list(dict.fromkeys(n for n, _, _, module in owners(model, weights) if isinstance(module, nn.RNNBase)))


def divergence(log_alpha: torch.Tensor) -> torch.Tensor:
    """KL(N(theta, alpha theta^2) || log-uniform prior) of each weight, in nats, by the paper's approximation.

    Zero for log alpha -> infinity; log alpha is clipped to [-8, 8] first. At most 0.0095 from the integral.
    """
    held = log_alpha.float().clamp(-LARGEST, LARGEST)
    return _K1 * (1 - torch.sigmoid(_K2 + _K3 * held)) + 0.5 * functional.softplus(-held)


class LocalNoise:
    """Adds to a layer's output, in training mode, the noise that noisy weights would give it.

    The local reparametrisation (Kingma, Salimans and Welling, NeurIPS 2015): an output that is
    linear in independent Gaussian weights is Gaussian, with variance sum of input^2 sigma^2; it is drawn itself, for
    each example, position and lookup of an embedding anew, from torch's global stream. ``weights`` and
    ``log_variances``: tensors by name, of equal shapes.

    Every module that owns one of the weights gets a hook; a tied weight has several. ``ValueError`` if one is neither
    a linear layer nor a convolution (1, 2 or 3 dimensions, any padding) nor an embedding. A function that uses a tied
    embedding's table without calling a module goes unnoticed, and sees it without noise.
    """

    def __init__(self, model: nn.Module, weights: Tensors, log_variances: Tensors):
        self._waiting: dict[nn.Module, str] = {}  # modules that have not been called yet, and the weight of each
        for name, attribute, path, module in owners(model, weights):
            if attribute != "weight" or not _known(module):
                raise ValueError(
                    f"{name} belongs to {path or 'the model itself'}, a {type(module).__name__}: noise can be added "
                    "to linear layers, convolutions and embeddings alone"
                )
            self._waiting[module] = name
            module.register_forward_hook(self._hook(log_variances[name]), with_kwargs=True)

    def check(self) -> None:
        """After a forward pass in training mode: ``ValueError`` if a weight's module was not called: no noise."""
        if self._waiting:
            module, name = next(iter(self._waiting.items()))
            raise ValueError(
                f"{name} was used without calling the {type(module).__name__} that owns it, or not at all (in training "
                "mode): no noise can be added"
            )

    def _hook(self, log_variance: torch.Tensor) -> Callable[..., torch.Tensor]:
        def add(module: Any, arguments: tuple, named: dict[str, Any], output: torch.Tensor) -> torch.Tensor:
            if not module.training:
                return output
            self._waiting.pop(module, None)
            inputs = arguments[0] if arguments else named["input"]
            variance = log_variance.exp().to(module.weight.dtype)
            deviation = (_variance(module, inputs, variance) + _TINY).sqrt()
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                deviation = deviation * (inputs != module.padding_idx).unsqueeze(-1)
            return output + deviation * torch.randn_like(output)

        return add


def _known(module: nn.Module) -> bool:
    """Is it one of the layers we know, and not one that computes something else under their name?"""
    own: Any = type(module)
    kinds: list[Any] = [kind for kind in (nn.Linear, nn.Embedding, *CONVOLUTIONS) if isinstance(module, kind)]
    if not kinds or own.forward is not kinds[0].forward:
        return False
    return kinds[0] not in CONVOLUTIONS or own._conv_forward is kinds[0]._conv_forward


def _variance(module: Any, inputs: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """The variance of the module's output where its weights have ``variance``."""
    if isinstance(module, nn.Embedding):
        return functional.embedding(inputs, variance)
    if isinstance(module, nn.Linear):
        return functional.linear(inputs.square(), variance)
    return module._conv_forward(inputs.square(), variance, None)  # which pads as the module does
