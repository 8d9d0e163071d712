"""Allocation: integer counts that add up, and the published numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common import sparsity as sp
from common.methods.imp import Method as Imp
from common.sparsity.allocation import RULES, AllocationError, Pool, shapes_of

LENET = {"hidden1.weight": (300, 784), "hidden2.weight": (100, 300), "output.weight": (10, 100)}
TOTAL = 266_200
SHAPES = st.dictionaries(
    st.sampled_from("abcdefgh"), st.lists(st.integers(1, 12), min_size=2, max_size=4).map(tuple), min_size=1
)
SPARSITIES = st.floats(0, 1, exclude_max=True)


def kept(pool) -> int:
    return pool.keep if isinstance(pool, Pool) else int(pool.keeps.sum())


def numel(shape) -> int:
    return int(np.prod(shape))


@pytest.mark.parametrize(
    ("rounds", "percent", "counts"),
    [
        (3, 51.28, [120422, 15360, 729]),
        (7, 21.07, [49325, 6291, 478]),
        (9, 13.52, [31568, 4027, 387]),
        (15, 3.58, [8275, 1056, 206]),
    ],
)
def test_lenet_remains_as_frankle_and_carbin_print_it(rounds, percent, counts):
    config = Imp.Config(allocation="layers", rounds=rounds, rates={"output.weight": 0.1})
    pools = Imp(config).allocation({name: torch.empty(shape, device="meta") for name, shape in LENET.items()}, 0.5)
    assert [p.names for p in pools] == [(name,) for name in LENET]
    assert [p.keep for p in pools] == counts
    assert round(100 * sum(counts) / TOTAL, 2) == percent


@pytest.mark.parametrize(
    ("total", "sparsity", "expected"),
    [(10, 0, 10), (10, 0.8, 2), (10, 0.75, 3), (10, 0.74, 3), (10, 0.76, 2), (1, 0.5, 1), (1, 0.51, 0), (3, 0.99, 0),
     (0, 0.5, 0), (355_000_000, 0.8, 71_000_000), (10**12, 0.999, 10**9),
     (5, 0.9, 1), (30, 0.55, 14), (50, 0.99, 1)],  # halves, as they are written
)  # fmt: skip
def test_kept_count_rounds_to_nearest(total, sparsity, expected):
    assert sp.kept_count(total, sparsity) == expected


@pytest.mark.parametrize("rounds", range(1, 11))
def test_smc_bench_levels(rounds):
    """Sparsity 1 - 0.8^k of a million weights: within half a weight, by every rule."""
    level = sp.geometric_levels(0.8926258176, 0.2)[rounds - 1]
    for rule in RULES:
        pools = sp.allocate(rule, {"first": (10, 1000), "a": (1000, 980), "last": (10, 1000)}, level)
        assert abs(sum(map(kept, pools)) - 0.8**rounds * 1e6) <= 0.5


def last_matrix(shapes) -> str | None:
    return next((name for name in reversed(shapes) if len(shapes[name]) == 2), None)


def fewest(shapes, rule: str) -> float:
    """The least number of weights that the rule can keep."""
    if rule == "global":
        return 0
    dense = {"erk_plus": last_matrix(shapes), "uniform_first_dense": next(iter(shapes))}
    if rule not in dense:
        return len(shapes)
    return len(shapes) - 1 + numel(shapes[dense[rule]]) if dense[rule] else float("inf")


@given(SHAPES, SPARSITIES, st.sampled_from(sorted(RULES)))
def test_every_rule_is_exact_in_total_and_empties_no_tensor(shapes, sparsity, rule):
    total = sp.kept_count(sum(map(numel, shapes.values())), sparsity)
    if total < fewest(shapes, rule):
        with pytest.raises(AllocationError, match=f"{rule} keeps|tensors that keep at least one each"):
            sp.allocate(rule, shapes, sparsity)
        return
    pools = sp.allocate(rule, shapes, sparsity)
    assert sum(map(kept, pools)) == total
    if rule != "global":
        names = [p.name if rule == "rows" else p.names[0] for p in pools]
        assert names == list(shapes)
        assert all(1 <= kept(pool) <= numel(shapes[name]) for pool, name in zip(pools, names))


def one_each(exact: np.ndarray) -> np.ndarray:
    """max(1, scale * exact) with the same sum, the scale found by halving an interval."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(1, middle * exact).sum() < exact.sum() else (low, middle)
    return np.maximum(1, high * exact)


@given(SHAPES, SPARSITIES)
def test_uniform_is_within_one_weight_of_its_share(shapes, sparsity):
    n = np.array([numel(s) for s in shapes.values()])
    total = sp.kept_count(n.sum(), sparsity)
    if total >= len(shapes):
        keeps = np.array([pool.keep for pool in sp.uniform(shapes, sparsity)])
        assert np.abs(keeps - one_each(n * total / n.sum())).max() < 1 + 1e-6


@pytest.mark.parametrize("rule", ["uniform", "rows", "erk"])
def test_what_would_empty_a_layer_leaves_it_one_weight(rule):
    shapes = {"h": (50, 100), "out": (1, 50)}
    assert [kept(pool) for pool in sp.allocate(rule, shapes, 0.995)][1] >= 1
    assert sum(kept(pool) for pool in sp.allocate(rule, shapes, 0.995)) == 25
    many = {"big": (100, 100), **{f"small{k}": (2, 2) for k in range(8)}}
    assert [kept(pool) for pool in sp.allocate("uniform", many, 0.99)] == [92] + [1] * 8
    with pytest.raises(AllocationError, match="1 of 5050 weights would live, in 2 tensors that keep at least one each"):
        sp.allocate(rule, shapes, 0.9998)
    assert sp.per_layer(shapes, {"h": 0.001, "out": 0.001})[1].keep == 1
    assert sp.per_layer(shapes, {"h": 0.5, "out": 0.0})[1].keep == 0, "asked for by name"


def test_uniform_with_the_first_tensor_dense():
    shapes = {"first": (20, 10), "second": (50, 20), "third": (10, 50)}
    # 340 of 1,700 live at 80%: 200 in the first, 140 of the other 1,500
    assert [p.keep for p in sp.allocate("uniform_first_dense", shapes, 0.8)] == [200, 93, 47]
    # RigL's own count: the others at exactly 80%, the first one not counted
    others = {name: shape for name, shape in shapes.items() if name != "first"}
    assert [p.keep for p in sp.allocate("uniform", others, 0.8)] == [200, 100]
    with pytest.raises(
        AllocationError, match=r"first with its 200 weights dense .* only 170 of all 1700 .*uniform can"
    ):
        sp.allocate("uniform_first_dense", shapes, 0.9)


def solved_by_bisection(shapes, sparsity) -> np.ndarray:
    """ERK densities another way: min(1, scale * raw), the scale found by halving an interval."""
    n = np.array([numel(s) for s in shapes.values()])
    raw = np.array([sum(s) / numel(s) for s in shapes.values()])
    low, high = 0.0, 1 / raw.min()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if (np.minimum(1, raw * middle) * n).sum() < (1 - sparsity) * n.sum() else (low, middle)
        )
    return np.minimum(1, raw * high)


@given(SHAPES, SPARSITIES)
def test_erk_is_the_closed_form_with_dense_tensors_capped(shapes, sparsity):
    n = np.array([numel(s) for s in shapes.values()])
    if sp.kept_count(n.sum(), sparsity) < len(shapes):
        return
    keeps = np.array([p.keep for p in sp.erdos_renyi_kernel(shapes, sparsity)])
    # half a weight of the total may be rounded away, which the small tensors share; then one by largest remainder
    assert np.abs(keeps - one_each(solved_by_bisection(shapes, sparsity) * n)).max() < 1.5 + 1e-6


def test_erk_by_hand():
    shapes = {"wide": (10, 1000), "narrow": (10, 10)}
    # raw densities 1010/10000 and 20/100; at 95% of 10100: 505 weights, scale 505 / (1010 + 20)
    pools = sp.erdos_renyi_kernel(shapes, 0.95)
    assert [p.keep for p in pools] == [495, 10]
    # 6060 * 20 / 1030 would be 118 of the narrow one's 100: it is dense, and the wide one gets the rest
    assert [p.keep for p in sp.erdos_renyi_kernel(shapes, 0.4)] == [5960, 100]
    # kernel sides count for kernels: (8 + 4 + 3 + 3) / (8 * 4 * 9); 54 weights, scale 54 / (18 + 32)
    kernels = {"conv": (8, 4, 3, 3), "line": (16, 16)}
    assert [p.keep for p in sp.erdos_renyi_kernel(kernels, 0.9)] == [19, 35]


@given(SHAPES, SPARSITIES)
def test_erk_plus_is_erk_of_the_rest_beside_a_dense_last_matrix(shapes, sparsity):
    total = sum(map(numel, shapes.values()))
    if sp.kept_count(total, sparsity) < fewest(shapes, "erk_plus"):
        return
    keeps = {p.names[0]: p.keep for p in sp.erdos_renyi_kernel_plus(shapes, sparsity)}
    last = last_matrix(shapes)
    assert list(keeps) == list(shapes) and keeps.pop(last) == numel(shapes[last])
    rest = {name: shape for name, shape in shapes.items() if name != last}
    if rest and sum(keeps.values()):
        left = sum(map(numel, rest.values()))
        expected = solved_by_bisection(rest, 1 - sum(keeps.values()) / left)
        exact = one_each(expected * [numel(s) for s in rest.values()])
        assert np.abs(np.array(list(keeps.values())) - exact).max() < 1 + 1e-6


def test_erk_plus_by_hand():
    """LeNet-300-100 at 98 %: 5,324 live, 1,000 of them in the output; 4,324 are shared as 1,084 to 400."""
    assert [p.keep for p in sp.allocate("erk_plus", LENET, 0.98)] == [3159, 1165, 1000]
    assert [p.keep for p in sp.allocate("erk", LENET, 0.98)] == [3621, 1336, 367]
    assert sp.allocate("erk_plus", LENET, 0.9) == sp.allocate("erk", LENET, 0.9), "where ERK has it dense anyway"
    kernels = {"first": (8, 4, 3, 3), "output": (5, 4), "last": (4, 4, 3, 3)}
    assert [p.keep for p in sp.erdos_renyi_kernel_plus(kernels, 0.5)][1] == 20, "the last matrix, not the last tensor"


def test_erk_plus_that_cannot_be_met_says_so():
    with pytest.raises(AllocationError, match=r"output.weight with its 1000 weights dense .* only 266 of all 266200"):
        sp.erdos_renyi_kernel_plus(LENET, 0.999)
    with pytest.raises(AllocationError, match="there is none among conv"):
        sp.erdos_renyi_kernel_plus({"conv": (4, 4, 3, 3)}, 0.5)


@given(SHAPES, SPARSITIES)
def test_rows_differ_by_one_at_most(shapes, sparsity):
    if sp.kept_count(sum(map(numel, shapes.values())), sparsity) < len(shapes):
        return
    for groups in sp.per_row(shapes, sparsity):
        shape = shapes[groups.name]
        assert groups.size == numel(shape[1:])
        assert len(groups.keeps) == shape[0]
        assert groups.keeps.max() - groups.keeps.min() <= 1
        assert groups.keeps.max() <= groups.size


@given(SHAPES, st.lists(SPARSITIES, min_size=2, max_size=8).map(sorted), st.sampled_from(["uniform", "erk", "global"]))
def test_living_counts_never_rise_when_given(shapes, levels, rule):
    living = {name: numel(shape) for name, shape in shapes.items()}
    levels = [x for x in levels if sp.kept_count(sum(living.values()), x) >= fewest(shapes, rule)]
    for level in levels:
        pools = sp.allocate(rule, shapes, level, living=living)
        assert sum(p.keep for p in pools) == sp.kept_count(sum(map(numel, shapes.values())), level)
        if rule != "global":
            assert all(p.keep <= living[p.names[0]] for p in pools)
            living = {p.names[0]: p.keep for p in pools}


def test_rounding_alone_may_raise_a_count_where_living_is_not_given():
    """Why ``living`` exists: gradual pruning within masks would ask for a weight that is gone."""
    shapes = {"a": (6, 1), "b": (6, 1), "c": (2, 1)}
    assert [p.keep for p in sp.uniform(shapes, 0.5)] == [3, 3, 1]
    assert [p.keep for p in sp.uniform(shapes, 0.55)] == [3, 2, 1]
    assert [p.keep for p in sp.uniform(shapes, 0.55, living={"a": 2, "b": 4, "c": 1})] == [2, 3, 1]
    with pytest.raises(AllocationError, match="6 weights cannot be kept where only 5 exist"):
        sp.uniform(shapes, 0.55, living={"a": 2, "b": 3, "c": 0})


def test_n_of_m_counts():
    (groups,) = sp.n_of_m({"w": (6, 8, 3, 3)}, 2, 4)
    assert (groups.name, groups.size, len(groups.keeps), int(groups.keeps.sum())) == ("w", 4, 108, 216)


def test_from_masks_keeps_each_tensor_s_count():
    masks = sp.Masks({"a": torch.nn.Parameter(torch.ones(2, 3)), "b": torch.nn.Parameter(torch.ones(4))})
    masks.update({"a": torch.tensor([[True, False, True], [False] * 3]), "b": torch.ones(4, dtype=torch.bool)})
    assert sp.from_masks(masks) == [Pool(("a",), 2), Pool(("b",), 4)]
    assert sp.from_masks(masks.bits) == sp.from_masks(masks)


def test_sizes_may_be_shapes_or_tensors():
    tensors = {name: torch.empty(shape, device="meta") for name, shape in LENET.items()}
    assert shapes_of(tensors) == LENET
    assert sp.uniform(tensors, 0.9) == sp.uniform(LENET, 0.9)


@pytest.mark.parametrize("sparsity", [1, 1.0, -0.1, float("nan"), float("inf"), "0.5", None, True])
@pytest.mark.parametrize("rule", sorted(RULES))
def test_sparsity_is_a_share_below_one(rule, sparsity):
    with pytest.raises(AllocationError, match=r"share of zeros, a number in \[0, 1\); found"):
        sp.allocate(rule, LENET, sparsity)


def test_other_impossible_requests_say_what_is_wrong():
    with pytest.raises(
        AllocationError, match="one of global, uniform, uniform_first_dense, erk, erk_plus, rows; found 'ekr'"
    ):
        sp.allocate("ekr", LENET, 0.5)
    with pytest.raises(AllocationError, match="bias has shape \\(5,\\): rows need two"):
        sp.per_row({"bias": (5,)}, 0.5)
    with pytest.raises(AllocationError, match=r"groups of 4 are impossible on w: its input width 6 .* multiple of 4"):
        sp.n_of_m({"w": (4, 6)}, 2, 4)
    for n, m in ((0, 4), (5, 4), (-1, 4), (2.0, 4)):
        with pytest.raises(AllocationError, match="whole numbers 0 < N <= M"):
            sp.n_of_m({"w": (4, 8)}, n, m)
    with pytest.raises(AllocationError, match="shares are needed for"):
        sp.per_layer(LENET, {"output.weight": 0.5})
    with pytest.raises(AllocationError, match="the share kept of w must be in"):
        sp.per_layer({"w": (2, 2)}, {"w": 1.5})
