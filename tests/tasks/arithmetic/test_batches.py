"""Batches of problems, and the graphs over their words and quantities."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.arithmetic import data, vocabulary
from tasks.arithmetic.problem import Problem
from tests.support.arithmetic_data import dev, mawps, train
from tests.support.arithmetic_files import files, write


class Some(data.Problems):
    """A split of the problems given, without a file."""

    def __init__(self, drawn):
        super().__init__([
            Problem(["w"] * words, numbers, ["number0"], 0.0, places, cells, "x:1")
            for words, numbers, places, cells in drawn
        ])  # fmt: skip


@st.composite
def shapes(draw):
    words = draw(st.integers(1, 14))
    count = draw(st.integers(1, min(4, words)))
    places = draw(st.lists(st.integers(0, words - 1), min_size=count, max_size=count, unique=True))
    if draw(st.booleans()):
        places[draw(st.integers(0, count - 1))] = -1  # a number that the question does not show
    numbers = draw(st.lists(st.sampled_from([1.0, 2.0, 2.5, -3.0]), min_size=count, max_size=count))
    return words, numbers, places, sorted(draw(st.sets(st.integers(0, words - 1))))


def reference(words: int, size: int, numbers, places, cells, told=None) -> np.ndarray:
    """Both graphs, edge by edge; ``told``: the words, of which equal ones in cells are joined."""
    found = np.zeros((2, size, size), bool)
    for i in range(size):
        found[:, i, i] = True
    for q, place in enumerate(places):
        for cell in cells:
            if place >= 0 and cell not in places and abs(place - cell) <= 3:
                found[0, place, cell] = found[0, cell, place] = True
        for other, there in enumerate(places):
            if place >= 0 and there >= 0 and numbers[q] > numbers[other]:
                found[1, place, there] = True
    for i in cells:
        for j in cells:
            found[0, i, j] |= bool(told) and told[i] == told[j]
    return found


@given(st.lists(shapes(), min_size=1, max_size=5), st.randoms(), st.sampled_from(["paper", "published"]))
def test_graphs_against_a_slow_reference(drawn, chance, kind):
    known, some = vocabulary.build([["w"]], [], [4], 1), Some(drawn)
    some.words = [chance.choices(["NUM", "pens", "how"], k=len(words)) for words in some.words]
    tensors = data.Tensors(some, known, graphs=kind)
    indices = [chance.randrange(len(drawn)) for _ in range(4)]
    batch = tensors.batch(torch.tensor(indices))
    size = max(drawn[index][0] for index in indices)
    assert batch.graphs.dtype == torch.bool and batch.graphs.shape == (4, 2, size, size)
    for at, index in enumerate(indices):
        words, numbers, places, cells = drawn[index]
        told = some.words[index] if kind == "published" else None
        assert (batch.graphs[at].numpy() == reference(words, size, numbers, places, cells, told)).all()
        assert batch.places[at].tolist() == places + [-1] * (batch.places.shape[1] - len(places))
    assert data.Tensors(Some(drawn), known).batch(torch.tensor(indices)).graphs is None


def test_the_greater_number_receives_from_the_smaller():
    tensors = data.Tensors(Some([(9, [8.0, 5.0], [1, 6], [2, 5])]), vocabulary.build([], [], [2], 1), graphs="paper")
    cells, compared = tensors.batch(torch.tensor([0])).graphs[0] & ~torch.eye(9, dtype=bool)
    assert compared.nonzero().tolist() == [[1, 6]]
    assert cells.nonzero().tolist() == [[1, 2], [2, 1], [5, 6], [6, 5]], "2 is four words from 6, 5 is four from 1"


def test_a_batch_holds_its_problems_and_nothing_else(tmp_path):
    found = data.load(mawps(write(tmp_path, files(train, dev)), least_count=1), 0)
    tensors, known = data.Tensors(found.train, found.vocabulary), found.vocabulary
    indices = torch.tensor([4, 0, 4, 20])
    batch = tensors.batch(indices)
    assert all(part.dtype == torch.int64 for part in batch if part is not None)
    for at, index in enumerate(indices.tolist()):
        words, length = found.train.words[index], int(batch.lengths[at])
        assert [known.words[token] for token in batch.tokens[at][:length]] == words
        assert batch.word_of[at][:length].tolist() == list(range(length))
        assert (batch.tokens[at][length:] == 0).all() and (batch.word_of[at][length:] == -1).all()
        assert known.decode(batch.equations[at].tolist()) == found.train.equations[index]
        assert [words[place] for place in batch.places[at].tolist() if place >= 0] == ["NUM"] * 2


def test_pieces_of_a_pretrained_embedding():
    def encode(words):
        return [5, *(7 + step for _ in words for step in (0, 1)), 6], [
            -1,
            *(at for at in range(len(words)) for _ in "ab"),
            -1,
        ]

    tensors = data.Tensors(Some([(2, [1.0], [1], []), (1, [1.0], [0], [])]), vocabulary.build([], [], [1], 1), encode)
    batch = tensors.batch(torch.tensor([0, 1]))
    assert batch.tokens.tolist() == [[5, 7, 8, 7, 8, 6], [5, 7, 8, 6, 0, 0]]
    assert batch.word_of.tolist() == [[-1, 0, 0, 1, 1, -1], [-1, 0, 0, -1, -1, -1]]
    assert batch.lengths.tolist() == [2, 1]
