"""The encoder of both models: a bidirectional GRU of several layers over the words of a problem."""

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Encoder(nn.Module):
    """Words as they are read in their problem (Xie and Sun, IJCAI 2019).

    With f and b the outputs of the last layer's forward and backward direction, a word's state is h_s = f_s + b_s and
    the problem's vector is f_n + b_1: either direction's state after the last word that it reads. (The authors' code
    reads f at the end of the batch's longest problem, where it is zero for the others, in training alone.)
    """

    def __init__(self, inputs: int, width: int, layers: int, dropout: float):
        super().__init__()
        self.gru = nn.GRU(inputs, width, layers, dropout=dropout if layers > 1 else 0.0, bidirectional=True)

    def forward(self, embedded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The words' states, float [batch, words, width], zero beyond a problem's end; vectors [batch, width].

        ``embedded`` float [batch, words, inputs], ``lengths`` int64 [batch], each at least 1. Words are packed: padding
        costs nothing, and the backward direction begins at each problem's own end.
        """
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=embedded.shape[1])
        forward, backward = states.chunk(2, dim=-1)
        last = forward.take_along_dim((lengths - 1)[:, None, None], dim=1)
        return forward + backward, (last + backward[:, :1]).squeeze(1)
