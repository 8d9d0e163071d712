"""A small encoder to train from scratch."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.protein.alphabet import plain
from tasks.protein.config import Config


class Attention(nn.Module):
    """Self-attention (Vaswani et al., 2017) that sees positions by rotation (Su et al., 2021)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.heads = heads

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """``hidden`` float [batch, length, width]; ``mask`` bool [batch, length], False on padding."""
        batch, length, width = hidden.shape
        layers = (self.query, self.key, self.value)
        query, key, value = (layer(hidden).view(batch, length, self.heads, -1).transpose(1, 2) for layer in layers)
        # Step by step: the fused kernel has no second derivative on a CPU, which some methods ask for.
        scores = (rotated(query) / math.sqrt(width / self.heads)) @ rotated(key).transpose(2, 3)
        hidden_places = torch.zeros_like(mask, dtype=hidden.dtype).masked_fill(~mask, -math.inf)
        seen = (scores + hidden_places[:, None, None, :]).softmax(-1) @ value
        return self.output(seen.transpose(1, 2).reshape(batch, length, width))


def rotated(vectors: Tensor) -> Tensor:
    """Each pair of numbers turned by an angle that grows with the position, so that products see distances alone.

    ``vectors`` float [..., length, size], size even; pair i of n turns by 10000^(-i/n) radians a position.
    """
    length, half = vectors.shape[-2], vectors.shape[-1] // 2
    speed = 10000.0 ** (-torch.arange(half, device=vectors.device) / half)
    angle = torch.arange(length, device=vectors.device)[:, None] * speed
    cosine, sine = angle.cos().to(vectors.dtype), angle.sin().to(vectors.dtype)
    first, second = vectors[..., :half], vectors[..., half:]
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class Layer(nn.Module):
    """Attention and a layer of four times the width, each normalised before and added to what it was given."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        hidden = hidden + self.dropout(self.attention(self.norm1(hidden), mask))
        return hidden + self.dropout(self.narrow(functional.gelu(self.wide(self.norm2(hidden)))))


class Encoder(nn.Module):
    """The embedded letters, layers of attention, and a last normalisation."""

    limit = None
    usual = 512  # residues where task.length says nothing: attention's memory grows with the square of the longest

    def __init__(self, width: int, layers: int, heads: int, dropout: float):
        super().__init__()
        self.alphabet, self.width = plain(), width
        self.letters = nn.Embedding(len(self.alphabet.tokens) + 1, width, padding_idx=self.alphabet.padding)
        self.layers = nn.ModuleList(Layer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """float [batch, length, width] of tokens int64 and mask bool [batch, length]."""
        hidden = self.letters(tokens)
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return self.norm(hidden)


def build(config: Config) -> Encoder:
    """The encoder of the sizes in ``config``."""
    return Encoder(config.width, config.layers, config.heads, config.dropout)
