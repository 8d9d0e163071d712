"""ProteinMPNN's encoder (Dauparas et al., Science 2022): three layers of messages between neighbouring residues.

Less than a million parameters that a package of the registry brings along: what a laptop has instead of ESM-IF1. It
reads distances between backbone atoms. The interface gives N, CA and C of each residue; CB follows from them as in the
published code, the oxygen from the geometry of the peptide bond (``oxygen``), where that code reads it from the file.
The decoder, which writes a sequence, is not built, nor is the last layer's update of the edges, which it alone sees.
Nor are the columns of the first layer that read residues, which are all 0 there: as weights they could do nothing.
Letters are not read.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recomputed

from common.errors import UserError
from tasks.protein.alphabet import plain
from tasks.protein.config import Config, usual_length
from tasks.protein.encoders import checkpoint, geometry
from tasks.protein.files import weights

width, reach, layers = 128, 32, 3  # of the published models; places further apart than ``reach`` look the same
same = [(atom, atom) for atom in ("CA", "N", "C", "O", "CB")]
mixed = [(one, other) for one in ("CA",) for other in ("N", "C", "O", "CB")]
mixed += [("N", "C"), ("N", "O"), ("N", "CB"), ("CB", "C"), ("CB", "O"), ("O", "C")]
pairs = same + mixed + [(other, one) for one, other in mixed]  # in the order of the published features
edges_of_the_last = tuple(f"encoder_layers.{layers - 1}.{part}.*" for part in ("W11", "W12", "W13", "norm3"))
other_parts = ("decoder_layers.*", "W_s.*", "W_out.*", *edges_of_the_last)


def oxygen(first: Tensor, centre: Tensor, last: Tensor, bonded: Tensor) -> Tensor:
    """Where the carbonyl oxygens are, [batch, length, 3]: 1.23 angstroms from C, opposite to CA and the next N.

    ``bonded`` bool[batch, length]: is the next residue known? Where it is not, the chain is taken to go on straight.
    """
    straight = functional.normalize(centre - first, dim=-1)
    following = functional.normalize(first[:, 1:] - last[:, :-1], dim=-1)
    ahead = torch.cat([torch.where(bonded[:, :-1, None], following, straight[:, :-1]), straight[:, -1:]], 1)
    back = functional.normalize(centre - last, dim=-1)
    return last - 1.23 * functional.normalize(back + ahead, dim=-1)


def atoms_of(backbone: Tensor, known: Tensor, numbers: Tensor | None = None) -> dict[str, Tensor]:
    """All five atoms of every residue, each [batch, length, 3], from N, CA and C [batch, length, 3, 3].

    ``numbers`` int64[batch, length]: the residues' places in their protein; None: one after another.
    """
    first, centre, last = backbone.unbind(2)
    bonded = functional.pad(known[:, 1:], (0, 1)) & known & geometry.followed(known, numbers)
    one, other = centre - first, last - centre
    # the published constants of a side chain's ideal place
    side = -0.58273431 * torch.linalg.cross(one, other) + 0.56802827 * one - 0.54067466 * other + centre
    return {"N": first, "CA": centre, "C": last, "O": oxygen(first, centre, last, bonded), "CB": side}


def gather(values: Tensor, places: Tensor) -> Tensor:
    """Of ``values`` [batch, length, ...] those at ``places`` int64[batch, length, neighbours]."""
    return values[torch.arange(len(values), device=values.device)[:, None, None], places]


class Places(nn.Module):
    """How far apart two residues are along the chain, embedded; one more slot is for other chains and not used here."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2 * reach + 2, 16)

    def forward(self, places: Tensor, numbers: Tensor | None = None) -> Tensor:
        if numbers is None:
            numbers = torch.arange(places.shape[1], device=places.device).expand(places.shape[:2])
        apart = numbers.unsqueeze(-1) - gather(numbers, places)
        slot = functional.one_hot((apart + reach).clamp(0, 2 * reach), 2 * reach + 2)
        return self.linear(slot.to(self.linear.weight.dtype))


class Features(nn.Module):
    """The nearest residues of each by CA, and what is known of every such pair."""

    def __init__(self, neighbours: int):
        super().__init__()
        self.embeddings = Places()
        self.edge_embedding = nn.Linear(16 + 16 * len(pairs), width, bias=False)
        self.norm_edges = nn.LayerNorm(width)
        self.neighbours = neighbours

    def forward(self, atoms: dict[str, Tensor], known: Tensor, numbers: Tensor | None = None) -> tuple[Tensor, Tensor]:
        centre = atoms["CA"]
        distance = (centre.unsqueeze(1) - centre.unsqueeze(2)).square().sum(-1)
        distance = distance.masked_fill(~(known.unsqueeze(1) & known.unsqueeze(2)), torch.inf)
        places = distance.topk(min(self.neighbours, known.shape[1]), largest=False).indices
        squares = [(atoms[one].unsqueeze(2) - gather(atoms[other], places)).square().sum(-1) for one, other in pairs]
        bumps = geometry.radial((torch.stack(squares, -1) + 1e-6).sqrt(), 2.0, 22.0).flatten(-2)
        edges = self.edge_embedding(torch.cat([self.embeddings(places, numbers), bumps], -1))
        return self.norm_edges(edges), places


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.W_in, self.W_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.W_out(functional.gelu(self.W_in(hidden)))


class Layer(nn.Module):
    """Residues hear from their neighbours; then, unless this is the last layer, edges hear from their ends.

    In the first layer nothing is known of the residues yet: they hear the edges alone.
    """

    def __init__(self, dropout: float, first: bool, last: bool):
        super().__init__()
        self.first, heard = first, width if first else 3 * width
        self.W1, self.W2, self.W3 = nn.Linear(heard, width), nn.Linear(width, width), nn.Linear(width, width)
        self.norm1, self.norm2, self.dense = nn.LayerNorm(width), nn.LayerNorm(width), FeedForward()
        self.last, self.dropout = last, nn.Dropout(dropout)
        if not last:
            self.W11, self.W12, self.W13 = nn.Linear(3 * width, width), nn.Linear(width, width), nn.Linear(width, width)
            self.norm3 = nn.LayerNorm(width)

    def forward(
        self, nodes: Tensor, edges: Tensor, places: Tensor, known: Tensor, heard: Tensor
    ) -> tuple[Tensor, Tensor]:
        gelu = functional.gelu
        about = edges if self.first else _ends(nodes, edges, places)
        messages = self.W3(gelu(self.W2(gelu(self.W1(about)))))
        nodes = self.norm1(nodes + self.dropout((messages * heard.unsqueeze(-1)).sum(2) / 30))
        nodes = self.norm2(nodes + self.dropout(self.dense(nodes))) * known.unsqueeze(-1)
        if not self.last:
            messages = self.W13(gelu(self.W12(gelu(self.W11(_ends(nodes, edges, places))))))
            edges = self.norm3(edges + self.dropout(messages))
        return nodes, edges


def _ends(nodes: Tensor, edges: Tensor, places: Tensor) -> Tensor:
    """Of every edge: the residue itself, the edge, the neighbour."""
    return torch.cat([nodes.unsqueeze(2).expand_as(edges), edges, gather(nodes, places)], -1)


class Encoder(nn.Module):
    """ProteinMPNN's encoder with the interface of ``encoders``; its output is 0 where a residue is unresolved.

    Coordinates are in angstroms of N, CA and C, NaN where unresolved and in padding.
    """

    limit, usual = None, usual_length
    exclude = ("*features*", "*W_e*")  # leaves the messages and the feed-forward layers

    def __init__(self, neighbours: int = 48, dropout: float = 0.1):
        super().__init__()
        self.alphabet, self.width = plain(), width
        self.features = Features(neighbours)
        self.W_e = nn.Linear(width, width)
        self.encoder_layers = nn.ModuleList(Layer(dropout, n == 0, n + 1 == layers) for n in range(layers))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.again = False

    def recompute(self) -> None:
        self.again = True

    def answered(self, mask: Tensor, coordinates: Tensor) -> Tensor:
        """bool[batch, length]: of which residues anything is said, those in ``mask`` with all three atoms."""
        return coordinates.isfinite().flatten(2).all(-1) & mask

    def forward(self, tokens: Tensor, mask: Tensor, coordinates: Tensor, numbers: Tensor | None = None) -> Tensor:
        known = self.answered(mask, coordinates)
        backbone = torch.where(known[..., None, None], coordinates.to(self.W_e.weight.dtype), 0.0)
        edges, places = self.features(atoms_of(backbone, known, numbers), known, numbers)
        edges, heard = self.W_e(edges), gather(known, places) & known.unsqueeze(-1)
        nodes = torch.zeros_like(edges[:, :, 0])
        for layer in self.encoder_layers:
            inputs = (nodes, edges, places, known, heard)
            again = self.again and self.training
            nodes, edges = recomputed(layer, *inputs, use_reentrant=False) if again else layer(*inputs)
        return nodes.to(torch.get_default_dtype())  # autocast may have left it in bfloat16


def load(path: Path) -> Encoder:
    """A published model (backbone atoms, not CA alone): ``num_edges``, neighbours per residue, and the weights."""
    content = checkpoint.read(path)
    neighbours, state = content.get("num_edges"), content.get("model_state_dict")
    if not isinstance(neighbours, int) or not isinstance(state, dict):
        found = ", ".join(map(str, content))
        raise UserError(f"{path}: expected ProteinMPNN's file with num_edges and model_state_dict, found {found}")
    encoder, first = Encoder(neighbours), "encoder_layers.0.W1.weight"
    if first in state and state[first].shape == (width, 3 * width):  # for a residue, the edge and its neighbour
        state = {**state, first: state[first][:, width : 2 * width]}
    checkpoint.fill(encoder, state, path, ignore=other_parts)
    return encoder


def build(config: Config) -> Encoder:
    """The encoder in the file ``config.pretrained``, or the package's model for noise of 0.2 angstroms."""
    return load(weights.files(config)[0])
