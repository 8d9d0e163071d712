"""ESM-IF1's encoder (Hsu et al., Learning inverse folding from millions of predicted structures, ICML 2022).

A graph network of geometric vector perceptrons reads the backbone; its output, put into each residue's own frame so
that it no longer turns with the protein, goes through a transformer. The published model ends in a decoder that writes
a sequence. HotProtein and SMC-Bench pool the encoder's output, and so do we: the decoder is not built, and what of the
published file belongs to it is left there. Letters are not read.

One difference from the published code: it puts the unknown atoms of its start and end tokens and of gaps at the origin
of the file's coordinates, so that its output depends on where that happens to be. Here the origin is the mean of the CA
atoms, so that moving or rotating a protein changes nothing. An unresolved residue is what training masked: it is there,
without coordinates; the published loader takes those that it reads from a file for padding.
"""

import math
from argparse import Namespace
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recomputed

from common.errors import UserError
from tasks.protein.alphabet import LETTERS, Alphabet
from tasks.protein.config import Config, usual_length
from tasks.protein.encoders import checkpoint, geometry, gvp
from tasks.protein.files import weights

tokens = ("<null_0>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")
tokens += ("<cath>", "<af2>")  # where a structure comes from; the first of them begins a sequence
renamed = {  # parts of keys as the file has them -> as the published code calls them
    "W_v": "embed_graph.embed_node",
    "W_e": "embed_graph.embed_edge",
    "embed_scores.0": "embed_confidence",
    "embed_score.": "embed_graph.embed_confidence.",
    "embed_ingraham_features": "embed_dihedrals",
    "embed_gvp_in_local_frame.0": "embed_gvp_output",
    "embed_features_in_local_frame.0": "embed_gvp_input_features",
}
other_parts = ("decoder.*", "*version*", "*_float_tensor")


@dataclass(frozen=True)
class Shape:
    """The settings of the published network, by the names its file has for them."""

    encoder_embed_dim: int = 512
    encoder_ffn_embed_dim: int = 2048
    encoder_attention_heads: int = 8
    encoder_layers: int = 8
    dropout: float = 0.1
    attention_dropout: float = 0.1
    gvp_top_k_neighbors: int = 30
    gvp_node_hidden_dim_scalar: int = 1024
    gvp_node_hidden_dim_vector: int = 256
    gvp_edge_hidden_dim_scalar: int = 32
    gvp_edge_hidden_dim_vector: int = 1
    gvp_num_encoder_layers: int = 4
    gvp_dropout: float = 0.1

    @property
    def nodes(self) -> gvp.Sizes:
        return self.gvp_node_hidden_dim_scalar, self.gvp_node_hidden_dim_vector

    @property
    def edges(self) -> gvp.Sizes:
        return self.gvp_edge_hidden_dim_scalar, self.gvp_edge_hidden_dim_vector


class Attention(nn.Module):
    """Self-attention of several heads; padding is not attended to."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.heads, self.dropout = heads, dropout

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        parts = (self.q_proj, self.k_proj, self.v_proj)
        query, key, value = (part(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        scores = scores.masked_fill(~mask[:, None, None], -math.inf).to(torch.get_default_dtype())
        shares = functional.dropout(scores.softmax(-1), self.dropout, self.training).to(value.dtype)
        return self.out_proj((shares @ value).transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward step, each on normalised input and added to what was there."""

    def __init__(self, shape: Shape):
        super().__init__()
        width = shape.encoder_embed_dim
        self.self_attn = Attention(width, shape.encoder_attention_heads, shape.attention_dropout)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, shape.encoder_ffn_embed_dim)
        self.fc2 = nn.Linear(shape.encoder_ffn_embed_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        hidden = hidden + self.dropout(self.self_attn(self.self_attn_layer_norm(hidden), mask))
        step = self.fc2(functional.relu(self.fc1(self.final_layer_norm(hidden))))
        return hidden + self.dropout(step)


class Deviation(nn.Module):
    """Normalisation by the unbiased standard deviation, with a gain and a bias a channel."""

    def __init__(self, width: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, values: Tensor) -> Tensor:
        spread = (values.var(-1, keepdim=True) + 1e-6).sqrt()
        return self.gain * (values - values.mean(-1, keepdim=True)) / (spread + 1e-6) + self.bias


class Torsions(nn.Module):
    """The three angles of each residue, embedded."""

    def __init__(self, width: int):
        super().__init__()
        self.node_embedding = nn.Linear(6, width)
        self.norm_nodes = Deviation(width)

    def forward(self, backbone: Tensor, bonded: Tensor) -> Tensor:
        angles = geometry.torsions(backbone, lambda vectors: functional.normalize(vectors, dim=-1), bonded)
        return self.norm_nodes(self.node_embedding(angles))


class Graph(nn.Module):
    """The graph network: nearest residues talk to each other; scalars and vectors of every residue come out."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.embed_graph = gvp.Embedding(shape.nodes, shape.edges, (7, 3), (34, 1), 16)
        self.encoder_layers = nn.ModuleList(
            gvp.Layer(shape.nodes, shape.edges, shape.gvp_dropout) for _ in range(shape.gvp_num_encoder_layers)
        )
        self.most = shape.gvp_top_k_neighbors
        self.recompute = False

    def forward(
        self, backbone: Tensor, known: Tensor, features: gvp.Pair, confidence: Tensor, numbers: Tensor | None
    ) -> gvp.Pair:
        (batch, length), (scalars, vectors) = known.shape, features
        ends, distance = geometry.neighbours(backbone[:, :, 1], known, self.most)
        pairs = geometry.edge_features(backbone[:, :, 1], ends, distance, numbers)
        scalars = torch.cat([scalars, known.unsqueeze(-1).to(scalars.dtype)], -1)
        nodes, edges = self.embed_graph((scalars.flatten(0, 1), vectors.flatten(0, 1)), pairs, confidence.flatten(0, 1))
        for layer in self.encoder_layers:
            nodes = _through(layer, self.recompute and self.training, nodes, edges, ends)
        return nodes[0].unflatten(0, (batch, length)), nodes[1].unflatten(0, (batch, length))


class Encoder(nn.Module):
    """ESM-IF1's encoder with the interface of ``encoders``. ``mask``: True on the two special tokens too.

    Coordinates are in angstroms of N, CA and C, NaN where unresolved, at special tokens and in padding.
    """

    limit, usual = None, usual_length
    exclude = ("*gvp_encoder*", "*embed_*")  # leaves what SMC-Bench prunes: self-attention, fc1 and fc2

    def __init__(self, shape: Shape):
        super().__init__()
        number = {token: place for place, token in enumerate(tokens)}
        letters = {letter: number.get(letter, number["<unk>"]) for letter in LETTERS}
        self.alphabet = Alphabet(letters, number["<pad>"], number["<cath>"], number["<eos>"])
        self.width = width = shape.encoder_embed_dim
        self.unread = number["<mask>"]
        self.embed_tokens = nn.Embedding(len(tokens), width, padding_idx=self.alphabet.padding)
        nn.init.normal_(self.embed_tokens.weight, std=width**-0.5)
        self.embed_gvp_input_features = nn.Linear(15, width)
        self.embed_confidence = nn.Linear(16, width)
        self.embed_dihedrals = Torsions(width)
        self.gvp_encoder = Graph(shape)
        self.embed_gvp_output = nn.Linear(shape.nodes[0] + 3 * shape.nodes[1], width)
        self.layers = nn.ModuleList(TransformerLayer(shape) for _ in range(shape.encoder_layers))
        self.layer_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(shape.dropout)

    def recompute(self) -> None:
        self.gvp_encoder.recompute = True

    def forward(self, tokens: Tensor, mask: Tensor, coordinates: Tensor, numbers: Tensor | None = None) -> Tensor:
        known = coordinates.isfinite().flatten(2).all(-1) & mask
        with torch.no_grad():
            backbone = _centred(coordinates.to(self.layer_norm.weight.dtype), known)
            bonded = geometry.followed(known, numbers)
            angles, pointing = geometry.torsions(backbone, bonded=bonded), geometry.directions(backbone, bonded)
            axes = geometry.frames(backbone)
            confidence = geometry.radial(known.to(backbone.dtype), 0.0, 1.0)  # 1, and 0 where unresolved
        scalars, vectors = self.gvp_encoder(backbone, known, (angles, pointing), confidence, numbers)
        seen = torch.where(mask, self.unread, self.alphabet.padding)
        hidden = (
            self.embed_tokens(seen) * math.sqrt(self.width)
            + self.embed_dihedrals(backbone, bonded)
            + self.embed_gvp_output(torch.cat([scalars, geometry.local(vectors, axes)], -1))
            + self.embed_confidence(confidence)
            + self.embed_gvp_input_features(torch.cat([angles, geometry.local(pointing, axes)], -1))
            + _waves(mask.shape[1], self.alphabet.padding + 1, self.width).to(mask.device)
        )
        hidden = self.dropout(hidden)
        for layer in self.layers:
            hidden = _through(layer, self.gvp_encoder.recompute and self.training, hidden, mask)
        return self.layer_norm(hidden).to(torch.get_default_dtype())  # autocast may have left it in bfloat16


def _through(layer: nn.Module, again: bool, *inputs):
    return recomputed(layer, *inputs, use_reentrant=False) if again else layer(*inputs)


def _centred(coordinates: Tensor, known: Tensor) -> Tensor:
    """With the mean CA of each protein at the origin, and every unknown atom there too."""
    centre = torch.where(known[..., None], coordinates[:, :, 1], 0.0).sum(1) / known.sum(1, keepdim=True).clamp(min=1)
    return torch.where(known[..., None, None], coordinates - centre[:, None, None], 0.0)


def _waves(length: int, first: int, width: int) -> Tensor:
    """Sinusoidal positions (Vaswani et al., 2017): sines, then cosines, numbered from ``first`` as in fairseq."""
    half = width // 2
    rates = torch.exp(torch.arange(half) * -(math.log(10_000.0) / (half - 1)))
    angles = torch.arange(first, first + length).unsqueeze(-1) * rates
    return torch.cat([angles.sin(), angles.cos()], -1)


def load(path: Path) -> Encoder:
    """The published encoder, or one of other sizes in its layout: ``args``, a Namespace, and ``model``, the weights."""
    content = checkpoint.read(path)
    arguments, state = content.get("args"), content.get("model")
    if not isinstance(arguments, Namespace) or not isinstance(state, dict):
        found = ", ".join(map(str, content))
        raise UserError(f"{path}: expected ESM-IF1's published file, which holds args and model; found {found}")
    missing = [field.name for field in fields(Shape) if not hasattr(arguments, field.name)]
    if missing:
        raise UserError(f"{path}: expected ESM-IF1's settings, {', '.join(missing)} is missing from its args")
    encoder = Encoder(Shape(**{field.name: getattr(arguments, field.name) for field in fields(Shape)}))
    named = {}
    for name, value in state.items():
        for old, new in renamed.items():
            name = name.replace(old, new)
        named[name.removeprefix("encoder.")] = value
    checkpoint.fill(encoder, named, path, ignore=other_parts)
    return encoder


def build(config: Config) -> Encoder:
    """The encoder in the file ``config.pretrained``."""
    return load(weights.files(config)[0])
