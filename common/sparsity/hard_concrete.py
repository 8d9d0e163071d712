"""Gates in [0, 1] that can be exactly zero and still be trained: hard concrete (Louizos et al., ICLR 2018).

A binary concrete variable, stretched to (gamma, zeta) and clipped to [0, 1]; ``log_odds`` is the paper's log alpha.
"""

import math

import torch

TEMPERATURE, LOWER, UPPER = 2 / 3, -0.1, 1.1  # beta, gamma and zeta of their experiments


def starting_log_odds(shape: tuple[int, ...], closed: float, seed: int) -> torch.Tensor:
    """float32[shape] on the CPU: N(log((1 - closed) / closed), 0.01^2), the paper's start."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return math.log((1 - closed) / closed) + 0.01 * noise


def sampled_gate(log_odds: torch.Tensor) -> torch.Tensor:
    """A gate of each weight, drawn from torch's global stream, with gradient to ``log_odds``."""
    noise = torch.logit(torch.rand_like(log_odds))  # -inf for 0, which closes the gate, without gradient
    concrete = torch.sigmoid((noise + log_odds) / TEMPERATURE)
    return (concrete * (UPPER - LOWER) + LOWER).clamp(0, 1)


def gate(log_odds: torch.Tensor) -> torch.Tensor:
    """The gate of the finished network, without noise."""
    return (torch.sigmoid(log_odds) * (UPPER - LOWER) + LOWER).clamp(0, 1)


def open_probability(log_odds: torch.Tensor) -> torch.Tensor:
    """The probability that a sampled gate is not zero, what the L0 norm of the weights comes to on average."""
    return torch.sigmoid(log_odds.float() - TEMPERATURE * math.log(-LOWER / UPPER))


def mean_gate(log_odds: torch.Tensor, places: int = 32) -> torch.Tensor:
    """The mean of a sampled gate: in (0, 1), above zero also where ``gate`` is exactly zero.

    The mean of what lies in [0, 1] is the integral of P(z > t) over t, by the midpoint rule at ``places`` values of t;
    P(z > t) = sigmoid(log_odds - beta logit((t - gamma) / (zeta - gamma))), for t = 0 ``open_probability``.
    """
    total = torch.zeros_like(log_odds)
    for place in range(places):
        stretched = ((place + 0.5) / places - LOWER) / (UPPER - LOWER)
        total += torch.sigmoid(log_odds - TEMPERATURE * math.log(stretched / (1 - stretched)))
    return total / places
