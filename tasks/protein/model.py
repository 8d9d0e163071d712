"""An encoder (the backbone), what it says of each residue pooled, and a head."""

import importlib
from typing import Any

from torch import Tensor, nn

from tasks.protein.config import Config, classes


class Network(nn.Module):
    """Backbone, pooling, head: float [batch, outputs], logits of classes or one standardised temperature."""

    backbone: Any  # as ``encoders`` says

    def __init__(self, backbone: Any, config: Config):
        super().__init__()
        self.backbone, self.pooling = backbone, config.pooling
        outputs = classes(config)
        if config.head == "hidden":
            layers = [nn.Linear(backbone.width, config.hidden), nn.LayerNorm(config.hidden), nn.ReLU()]
            self.head = nn.Sequential(*layers, nn.Dropout(config.dropout), nn.Linear(config.hidden, outputs))
        else:
            self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(backbone.width, outputs))

    def forward(self, tokens: Tensor, mask: Tensor, residues: Tensor, *structure: Tensor) -> Tensor:
        """``mask``: all of the sequence with its special tokens; ``residues``: without them. Both bool as ``tokens``.

        ``structure``, for models that see one: coordinates float [batch, length, 3, 3], of N, CA and C in angstrom, and
        numbers int64 [batch, length], the tokens' places in the sequence before it was cropped.
        """
        hidden = self.backbone(tokens, mask, *structure)
        if structure and hasattr(self.backbone, "answered"):
            residues = self.backbone.answered(residues, structure[0])
        return self.head(hidden[:, 0] if self.pooling == "first" else mean(hidden, residues))


def mean(hidden: Tensor, residues: Tensor) -> Tensor:
    """float [batch, width]: the mean of ``hidden`` [batch, length, width] over ``residues``, bool [batch, length].

    0 where there are none, as in a part of a protein that is nowhere resolved.
    """
    chosen = residues[:, :, None].to(hidden.dtype)
    return (hidden * chosen).sum(1) / chosen.sum(1).clamp(min=1)


def build(config: Config) -> Network:
    """The model that ``config`` names in its starting state, from torch's global generator; the backbone first."""
    backbone = importlib.import_module(f"tasks.protein.encoders.{config.model.replace('-', '_')}").build(config)
    if config.recompute and hasattr(backbone, "recompute"):
        backbone.recompute()
    return Network(backbone, config)
