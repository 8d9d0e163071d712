"""Sequences as tokens."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.protein import data
from tasks.protein.alphabet import LETTERS, RESIDUES, Alphabet, plain
from tests.support.protein_files import (
    complaint,
)

texts = st.lists(st.text(LETTERS, min_size=1, max_size=30), min_size=1, max_size=8)


special = Alphabet({letter: 5 + i for i, letter in enumerate(LETTERS)}, padding=1, first=0, last=2)


def split_of(sequences: list[str]) -> data.Split:
    return data.Split(sequences, sequences, [f"x:{i}" for i in range(len(sequences))], torch.zeros(len(sequences)))


@given(texts, st.sampled_from([plain(), special]), st.randoms())
def test_a_batch_holds_its_sequences_and_nothing_else(sequences, alphabet, chance):
    tokens = data.Tokens(split_of(sequences), alphabet)
    indices = [chance.randrange(len(sequences)) for _ in range(4)]
    found, mask, residues = tokens.batch(torch.tensor(indices))
    assert found.dtype == torch.int64 and mask.dtype == residues.dtype == torch.bool
    assert (found[~mask] == alphabet.padding).all() and not (residues & ~mask).any()
    for row, index in enumerate(indices):
        assert found[row][mask[row]].tolist() == alphabet.encode(sequences[index])
        letters = {token: letter for letter, token in alphabet.tokens.items()}
        assert "".join(letters[t] for t in found[row][residues[row]].tolist()) == sequences[index]
    assert mask.any(0).all(), "no longer than the longest"


def test_a_letter_the_model_does_not_know_is_named_with_its_place():
    small = Alphabet({letter: i for i, letter in enumerate(RESIDUES)}, padding=20)
    text = complaint(data.Tokens, split_of(["MKL", "MXL"]), small)
    assert text.startswith("x:1: residue 2 is X, which the model does not know")


@given(st.text(RESIDUES, min_size=1, max_size=40), st.integers(1, 40))
def test_cropping_keeps_what_it_says_and_counts(sequence, length):
    start, count = data.cropped(split_of([sequence, "M"]), length, "start")
    assert start.sequences == [sequence[:length], "M"] and count == (len(sequence) > length)
    ends, _ = data.cropped(split_of([sequence]), length, "ends")
    kept = ends.sequences[0]
    assert len(kept) == min(length, len(sequence))
    head = (len(kept) + 1) // 2 if len(sequence) > length else len(kept)
    assert kept == sequence[:head] + (sequence[len(sequence) - (len(kept) - head) :] if head < len(kept) else "")
    whole, count = data.cropped(split_of([sequence]), None, "start")
    assert whole.sequences == [sequence] and count == 0
