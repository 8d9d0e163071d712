"""Graph2Tree's graph encoder: words exchange what they know along two graphs of the problem's quantities.

Zhang et al., ACL 2020. Of each graph k, with A_k its adjacency matrix divided by the sums of its rows and X the words:

    heads    Z_k = A_k (relu(A_k (X W1 + b1)) W2 + b2), each its own, half of them on either graph
    words    Y = X + LayerNorm([Z_1, ..., Z_n]);  Y + relu(Y V1 + c1) V2 + c2

This is the authors' code, from which the published figures are, but for the division: there A_k has zeros and ones, so
that a quantity's state grows with the number of its words. As in that code X is what GTS's recurrent encoder makes of
the words (the paper has an LSTM in its place), and the decoder begins with that encoder's vector of the problem, not
with one pooled from the words.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

LARGEST_DROPOUT = 0.3  # the published module's; task.dropout where that is smaller


class Head(nn.Module):
    """Two graph convolutions (Kipf and Welling, ICLR 2017) on one graph."""

    def __init__(self, width: int, outputs: int, dropout: float):
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: Tensor, adjacency: Tensor) -> Tensor:
        """``words`` float [batch, words, width]; ``adjacency`` float [batch, words, words], rows add up to 1."""
        hidden = self.dropout(functional.relu(adjacency @ self.first(words)))
        return adjacency @ self.second(hidden)


class Layer(nn.Module):
    """Heads on either graph side by side, and a layer that looks at each word by itself."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = nn.ModuleList(Head(width, width // heads, dropout) for _ in range(heads))
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: Tensor, adjacency: Tensor) -> Tensor:
        """``words`` float [batch, words, width]; ``adjacency`` float [batch, 2, words, words]."""
        half = len(self.heads) // 2
        found = [head(words, adjacency[:, number // half]) for number, head in enumerate(self.heads)]
        words = words + self.norm(torch.cat(found, dim=-1))
        return words + self.narrow(self.dropout(functional.relu(self.wide(words))))


class Graph(nn.Module):
    """The words' states, given what they are linked to."""

    def __init__(self, width: int, heads: int, layers: int, dropout: float):
        super().__init__()
        dropout = min(dropout, LARGEST_DROPOUT)
        self.layers = nn.ModuleList(Layer(width, heads, dropout) for _ in range(layers))

    def forward(self, words: Tensor, graphs: Tensor) -> Tensor:
        """float [batch, words, width] of as many ``words`` and bool [batch, 2, words, words]: who is linked to whom.

        Every word is linked to itself, padding too and to nothing else.
        """
        links = graphs.to(words.dtype)
        adjacency = links / links.sum(-1, keepdim=True).clamp(min=1)
        for layer in self.layers:
            words = layer(words, adjacency)
        return words
