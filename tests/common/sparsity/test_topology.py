"""Drop and grow: counts never change, what grows is what the growth score says."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common import sparsity as sp


def masks_of(bits: dict) -> sp.Masks:
    masks = sp.Masks({name: torch.nn.Parameter(torch.ones(len(row))) for name, row in bits.items()})
    masks.update({name: torch.tensor(row, dtype=torch.bool) for name, row in bits.items()})
    return masks


#            living             drop score            growth score          fraction   expected
TABLE = [
    ([1, 1, 1, 0, 0, 0], [3, 1, 2, 9, 9, 9], [0, 0, 0, 1, 3, 2], 1 / 3, [1, 0, 1, 0, 1, 0]),
    ([1, 1, 1, 0, 0, 0], [3, 1, 2, 9, 9, 9], [9, 0, 9, 1, 3, 2], 2 / 3, [1, 0, 1, 0, 1, 0]),  # 2 dropped, and back
    ([1, 1, 1, 0, 0, 0], [3, 1, 2, 9, 9, 9], [0, 5, 0, 1, 3, 2], 1 / 3, [1, 1, 1, 0, 0, 0]),  # a weight returns at once
    ([1, 1, 1, 0, 0, 0], [3, 1, 2, 9, 9, 9], [9, 9, 9, 9, 9, 9], 0, [1, 1, 1, 0, 0, 0]),
    ([1, 1, 1, 0, 0, 0], [3, 1, 2, 9, 9, 9], [9, 9, 9, 9, 9, 9], 0.33, [1, 1, 1, 0, 0, 0]),  # less than one weight
    ([1, 1, 1, 0, 0, 0], [3, 1, 2, 9, 9, 9], [0, 1, 0, 3, 2, 0], 1, [0, 1, 0, 1, 1, 0]),
    ([1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], 2 / 3, [1, 1, 1, 0, 0, 0]),  # ties: the lower index
    ([0, 0, 0, 0], [1, 2, 3, 4], [1, 2, 3, 4], 1, [0, 0, 0, 0]),
    ([1, 1, 1, 1], [1, 2, 3, 4], [1, 2, 3, 4], 1, [1, 1, 1, 1]),
]


@pytest.mark.parametrize(("living", "drop", "grow", "fraction", "expected"), TABLE)
def test_by_hand(living, drop, grow, fraction, expected):
    drop, grow = ({"w": torch.tensor(score, dtype=torch.float32)} for score in (drop, grow))
    assert sp.drop_and_grow(masks_of({"w": living}), drop, grow, fraction)["w"].int().tolist() == expected


@given(st.data())
def test_counts_stay_and_the_grown_are_the_best_outside_the_survivors(data):
    living = {n: data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=30)) for n in ("a", "b")}
    fraction = data.draw(st.floats(0, 1))
    values = st.integers(-3, 3).map(float)
    drop, grow = (
        {n: torch.tensor(data.draw(st.lists(values, min_size=len(r), max_size=len(r)))) for n, r in living.items()}
        for _ in range(2)
    )
    masks = masks_of(living)
    new = sp.drop_and_grow(masks, drop, grow, fraction)
    for name in living:
        old, moved = masks[name].tolist(), math.floor(fraction * masks.counts[name])
        assert int(new[name].sum()) == masks.counts[name]
        # Python's sort is stable: ties go to the lower index
        ranked = sorted((i for i, alive in enumerate(old) if alive), key=lambda i: -drop[name][i])
        survivors = set(ranked[: len(ranked) - moved])
        outside = sorted((i for i in range(len(old)) if i not in survivors), key=lambda i: -grow[name][i])
        assert set(new[name].nonzero().view(-1).tolist()) == survivors | set(outside[:moved])
        assert masks[name].tolist() == old, "nothing is applied yet"


def test_a_weight_that_returns_at_once_keeps_its_value_and_its_momentum():
    weight = torch.nn.Parameter(torch.tensor([3.0, 1.0, 2.0, 0.0]))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    masks = sp.Masks({"w": weight})
    masks.update({"w": torch.tensor([True, True, True, False])}, optimizer)
    weight.grad = torch.tensor([1.0, 1.0, 1.0, 0.0])
    optimizer.step()
    values, momentum = weight.detach().clone(), optimizer.state[weight]["momentum_buffer"].clone()
    growth = {"w": torch.tensor([0.0, 5.0, 4.0, 0.0])}  # both dropped weights come back
    new = sp.drop_and_grow(masks, sp.magnitude(masks.weights), growth, 2 / 3)
    assert masks.update(new, optimizer) == (0, 0)
    assert torch.equal(weight, values)
    assert torch.equal(optimizer.state[weight]["momentum_buffer"], momentum)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_share_outside_zero_to_one_is_an_error(fraction):
    with pytest.raises(ValueError, match=r"share of weights to drop must be in \[0, 1\]"):
        sp.drop_and_grow(masks_of({"w": [1, 0]}), {"w": torch.ones(2)}, {"w": torch.ones(2)}, fraction)
