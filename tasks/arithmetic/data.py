"""The fold that a run trains on, as tensors: words, places of quantities, quantity graphs and prefix expressions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.data.splits import Splits, kept
from common.errors import UserError
from tasks.arithmetic.config import Config, fold, folds
from tasks.arithmetic.files import datasets, fingerprint
from tasks.arithmetic.problem import Problem
from tasks.arithmetic.vocabulary import Vocabulary

Pieces = tuple[Sequence[int], Sequence[int]]  # ids of pieces, and the word that each belongs to
Encode = Callable[[list[str]], Pieces]
near = 3  # words from a quantity within which a cell word is one of its quantity cell, as published


class Problems:
    """One split in order: lists by problem, as ``problem.Problem`` has them, and ``lengths`` int64 [n] in words."""

    def __init__(self, problems: list[Problem]):
        self.words = [problem.words for problem in problems]
        self.cased = [list(problem.cased) or problem.words for problem in problems]
        self.numbers = [problem.numbers for problem in problems]
        self.answers = [problem.answer for problem in problems]
        self.equations = [problem.equation for problem in problems]
        self.places = [problem.places for problem in problems]
        self.cells = [problem.cells for problem in problems]
        self.where = [problem.where for problem in problems]
        self.lengths = torch.tensor([len(words) for words in self.words], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True)
class Data(Splits[Problems]):
    """With task.protocol=published ``validation`` and ``test`` are one object."""

    vocabulary: Vocabulary
    asked: set[tuple[str, ...]]  # the words of each problem of the whole training part


def load(config: Config, seed: int) -> Data:
    """The splits of the fold that ``config`` and, where it leaves that to the run, its ``seed`` ask for."""
    return _load(config, fold(config, seed))


@kept(fingerprint.stamp, most=max(folds.values()))
def _load(config: Config, number: int) -> Data:
    found, total = _read(config)
    chosen = found[number]
    test = Problems(chosen.test)
    validation = test if chosen.validation is chosen.test else Problems(chosen.validation)
    return Data(Problems(chosen.train), validation, test, total, chosen.warnings, chosen.vocabulary, chosen.asked)


@kept(fingerprint.stamp, most=1)
def _read(config: Config) -> tuple[dict, str]:
    """Every fold that ``config`` asks for, and the checksum of all that they were read from."""
    found = datasets.read(config)
    return found, fingerprint.whole(config, found)


class Batch(NamedTuple):
    """Tensors of b problems, padded to the longest among them.

    tokens int64 [b, pieces], 0 pads; word_of int64 [b, pieces], the word that a piece belongs to, -1 for padding and
    special tokens; lengths int64 [b] in words; places int64 [b, quantities], the word of each quantity, -1 pads;
    graphs bool [b, 2, words, words] or None; equations int64 [b, nodes], ids of the prefix expression, -1 pads.
    """

    tokens: Tensor
    word_of: Tensor
    lengths: Tensor
    places: Tensor
    graphs: Tensor | None
    equations: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on ``device``."""
        return self._replace(**{name: part.to(device) for name, part in self._asdict().items() if part is not None})


class _Rows:
    """Rows of unequal length in one array, padded on request."""

    def __init__(self, rows: list, padding: int):
        self.lengths = np.array([len(row) for row in rows], np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.flat = np.array([value for row in rows for value in row] or [padding], np.int64)
        self.padding = padding

    def batch(self, indices: np.ndarray) -> Tensor:
        """int64 [b, longest], at least one column."""
        lengths = self.lengths[indices]
        at = np.arange(max(1, lengths.max(initial=0)))
        found = self.flat[np.minimum(self.starts[indices, None] + at, len(self.flat) - 1)]
        return torch.from_numpy(np.where(at < lengths[:, None], found, self.padding))


class Tensors:
    """A split as flat arrays, cut into padded batches on request.

    ``encode`` (words -> ids of pieces, and the word that each piece belongs to) is a pretrained embedding's; without it
    every word is one piece, its id in ``vocabulary``. ``graphs``: which quantity graph is wanted (of Graph2Tree,
    ``task.quantity_graph``); None: no graphs. ``known``, bool [n], says which problems' equations can be answered; the
    row of another is all padding.
    """

    def __init__(
        self, problems: Problems, vocabulary: Vocabulary, encode: Encode | None = None, graphs: str | None = None
    ):
        pieces: list[Pieces]
        if encode is None:
            pieces = [(vocabulary.read(words), range(len(words))) for words in problems.words]
        else:
            pieces = _pieces(problems, encode)
        encoded = [vocabulary.encode(equation) for equation in problems.equations]
        self.lengths = problems.lengths
        self.known = torch.tensor([row is not None for row in encoded])
        self.tokens, self.word_of = _Rows([ids for ids, _ in pieces], 0), _Rows([words for _, words in pieces], -1)
        self.places = _Rows(problems.places, -1)
        self.equations = _Rows([row or [] for row in encoded], -1)
        self.edges = _Edges(problems, graphs) if graphs else None

    def batch(self, indices: Tensor) -> Batch:
        """The problems of ``indices``, int64 [b], in that order."""
        rows = indices.numpy()
        lengths = self.lengths[indices]
        return Batch(
            self.tokens.batch(rows),
            self.word_of.batch(rows),
            lengths,
            self.places.batch(rows),
            self.edges.batch(rows, int(lengths.max())) if self.edges else None,
            self.equations.batch(rows),
        )


def _pieces(problems: Problems, encode: Encode) -> list[Pieces]:
    """What ``encode`` makes of each problem; ``UserError`` names those that it refuses, with file and line."""
    found, refused = [], []
    for words, where in zip(problems.cased, problems.where, strict=True):
        try:
            found.append(encode(words))
        except UserError as problem:
            refused.append(f"{where}: {problem}")
    if refused:
        raise UserError("\n  ".join(datasets.first(refused)))
    return found


class _Edges:
    """The quantity cell graph and the quantity comparison graph (Zhang et al., 2020) of every problem.

    ``graphs[b, k, i, j]`` is True where word i receives from word j. Graph 0 joins each quantity's word with the words
    of its cell, both ways: the cell words within ``near`` of it that are no quantities themselves (the files have one
    list of cell words for all quantities of a problem); where the ``kind`` is published, as in the authors' code, also
    equal words of that list with each other, the quantities in it among them. Graph 1 has an edge from quantity i to
    quantity j where the number of i is greater; equal numbers have none. Every word has one to itself, padding too.
    """

    def __init__(self, problems, kind: str):
        alike = problems.words if kind == "published" else [[]] * len(problems)
        found = [edges(*row) for row in zip(problems.places, problems.cells, problems.numbers, alike)]
        counts = np.array([len(row) for row in found], np.int64)
        self.counts, self.starts = counts, np.cumsum(counts) - counts
        self.flat = np.concatenate([np.empty((0, 3), np.int64), *found])  # [edges, (graph, from, to)]

    def batch(self, indices: np.ndarray, words: int) -> Tensor:
        """bool [b, 2, words, words]."""
        counts = self.counts[indices]
        row = np.repeat(np.arange(len(indices)), counts)
        inner = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        kind, i, j = self.flat[np.repeat(self.starts[indices], counts) + inner].T
        graphs = np.zeros((len(indices), 2, words, words), bool)
        graphs[row, kind, i, j] = True
        graphs[:, :, np.arange(words), np.arange(words)] = True
        return torch.from_numpy(graphs)


def edges(places: list[int], cells: list[int], numbers: list[float], words: Sequence[str] = ()) -> np.ndarray:
    """Edges of one problem without the diagonal, int64 [edges, 3]: graph, word that receives, word received from.

    ``words``, if any: those of ``cells`` that are equal are joined.
    """
    shown = np.array(places, np.int64) >= 0
    at, values = np.array(places, np.int64)[shown], np.array(numbers, np.float64)[shown]
    cell = np.setdiff1d(np.array(cells, np.int64), at)
    one, other = np.nonzero(np.abs(at[:, None] - cell) <= near)
    joined = np.stack([np.zeros(len(one), np.int64), at[one], cell[other]], 1)
    greater, smaller = np.nonzero(values[:, None] > values)
    compared = np.stack([np.ones(len(greater), np.int64), at[greater], at[smaller]], 1)
    pairs = [(0, i, j) for i in cells for j in cells if i != j and words[i] == words[j]] if words else []
    alike = np.array(pairs, np.int64).reshape(-1, 3)
    return np.concatenate([joined, joined[:, [0, 2, 1]], alike, compared])
