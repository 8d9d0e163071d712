"""The encoder of both models: a recurrent network of several layers reads the words of a problem both ways."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

KINDS: dict[str, Callable[..., nn.RNNBase]] = {"gru": nn.GRU, "lstm": nn.LSTM}  # by task.cell


class Layer(nn.Module):
    """One layer, a recurrent network each way.

    Two of one direction and not a bidirectional one over packed words, which is the same and on a CPU up to three times
    slower. Their parameters are drawn as that one's are.
    """

    def __init__(self, kind: Callable[..., nn.RNNBase], inputs: int, width: int):
        super().__init__()
        self.onward = kind(inputs, width, batch_first=True)
        self.back = kind(inputs, width, batch_first=True)

    def forward(self, words: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs of either direction, float [batch, words, width], of ``words`` float [batch, words, inputs].

        ``mirror`` int64 [batch, words, 1] is where the backward one finds its words: from each problem's own end on.
        """
        found, _ = self.back(words.take_along_dim(mirror, dim=1))
        return self.onward(words)[0], found.take_along_dim(mirror, dim=1)


class Encoder(nn.Module):
    """Words as they are read in their problem (Xie and Sun, IJCAI 2019).

    With f and b the outputs of the last layer's forward and backward direction, a word's state is h_s = f_s + b_s and
    the problem's vector is f_n + b_1: either direction's state after the last word that it reads. (The authors' code
    reads f at the end of the batch's longest problem, where it is zero for the others, in training alone.)
    """

    def __init__(self, cell: str, inputs: int, width: int, layers: int, dropout: float):
        super().__init__()
        sizes = [inputs, *[2 * width] * (layers - 1)]
        self.layers = nn.ModuleList(Layer(KINDS[cell], size, width) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, embedded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The words' states, float [batch, words, width], zero beyond a problem's end; vectors [batch, width].

        ``embedded`` float [batch, words, inputs], ``lengths`` int64 [batch], each at least 1.
        """
        at = torch.arange(embedded.shape[1], device=embedded.device)
        inside = at < lengths[:, None]
        mirror = torch.where(inside, lengths[:, None] - 1 - at, at)[..., None]
        onward, back = self.layers[0](embedded, mirror)
        for layer in self.layers[1:]:
            onward, back = layer(self.dropout(torch.cat([onward, back], dim=-1)), mirror)
        last = onward.take_along_dim((lengths - 1)[:, None, None], dim=1)
        return (onward + back) * inside[..., None], (last + back[:, :1]).squeeze(1)
