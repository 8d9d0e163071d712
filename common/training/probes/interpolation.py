"""Along the straight line between two networks of one kind: what became of the score and the loss on the way?

Frankle, Dziugaite, Roy and Carbin, *Linear Mode Connectivity and the Lottery Ticket Hypothesis* (ICML 2020).
All floating-point tensors of the state are interpolated, the running averages of batch normalisation among them, and
nothing is estimated anew. Whoever compares with other work should know its choice: statistics that are estimated anew
at every point (Jordan et al., ICLR 2023) lower the barrier, often by much. Other tensors, such as counters, are those
of the second network.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from common import sparsity as sp
from common.sparsity.masks import Tensors

Found = TypeVar("Found")


def between(first: Tensors, second: Tensors, alpha: float) -> Tensors:
    """(1 - alpha) first + alpha second, of two states of one model; exactly first at 0, second at 1."""
    return {n: torch.lerp(first[n], v, alpha) if v.is_floating_point() else v for n, v in second.items()}


def along(
    model: nn.Module, first: Tensors, second: Tensors, points: int, evaluate: Callable[[nn.Module], Found]
) -> list[Found]:
    """``evaluate(model)`` at ``points`` evenly spaced places, from ``first`` to ``second``, both included.

    The model is in evaluation mode, and has the weights of ``second`` afterwards.
    """
    model.eval()
    found = []
    for place in range(points):
        sp.restore(model, between(first, second, place / (points - 1)))
        found.append(evaluate(model))
    return found


def height(errors: list[float]) -> tuple[float, float]:
    """The error barrier and where it is highest, alpha in [0, 1]: max over alpha of E(alpha), minus the mean of E at
    both ends; NaN where an error is.

    ``errors``: at evenly spaced places, ends included, so it is never negative: two ends that differ have a height of
    half their difference even without anything in between.
    """
    for place, error in enumerate(errors):
        if math.isnan(error):
            return math.nan, place / (len(errors) - 1)
    place = max(range(len(errors)), key=lambda i: errors[i])
    return errors[place] - (errors[0] + errors[-1]) / 2, place / (len(errors) - 1)


def distance(first: Tensors, second: Tensors) -> float:
    """The Euclidean distance of two states' floating-point tensors."""
    apart = (v.double() - first[n].double() for n, v in second.items() if v.is_floating_point())
    return math.sqrt(math.fsum(values.square().sum().item() for values in apart))
