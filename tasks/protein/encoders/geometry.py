"""What ESM-IF1 reads off a backbone: angles, directions, neighbours and local frames (Hsu et al., ICML 2022).

A backbone is float[batch, length, 3, 3], angstroms of N, CA and C, with zeros where nothing is known. Scalars do not
change when it is rotated, vectors rotate along.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length one, and zero for zero: the length is taken as the root of squares + 1e-8."""
    return vectors / (vectors.square().sum(-1, keepdim=True) + 1e-8).sqrt()


def radial(values: Tensor, lowest: float, highest: float, count: int = 16) -> Tensor:
    """Each value as ``count`` Gaussian bumps between ``lowest`` and ``highest``: [...] -> [..., count]."""
    centres = torch.linspace(lowest, highest, count, device=values.device)
    return torch.exp(-(((values.unsqueeze(-1) - centres) / ((highest - lowest) / count)) ** 2))


def followed(known: Tensor, numbers: Tensor | None) -> Tensor:
    """bool[batch, length]: is the residue in the next place the next of the protein? Where it was cropped, it is not.

    ``numbers`` int64[batch, length]: each residue's place in the whole protein; None: one after another.
    """
    if numbers is None:
        return torch.ones_like(known)
    return functional.pad(numbers[:, 1:] == numbers[:, :-1] + 1, (0, 1), value=True)


def torsions(backbone: Tensor, directions: Callable[[Tensor], Tensor] = unit, bonded: Tensor | None = None) -> Tensor:
    """Cosines, then sines, of phi, psi and omega at every residue: [batch, length, 6]; an angle past an end is 0.

    ``directions`` makes vectors of length one: the published network has two ways, which differ where atoms coincide.
    ``bonded`` as ``followed`` gives it: a chain that was cut has two more ends (None: it was not).
    """
    atoms = backbone.flatten(1, 2)
    steps = directions(atoms[:, 1:] - atoms[:, :-1])
    before, middle, after = steps[:, :-2], steps[:, 1:-1], steps[:, 2:]
    left = directions(torch.linalg.cross(before, middle))
    right = directions(torch.linalg.cross(middle, after))
    cosine = (left * right).sum(-1).clamp(-1 + 1e-7, 1 - 1e-7)
    angle = torch.sign((before * right).sum(-1)) * torch.acos(cosine)
    angle = functional.pad(angle, (1, 2)).unflatten(1, (-1, 3))
    if bonded is not None:  # psi and omega reach into the next residue, phi into the one before
        before = functional.pad(bonded[:, :-1], (1, 0), value=True)
        angle = angle.where(torch.stack([before, bonded, bonded], -1), 0.0)
    return torch.cat([angle.cos(), angle.sin()], -1)


def directions(backbone: Tensor, bonded: Tensor | None = None) -> Tensor:
    """To the next CA, to the one before, and where a side chain would point: [batch, length, 3, 3].

    ``bonded`` as ``torsions`` takes it; past an end there is no direction, 0.
    """
    first, centre, last = backbone.unbind(2)
    step = centre[:, 1:] - centre[:, :-1]
    if bonded is not None:
        step = step * bonded[:, :-1, None]
    forward = functional.pad(unit(step), (0, 0, 0, 1))
    backward = functional.pad(unit(-step), (0, 0, 1, 0))
    one, other = unit(last - centre), unit(first - centre)
    sideways = unit(torch.linalg.cross(one, other))
    side_chain = -unit(one + other) * math.sqrt(1 / 3) - sideways * math.sqrt(2 / 3)
    return torch.stack([forward, backward, side_chain], 2)


def frames(backbone: Tensor) -> Tensor:
    """The local axes at every CA, as rows: along C, along N at a right angle to it, and their product."""
    first, centre, last = backbone.unbind(2)
    one = unit(last - centre)
    toward = first - centre
    other = unit(toward - one * (one * toward).sum(-1, keepdim=True))
    return torch.stack([one, other, torch.linalg.cross(one, other)], -2)


def local(vectors: Tensor, axes: Tensor) -> Tensor:
    """Vectors [batch, length, channels, 3] in the residues' own ``frames``, flat: [batch, length, 3 channels]."""
    return torch.einsum("blcd,blkd->blck", vectors, axes).flatten(2)


def neighbours(centre: Tensor, known: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Edges from every residue to its nearest, itself among them, where both are ``known`` (bool[batch, length]).

    centre: float[batch, length, 3]. Returns ends int64[2, edges], numbered through the batch, and distances
    float[edges] in angstroms. At most ``most`` edges leave a residue.
    """
    batch, length = known.shape
    distance = ((centre.unsqueeze(1) - centre.unsqueeze(2)).square().sum(-1) + 1e-8).sqrt()
    both = known.unsqueeze(1) & known.unsqueeze(2)
    nearest, places = distance.masked_fill(~both, math.inf).topk(min(most, length), largest=False)
    start = torch.arange(batch, device=known.device).view(-1, 1, 1) * length
    senders = (torch.arange(length, device=known.device).view(1, -1, 1) + start).expand_as(places)
    real = nearest.isfinite()
    return torch.stack([senders[real], (places + start)[real]]), nearest[real]


def edge_features(
    centre: Tensor, ends: Tensor, distance: Tensor, numbers: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scalars [edges, 34]: distance as bumps, difference of places as waves, two flags; vectors [edges, 1, 3].

    ``numbers``: these places, as ``followed`` takes them. The flags say that an end has no coordinates; such pairs are
    no neighbours here, as in the published network in the end, so they are 0.
    """
    senders, receivers = ends
    places = torch.arange(centre.shape[:2].numel(), device=ends.device) if numbers is None else numbers.flatten()
    apart = (places[senders] - places[receivers]).unsqueeze(-1)  # both lie in the same protein
    waves = apart * torch.exp(torch.arange(0, 16, 2, device=ends.device) * -(math.log(10_000.0) / 16))
    flags = distance.new_zeros(len(distance), 2)
    scalars = torch.cat([radial(distance, 0.0, 20.0), waves.cos(), waves.sin(), flags], -1)
    points = centre.flatten(0, 1)
    return scalars, unit(points[senders] - points[receivers]).unsqueeze(-2)
