"""Geometric vector perceptrons and their graph layers, in plain torch, named as in the published ESM-IF1 checkpoint.

Jing et al., Learning from Protein Structure with Geometric Vector Perceptrons (ICLR 2021), and the gated form of Jing
et al., Equivariant Graph Neural Networks for 3D Macromolecular Structure (2021). Every node and edge has scalars
[n, channels] and vectors [n, channels, 3]. Scalars do not change when the coordinates are rotated, vectors rotate
along: a layer mixes vectors linearly and lets scalars see nothing of them but lengths.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

Pair = tuple[Tensor, Tensor]  # scalars and vectors
Sizes = tuple[int, int]  # channels of each


def _length(vectors: Tensor, epsilon: float) -> Tensor:
    """Euclidean length over the last axis, whose gradient is finite at zero."""
    return (vectors.square().sum(-1) + epsilon).sqrt()


def join(*pairs: Pair) -> Pair:
    """The channels of several, one after another."""
    scalars, vectors = zip(*pairs)
    return torch.cat(scalars, -1), torch.cat(vectors, -2)


def plus(one: Pair, other: Pair) -> Pair:
    return one[0] + other[0], one[1] + other[1]


class Perceptron(nn.Module):
    """One perceptron (ICLR 2021): scalars out of scalars and of the lengths of mixed vectors.

    ``active``: scalars are rectified, and vectors scaled by a sigmoid of them, the gate of 2021. Otherwise
    the last step of both is linear.
    """

    def __init__(self, inputs: Sizes, outputs: Sizes, active: bool = False):
        super().__init__()
        hidden = max(inputs[1], outputs[1])
        self.wh = nn.Linear(inputs[1], hidden, bias=False)
        self.ws = nn.Linear(hidden + inputs[0], outputs[0])
        self.wv = nn.Linear(hidden, outputs[1], bias=False)
        if active:
            self.wg = nn.Linear(outputs[0], outputs[1])
        self.active = active

    def forward(self, pair: Pair) -> Pair:
        scalars, vectors = pair
        mixed = self.wh(vectors.transpose(-1, -2))  # channels last: [n, 3, hidden]
        scalars = self.ws(torch.cat([scalars, _length(mixed.transpose(-1, -2), 1e-8)], -1))
        vectors = self.wv(mixed).transpose(-1, -2)
        if self.active:
            scalars = functional.relu(scalars)
            vectors = vectors * torch.sigmoid(self.wg(scalars)).unsqueeze(-1)
        return scalars, vectors


class Normalisation(nn.Module):
    """Layer normalisation of scalars; vectors are divided by the root mean square length of those that are not 0."""

    def __init__(self, sizes: Sizes, epsilon: float = 1e-4):
        super().__init__()
        self.scalar_norm = nn.LayerNorm(sizes[0])
        self.epsilon = epsilon

    def forward(self, pair: Pair) -> Pair:
        scalars, vectors = pair
        squared = vectors.square().sum(-1, keepdim=True) + self.epsilon
        present = squared > 2 * self.epsilon
        mean = (squared * present).sum(-2, keepdim=True) / (self.epsilon + present.sum(-2, keepdim=True))
        return self.scalar_norm(scalars), present * (vectors / (mean + self.epsilon).sqrt())


class Dropout(nn.Module):
    """Drops scalars one by one and vectors as a whole."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, pair: Pair) -> Pair:
        if not self.training or self.share == 0:
            return pair
        scalars, vectors = pair
        kept = functional.dropout(vectors.new_ones(vectors.shape[:-1]), self.share)
        return functional.dropout(scalars, self.share), vectors * kept.unsqueeze(-1)


class Messages(nn.Module):
    """What every node hears: the mean over its incoming edges of a message from sender, edge and receiver."""

    def __init__(self, nodes: Sizes, edges: Sizes):
        super().__init__()
        inputs = (2 * nodes[0] + edges[0], 2 * nodes[1] + edges[1])
        self.message_func = nn.Sequential(
            Perceptron(inputs, nodes, active=True), Perceptron(nodes, nodes, active=True), Perceptron(nodes, nodes)
        )

    def forward(self, nodes: Pair, edges: Pair, ends: Tensor) -> Pair:
        senders, receivers = ends
        scalars, vectors = nodes
        there, here = ((scalars[index], vectors[index]) for index in (senders, receivers))
        messages = self.message_func(join(there, edges, here))
        count = torch.bincount(receivers, minlength=len(nodes[0])).clamp(min=1)

        def mean(values: Tensor) -> Tensor:
            total = values.new_zeros((len(count), *values.shape[1:])).index_add(0, receivers, values)
            return total / count.view(-1, *[1] * (values.dim() - 1))

        return mean(messages[0]), mean(messages[1])


class Layer(nn.Module):
    """Messages, then a feed-forward step at every node, each added to what was there and normalised."""

    def __init__(self, nodes: Sizes, edges: Sizes, dropout: float):
        super().__init__()
        self.conv = Messages(nodes, edges)
        self.norm = nn.ModuleList(Normalisation(nodes) for _ in range(2))
        self.dropout = nn.ModuleList(Dropout(dropout) for _ in range(2))
        hidden = (4 * nodes[0], 2 * nodes[1])
        self.ff_func = nn.Sequential(Perceptron(nodes, hidden, active=True), Perceptron(hidden, nodes))

    def forward(self, nodes: Pair, edges: Pair, ends: Tensor) -> Pair:
        nodes = self.norm[0](plus(nodes, self.dropout[0](self.conv(nodes, edges, ends))))
        return self.norm[1](plus(nodes, self.dropout[1](self.ff_func(nodes))))


class Embedding(nn.Module):
    """Features of residues and of pairs of neighbours, lifted to the network's sizes."""

    def __init__(self, nodes: Sizes, edges: Sizes, node_features: Sizes, edge_features: Sizes, confidences: int):
        super().__init__()
        self.embed_node = nn.Sequential(Perceptron(node_features, nodes), Normalisation(nodes))
        self.embed_edge = nn.Sequential(Perceptron(edge_features, edges), Normalisation(edges))
        self.embed_confidence = nn.Linear(confidences, nodes[0])

    def forward(self, nodes: Pair, edges: Pair, confidence: Tensor) -> tuple[Pair, Pair]:
        scalars, vectors = self.embed_node(nodes)
        return (scalars + self.embed_confidence(confidence), vectors), self.embed_edge(edges)
