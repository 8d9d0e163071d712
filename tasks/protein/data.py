"""The fold that a run trains on, as tokens: cropped, encoded, and padded batch by batch."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from common.data.splits import Splits, kept
from common.errors import UserError
from tasks.protein.alphabet import LETTERS, Alphabet
from tasks.protein.config import Config, folder, folds, target
from tasks.protein.files import datasets, structures
from tasks.protein.files.fingerprint import backbone, stamp, whole


@dataclass(frozen=True)
class Split:
    """Names, sequences and where they stand (file:line); targets int64 (classes) or float32 (degrees) [n]."""

    names: list[str]
    sequences: list[str]
    where: list[str]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.sequences)


Data = Splits[Split]


def load(config: Config, seed: int) -> Data:
    """The splits of the fold that ``config`` and, where it leaves that to the run, its ``seed`` ask for."""
    return _load(config, seed % folds if config.fold == -1 else config.fold)


@kept(stamp, most=folds)
def _load(config: Config, fold: int) -> Data:
    found, total = _read(config)
    chosen, kind = found[fold], torch.int64 if target(config) == "class" else torch.float32

    def split(part: int) -> Split:
        index = np.flatnonzero(chosen.parts == part)
        named = (chosen.names, chosen.sequences, chosen.where)
        names, sequences, where = ([values[i] for i in index] for values in named)
        return Split(names, sequences, where, torch.from_numpy(chosen.targets[index]).to(kind))

    train, validation, test = (split(part) for part in (datasets.TRAIN, datasets.VALIDATION, datasets.TEST))
    return Data(train, validation, test, total, chosen.warnings)


@kept(stamp, most=1)
def _read(config: Config) -> tuple[dict, str]:
    """Every fold that ``config`` asks for, and the checksum of all that they were read from."""
    found = datasets.read(config)
    return found, whole(config, found)


def cropped(split: Split, length: int | None, crop: str) -> tuple[Split, int]:
    """``split`` with at most ``length`` residues per sequence (None: all), and how many sequences lost some.

    ``crop``: ``start`` keeps the first residues, as the published code does; ``ends`` the first half of ``length``
    (rounded up) and the last.
    """
    longer = sum(length is not None and len(sequence) > length for sequence in split.sequences)
    if length is None or not longer:
        return split, 0
    return replace(split, sequences=[_crop(sequence, length, crop) for sequence in split.sequences]), longer


def _crop(sequence, length: int, crop: str):
    """Of letters or of an array."""
    if len(sequence) <= length:
        return sequence
    tail = length // 2 if crop == "ends" else 0
    head, end = sequence[: length - tail], sequence[len(sequence) - tail :]
    return head + end if isinstance(sequence, str) else np.concatenate([head, end])


def coordinates(config: Config, full: Split, length: int | None, alphabet: Alphabet) -> list[np.ndarray]:
    """Of each sequence, cropped as its letters are: float32 [tokens, 3, 3] of N, CA and C, NaN at special tokens."""
    places = structures.locate(folder(config) / "structures", full.names)
    found, before, after = [], int(alphabet.first is not None), int(alphabet.last is not None)
    for name, sequence in zip(full.names, full.sequences):
        atoms = backbone(places[name], sequence)
        atoms = atoms[_crop(np.arange(len(sequence)), length or len(sequence), config.crop)]
        found.append(np.pad(atoms, ((before, after), (0, 0), (0, 0)), constant_values=np.nan))
    return found


def numbers(full: Split, indices: Tensor, longest: int, length: int | None, crop: str, alphabet: Alphabet) -> Tensor:
    """int64 [n, longest]: for each token of ``full``'s sequences at ``indices``, cropped, its place before cropping.

    They rise by one; where ``crop=ends`` left residues out, by as many more.
    """
    found = torch.arange(longest).repeat(len(indices), 1)
    if length is not None and crop == "ends":
        left_out = torch.tensor([max(0, len(full.sequences[index]) - length) for index in indices.tolist()])
        found[:, int(alphabet.first is not None) + length - length // 2 :] += left_out[:, None]
    return found


def unresolved(atoms: list[np.ndarray], residues: int) -> float:
    """Percent of ``residues`` without coordinates; ``atoms`` as ``coordinates`` gives them, NaN at special tokens."""
    known = sum(int(structures.resolved(one).sum()) for one in atoms)
    return 100 * (1 - known / residues)


class Tokens:
    """A split's sequences as one int16 tensor, cut into padded batches on request."""

    def __init__(self, split: Split, alphabet: Alphabet):
        table = np.full(256, -1, np.int16)
        for letter, token in alphabet.tokens.items():
            table[ord(letter)] = token
        self.alphabet, pieces = alphabet, []
        before, after = ([] if t is None else [t] for t in (alphabet.first, alphabet.last))
        for sequence, where in zip(split.sequences, split.where):
            tokens = table[np.frombuffer(sequence.encode("ascii"), np.uint8)]
            if (tokens < 0).any():
                position = int(np.argmax(tokens < 0))
                known = "".join(letter for letter in LETTERS if letter in alphabet.tokens)
                unknown = f"{sequence[position]}, which the model does not know (it knows {known})"
                raise UserError(f"{where}: residue {position + 1} is {unknown}")
            pieces.append(np.concatenate([np.array(before, np.int16), tokens, np.array(after, np.int16)]))
        self.lengths = torch.tensor([len(piece) for piece in pieces])
        self.residues = sum(len(sequence) for sequence in split.sequences)
        self.starts = torch.cumsum(self.lengths, 0) - self.lengths
        self.flat = torch.from_numpy(np.concatenate(pieces) if pieces else np.empty(0, np.int16))

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens int64 [n, longest], mask and residues bool of that shape: without padding, without special tokens."""
        lengths, places = self.lengths[indices], torch.arange(int(self.lengths[indices].max()))
        mask = places < lengths[:, None]
        tokens = self.flat[(self.starts[indices, None] + places).clamp_(max=len(self.flat) - 1)].long()
        tokens = torch.where(mask, tokens, self.alphabet.padding)
        first, last = self.alphabet.first is not None, self.alphabet.last is not None
        residues = (places >= int(first)) & (places < lengths[:, None] - int(last))
        return tokens, mask, residues
