"""GTS and Graph2Tree: words are embedded and read both ways, for Graph2Tree linked by graphs, and made into a tree."""

from torch import Tensor, nn

from tasks.arithmetic.config import Config
from tasks.arithmetic.network import embeddings
from tasks.arithmetic.network.beam_search import search
from tasks.arithmetic.network.graph import Graph
from tasks.arithmetic.network.recurrent import Encoder
from tasks.arithmetic.network.tree import Decoder, Encoded
from tasks.arithmetic.vocabulary import Vocabulary


class Solver(nn.Module):
    """A problem's words to its expression tree. Arguments are the fields of ``data.Batch``, as it says."""

    def __init__(self, config: Config, vocabulary: Vocabulary):
        super().__init__()
        self.embedding = embeddings.build(config, vocabulary)
        self.encoder = Encoder(config.cell, self.embedding.width, config.width, config.layers, config.dropout)
        self.graph = None
        if config.model == "graph2tree":
            self.graph = Graph(config.width, config.graph_heads, config.graph_layers, config.dropout)
        operators, constants = len(vocabulary.operators), len(vocabulary.constants)
        self.decoder = Decoder(operators, constants, config.width, config.embedding_width, config.dropout)

    def read(self, tokens: Tensor, word_of: Tensor, lengths: Tensor, places: Tensor, graphs: Tensor | None) -> Encoded:
        """The problems as the decoder sees them, for ``decoder`` (teacher forcing) and ``search``."""
        words, vector = self.encoder(self.embedding(tokens, word_of, lengths), lengths)
        if self.graph is not None:
            words = self.graph(words, graphs)
        return self.decoder.read(words, vector, lengths, places)

    def forward(
        self, tokens: Tensor, word_of: Tensor, lengths: Tensor, places: Tensor, graphs: Tensor | None, equations: Tensor
    ) -> Tensor:
        """Logits of each node of ``equations`` (int64 [batch, nodes], -1 pads), given the problem and the nodes before.

        float [batch, nodes, tokens], at least float32; tokens: operators, constants, quantities, in the vocabulary's
        order. A quantity that the problem lacks has -1e9; padding nodes are zeros.
        """
        return self.decoder(self.read(tokens, word_of, lengths, places, graphs), equations)

    def solve(self, problem: Encoded, beam: int, most: int) -> Tensor:
        """The best tree of at most ``most`` nodes that a search of width ``beam`` finds: int64 [batch, most].

        Tokens in prefix order, padded with -1; nothing but padding where no tree was complete. See ``search``.
        """
        return search(self.decoder, problem, beam, most)[0]


def build(config: Config, vocabulary: Vocabulary) -> Solver:
    """The model that ``config`` names in its starting state, from torch's global generator; torch's initialisation."""
    return Solver(config, vocabulary)
