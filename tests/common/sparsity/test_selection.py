"""Selection: exact counts and one total order, whatever the scores, the chunking and the pools."""

import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common import sparsity as sp
from common.sparsity import selection
from common.sparsity.allocation import AllocationError, Groups, Pool
from tests.support.places import ROOT

INF = float("inf")


@pytest.fixture(params=["histogram", "partition"])
def method(request, monkeypatch):
    """Both ways to a threshold, whatever the size."""
    monkeypatch.setattr(selection, "SMALL", 0 if request.param == "histogram" else 1 << 20)


AWKWARD = [0.0, -0.0, 1.0, -1.0, INF, -INF, 1e-45, -1e-45, 1.1754942106924411e-38, 3.4028234663852886e38]
FLOATS = st.one_of(st.sampled_from(AWKWARD), st.floats(width=32, allow_nan=False))


def naive(scores: dict, keep: int, within=None) -> dict:
    """The definition: a stable sort of all candidates, highest first."""
    entries = [(n, i, v) for n, t in scores.items() for i, v in enumerate(t.reshape(-1).tolist())]
    entries = [e for e in entries if within is None or within[e[0]].reshape(-1)[e[1]]]
    out = {n: torch.zeros(t.numel(), dtype=torch.bool) for n, t in scores.items()}
    for name, i, _ in sorted(entries, key=lambda e: e[2], reverse=True)[:keep]:
        out[name][i] = True
    return {n: bits.view(scores[n].shape) for n, bits in out.items()}


def same(one: dict, other: dict) -> bool:
    return list(one) == list(other) and all(torch.equal(one[n], other[n]) for n in one)


@st.composite
def problems(draw):
    """Scores of one to three tensors, perhaps a mask, a count that can be met and a chunk size."""
    dtype = draw(st.sampled_from([torch.float32, torch.int32]))
    values = FLOATS if dtype == torch.float32 else st.integers(-(2**31) + 1, 2**31 - 1) | st.integers(-2, 2)
    scores = {
        f"t{i}": torch.tensor(draw(st.lists(values, min_size=1, max_size=25)), dtype=dtype)
        for i in range(draw(st.integers(1, 3)))
    }
    total = sum(t.numel() for t in scores.values())
    within = None
    if draw(st.booleans()):
        flags = torch.tensor(draw(st.lists(st.booleans(), min_size=total, max_size=total)))
        within = dict(zip(scores, flags.split([t.numel() for t in scores.values()])))
    candidates = total if within is None else int(sum(bits.sum() for bits in within.values()))
    return scores, within, draw(st.integers(0, candidates)), draw(st.integers(1, 80))


@given(problems(), st.sampled_from([0, selection.SMALL]))
def test_it_is_the_stable_sort_for_any_scores_counts_masks_and_chunks(problem, small):
    scores, within, keep, chunk = problem
    with mock.patch.object(selection, "SMALL", small):  # 0: by histograms, whatever the size
        masks = sp.select(scores, [Pool(tuple(scores), keep)], within=within, chunk=chunk)
    assert sum(int(bits.sum()) for bits in masks.values()) == keep
    assert same(masks, naive(scores, keep, within))


@pytest.mark.parametrize("equal", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("keep", [0, 1, 499, 500, 501, 999, 1000])
def test_counts_are_exact_however_many_scores_are_equal(equal, keep, method):
    scores = torch.rand(1000, generator=torch.Generator().manual_seed(0)) + 1
    scores[: int(equal * 1000)] = 0
    for chunk in (1, 64, 1000, 4096):
        masks = sp.select({"w": scores}, [Pool(("w",), keep)], chunk=chunk)
        assert int(masks["w"].sum()) == keep
        assert same(masks, naive({"w": scores}, keep))


def test_ties_go_to_the_earlier_tensor_then_to_the_lower_index(method):
    scores = {"b": torch.tensor([[1.0, 2.0], [1.0, 1.0]]), "a": torch.tensor([1.0, 3.0])}
    masks = sp.select(scores, [Pool(("b", "a"), 4)])
    assert masks["b"].tolist() == [[True, True], [True, False]]
    assert masks["a"].tolist() == [False, True]
    # the pool says the order, not the dictionary
    assert sp.select(scores, [Pool(("a", "b"), 3)])["a"].all()


@pytest.mark.parametrize(
    ("scores", "keep", "expected"),
    [
        ([-3.0, -1.0, -2.0], 1, [0, 1, 0]),
        ([0.0, -0.0, 0.0], 2, [1, 1, 0]),  # the two zeros are one value
        ([-0.0, 0.0, -1e-45], 2, [1, 1, 0]),
        ([0.0, 1e-45, 3e-45], 1, [0, 0, 1]),  # denormals keep their order
        ([-INF, 0.0, -INF], 2, [1, 1, 0]),
        ([INF, 1.0, INF], 1, [1, 0, 0]),
        ([-INF], 1, [1]),
        ([-INF], 0, [0]),
    ],
)
def test_small_tables(scores, keep, expected, method):
    assert sp.select({"w": torch.tensor(scores)}, [Pool(("w",), keep)])["w"].tolist() == [bool(e) for e in expected]


def test_the_lowest_integer_may_be_kept_and_stays_inside_a_mask(method):
    scores = {"w": torch.tensor([-(2**31), 5, -(2**31), 2**31 - 1], dtype=torch.int32)}
    assert sp.select(scores, [Pool(("w",), 3)])["w"].tolist() == [True, True, False, True]
    within = {"w": torch.tensor([False, True, True, False])}
    assert sp.select(scores, [Pool(("w",), 2)], within=within)["w"].tolist() == [False, True, True, False]
    assert sp.select(scores, [Pool(("w",), 1)], within=within)["w"].tolist() == [False, True, False, False]


@pytest.mark.parametrize("keep", [0, 2, 3])
@pytest.mark.parametrize("nan", [float("nan"), -float("nan")])
def test_a_nan_is_an_error_that_names_the_tensor(keep, nan, method):
    with pytest.raises(ValueError, match="layer\\.weight contain NaN"):
        sp.select({"layer.weight": torch.tensor([1.0, nan, -INF])}, [Pool(("layer.weight",), keep)])


def test_a_nan_is_an_error_in_groups_too():
    scores = {"w": torch.tensor([[1.0, float("nan")]])}
    with pytest.raises(ValueError, match="NaN"):
        sp.select(scores, sp.n_of_m(scores, 1, 2))


def test_a_float64_order_is_that_of_float32_and_bfloat16_is_read_exactly():
    wide = torch.tensor([1.0, 1.0 + 1e-12, 1.0 + 1e-6], dtype=torch.float64)
    assert sp.select({"w": wide}, [Pool(("w",), 2)])["w"].tolist() == [True, False, True]
    narrow = torch.randn(400, generator=torch.Generator().manual_seed(1)).bfloat16().view(20, 20)
    score = sp.magnitude({"w": narrow})
    assert same(sp.select(score, [Pool(("w",), 170)]), naive({"w": narrow.float().abs()}, 170))


def test_the_flat_index_is_the_logical_one_whatever_the_memory_layout():
    scores = torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(2)).round(decimals=1)
    for layout in (scores.to(memory_format=torch.channels_last), scores.transpose(0, 3).contiguous().transpose(0, 3)):
        assert not layout.is_contiguous()
        assert same(sp.select({"w": layout}, [Pool(("w",), 100)]), naive({"w": scores}, 100))


def test_pruning_within_masks_is_monotone():
    weights = {"w": torch.randn(40, 50), "v": torch.randn(700)}
    masks = None
    for sparsity in (0.3, 0.6, 0.9):
        again = {n: torch.randn_like(w) for n, w in weights.items()}  # unrelated scores each time
        new = sp.select(again, sp.global_pool(weights, sparsity), within=masks)
        assert masks is None or not any(bool((new[n] & ~masks[n]).any()) for n in new)
        assert sum(int(bits.sum()) for bits in new.values()) == sp.kept_count(2700, sparsity)
        masks = new


def test_what_cannot_be_kept_is_an_error_that_says_how_many_can():
    scores = {"w": torch.ones(2, 4)}
    with pytest.raises(AllocationError, match="9 weights are to be kept in w, only 8 can be"):
        sp.select(scores, [Pool(("w",), 9)])
    with pytest.raises(AllocationError, match="-1 weights"):
        sp.select(scores, [Pool(("w",), -1)])
    within = {"w": torch.tensor([[True, True, False, False], [True, False, False, False]])}
    with pytest.raises(AllocationError, match="4 weights are to be kept in w, only 3 can be"):
        sp.select(scores, [Pool(("w",), 4)], within=within)
    with pytest.raises(AllocationError, match="a group of w has fewer candidates"):
        sp.select(scores, sp.n_of_m(scores, 2, 4), within=within)
    with pytest.raises(AllocationError, match="within: w has shape"):
        sp.select(scores, [Pool(("w",), 1)], within={"w": torch.ones(8, dtype=torch.bool)})


def test_pools_that_make_no_sense_are_errors():
    scores = {"w": torch.ones(2, 4), "v": torch.ones(3)}
    with pytest.raises(AllocationError, match="two pools"):
        sp.select(scores, [Pool(("w",), 1), Pool(("w", "v"), 1)])
    with pytest.raises(AllocationError, match="no scores for u; scored are w, v"):
        sp.select(scores, [Pool(("u",), 1)])
    with pytest.raises(AllocationError, match="3 groups of 2 do not make up w"):
        sp.select(scores, [Groups("w", 2, np.ones(3, dtype=np.int64))])
    with pytest.raises(AllocationError, match="fewer candidates"):
        sp.select(scores, [Groups("w", 2, np.array([1, 1, 3, 1]))])


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (4, 4), (3, 8)])
@pytest.mark.parametrize("shape", [(6, 16), (5, 8, 3, 3), (4, 8, 1)])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 18])
def test_every_group_of_m_along_the_input_axis_keeps_its_n_best(n, m, shape, chunk):
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(3)).round(decimals=1)  # with ties
    mask = sp.select({"w": scores}, sp.n_of_m({"w": scores}, n, m), chunk=chunk)["w"]
    for runs, values in zip(mask.movedim(1, -1).reshape(-1, m), scores.movedim(1, -1).reshape(-1, m)):
        assert torch.equal(runs, naive({"w": values}, n)["w"])


@pytest.mark.parametrize("chunk", [1, 70, 1 << 18])
def test_every_row_keeps_its_own_count_inside_a_mask(chunk):
    weights = {"w": torch.randn(7, 5, 3), "v": torch.randn(4, 9)}
    within = {n: torch.rand(w.shape) > 0.05 for n, w in weights.items()}
    pools = sp.per_row(weights, 0.7)
    masks = sp.select(sp.magnitude(weights), pools, within=within, chunk=chunk)
    for groups in pools:
        rows = zip(weights[groups.name], within[groups.name], masks[groups.name], groups.keeps)
        for weight, allowed, mask, keep in rows:
            assert torch.equal(mask, naive({"w": weight.abs()}, int(keep), {"w": allowed})["w"])


def test_pools_are_independent():
    weights = {name: torch.randn(30, 10) for name in "abc"}
    pools = [Pool(("a", "c"), 100), *sp.n_of_m({"b": weights["b"]}, 1, 2)]
    masks = sp.select(sp.magnitude(weights), pools)
    assert int(masks["a"].sum() + masks["c"].sum()) == 100
    assert int(masks["b"].sum()) == 150
    assert not sp.select(weights, [])


MEMORY = """
import resource, sys, torch
from common import sparsity as sp
n = 8_000_000
weights = {"w": torch.empty(n).uniform_(-1, 1).view(4000, 2000)}
small = {"w": weights["w"][:500]}
pools = {"global": sp.global_pool, "rows": sp.per_row, "pairs": lambda w, s: sp.n_of_m(w, 2, 4)}[sys.argv[1]]
sp.select(sp.magnitude(small), pools(small, 0.8))  # what torch allocates once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sp.select(sp.magnitude(weights), pools(weights, 0.8))
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown * (1 if sys.platform == "darwin" else 1024) / n)
"""


@pytest.mark.parametrize("pools", ["global", "rows", "pairs"])
def test_extra_memory_is_the_mask_and_a_few_chunks(pools):
    root = ROOT
    done = subprocess.run([sys.executable, "-c", MEMORY, pools], cwd=root, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 3, "bytes a weight; the mask takes 1, a float copy would take 4 more"
