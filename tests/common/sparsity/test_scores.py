"""Scores: the formulas, and random numbers that depend on seed, name and position alone."""

import hashlib

import pytest
import torch

from common import sparsity as sp

WEIGHTS = {"a": torch.tensor([[1.0, -2.0], [0.0, 0.5]]), "b": torch.tensor([-3.0, 4.0])}
GRADIENTS = {"a": torch.tensor([[-1.0, 0.5], [9.0, 0.0]]), "b": torch.tensor([2.0, -1.0])}


def whole(score: sp.Score, name: str, chunk: int = 10**9) -> torch.Tensor:
    numel = torch.Size(score.shapes[name]).numel()
    return torch.cat([score.chunk(name, i, min(i + chunk, numel)) for i in range(0, numel, chunk)])


def test_the_formulas():
    assert whole(sp.magnitude(WEIGHTS), "a").tolist() == [1, 2, 0, 0.5]
    assert whole(sp.saliency(WEIGHTS, GRADIENTS), "a").tolist() == [1, 1, 0, 0]
    assert whole(sp.saliency(WEIGHTS, GRADIENTS), "b").tolist() == [6, 4]
    assert whole(sp.gradient_magnitude(GRADIENTS), "a").tolist() == [1, 0.5, 9, 0]


def test_scores_are_float32_and_leave_their_sources_alone():
    half = {"w": torch.nn.Parameter(torch.tensor([1.0, -2.0]).bfloat16())}
    score = sp.magnitude(half)
    assert score.chunk("w", 0, 2).dtype == torch.float32
    assert not score.chunk("w", 0, 2).requires_grad
    table = {"w": torch.tensor([-0.0, -2.0, 3.0])}
    before = table["w"].clone()
    sp.select(table, sp.global_pool(table, 0.5), within={"w": torch.tensor([True, False, True])})
    sp.select({"w": table["w"].view(torch.int32)}, sp.global_pool(table, 0.5))
    assert torch.equal(table["w"].view(torch.int32), before.view(torch.int32)), (
        "selection changes no score, no sign of zero"
    )


def test_sources_must_agree_in_shape():
    with pytest.raises(ValueError, match=r"b has shape \(2,\) in one source, \(1,\) in another"):
        sp.saliency(WEIGHTS, {**GRADIENTS, "b": torch.ones(1)})


def splitmix64(seed: int, name: str, index: int) -> int:
    """Steele et al. (2014) in Python's integers: counter times the golden ratio, finaliser, upper half as signed."""
    mask = (1 << 64) - 1
    z = (
        index * 0x9E3779B97F4A7C15 + int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "big")
        & mask
    )
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    upper = (z ^ (z >> 31)) >> 32
    return upper - (1 << 32) if upper >> 31 else upper


@pytest.mark.parametrize("start", [0, 12345, 2**31 - 2, 2**33])
def test_random_scores_are_splitmix64(start):
    score = sp.random_score({"w": torch.empty(4)}, seed=7)
    assert score.chunk("w", start, start + 4).tolist() == [splitmix64(7, "w", start + i) for i in range(4)]


def test_random_scores_are_these_numbers_on_every_machine():
    assert sp.random_score({"w": torch.empty(3)}, seed=0).chunk("w", 0, 3).tolist() == [
        235485277,
        561823224,
        -324538588,
    ]


def test_random_scores_do_not_depend_on_chunks_calls_or_the_other_tensors():
    weights = {name: torch.empty(50, 20) for name in "ab"}
    score = sp.random_score(weights, seed=3)
    expected = whole(score, "a")
    whole(score, "b")
    for chunk in (1, 7, 1000):
        assert torch.equal(whole(score, "a", chunk), expected)
    assert torch.equal(whole(sp.random_score({"a": torch.empty(1000)}, seed=3), "a"), expected)
    torch.manual_seed(5)
    assert torch.equal(whole(sp.random_score(weights, seed=3), "a"), expected)
    pools = [sp.global_pool(weights, 0.9), sp.global_pool(dict(reversed(weights.items())), 0.9)]
    masks = [sp.select(score, pool, chunk=chunk) for pool, chunk in zip(pools, (64, 1 << 18))]
    assert all(torch.equal(masks[0][n], masks[1][n]) for n in weights)


def test_random_scores_differ_between_seeds_and_names():
    weights = {name: torch.empty(10000) for name in "ab"}
    zero, one = sp.random_score(weights, 0), sp.random_score(weights, 1)
    for x, y in ((whole(zero, "a"), whole(zero, "b")), (whole(zero, "a"), whole(one, "a"))):
        assert int((x == y).sum()) < 3
        correlation = torch.corrcoef(torch.stack([x.double(), y.double()]))[0, 1]
        assert abs(float(correlation)) < 0.05  # five deviations


def test_random_scores_are_uniform():
    scores = whole(sp.random_score({"w": torch.empty(1 << 20)}, seed=11), "w")
    for bins in ((scores >> 24) + 128, scores & 255):  # the highest and the lowest eight bits
        counts = torch.bincount(bins, minlength=256).double()
        chi_square = float(((counts - 4096) ** 2 / 4096).sum())
        assert 150 < chi_square < 380  # 255 degrees of freedom: mean 255, deviation 22.6
    assert scores.unique().numel() > 0.999 * (1 << 20)


@pytest.mark.parametrize("sparsity", [0, 0.1, 0.5, 0.8926258176, 0.999])
def test_random_masks_are_exact_not_bernoulli(sparsity):
    weights = {"a": torch.empty(123, 45), "b": torch.empty(678)}
    masks = sp.select(sp.random_score(weights, 5), sp.global_pool(weights, sparsity))
    assert sum(int(m.sum()) for m in masks.values()) == sp.kept_count(123 * 45 + 678, sparsity)


def test_a_global_random_mask_prunes_tensors_alike():
    weights = {"a": torch.empty(20000), "b": torch.empty(20000)}
    masks = sp.select(sp.random_score(weights, 5), sp.global_pool(weights, 0.9))
    assert abs(int(masks["a"].sum()) - 2000) < 170  # five deviations
