"""Blocks and N:M: counts are exact, atoms whole, every method that takes a structure ends in it, plans say no."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from common import paths, record, registry
from common import sparsity as sp
from common.errors import UserError
from common.sparsity import allocation, choosing
from common.sparsity.allocation import RULES, AllocationError
from common.stage import run
from launch.__main__ import main
from launch.plan import fits_the_model, planner
from launch.request.arguments import parse
from tests.support import training
from tests.support.cli import ROOT, copy
from tests.support.training import Toy, toy

SPARSITIES = st.floats(0, 0.99)
BLOCKS = st.tuples(st.integers(1, 4), st.integers(1, 4)).filter(lambda form: form != (1, 1))


@st.composite
def tensors(draw, rows=1, columns=1):
    """``{name: float32 scores}``, with ties, of shapes that ``rows`` and ``columns`` divide: matrices and kernels."""
    found, seed = {}, draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    for name in draw(st.sampled_from(["a", "ab", "abc"])):
        kernel = draw(st.sampled_from([(), (1, 1), (3,), (2, 3)]))
        shape = (rows * draw(st.integers(1, 5)), columns * draw(st.integers(1, 5)), *kernel)
        found[name] = torch.randint(-4, 5, shape, generator=generator) / 4.0
    return found


def atoms_of(bits: torch.Tensor, rows: int, columns: int) -> np.ndarray:
    """bool[blocks, weights in each], blocks in the order of the tensor: written plainly."""
    out, inputs, *kernel = bits.shape
    found = []
    for i in range(0, out, rows):
        for j in range(0, inputs, columns):
            for place in np.ndindex(*kernel):
                where = (slice(i, i + rows), slice(j, j + columns), *place)
                found.append(bits[where].reshape(-1).numpy())
    return np.array(found)


def groups_of(bits: torch.Tensor, m: int) -> torch.Tensor:
    """[groups, m]: every m consecutive entries along the input axis."""
    return bits.movedim(1, -1).reshape(-1, m)


def kept(masks) -> int:
    return sum(int(bits.sum()) for bits in masks.values())


# --- the forms --------------------------------------------------------------------------------------------------------


def test_names_of_structures():
    assert sp.form("weights").size == 1
    assert sp.form("4x2") == sp.Blocks(4, 2) and str(sp.form("4x2")) == "4x2" and sp.form("4x2").size == 8
    assert sp.form("2:4") == sp.Pattern(2, 4) and sp.form("1:3").sparsity == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "name", ["", "blocks", "1x1", "0x4", "4x0", "4:2", "4:4", "0:4", "2:4:8", "2.0:4", "4X4", " 2:4", "2:4\n", "01:4"]
)
def test_other_names_are_errors(name):
    with pytest.raises(AllocationError, match="expected weights"):
        sp.form(name)


# --- exactness --------------------------------------------------------------------------------------------------------


@given(tensors(), SPARSITIES, st.sampled_from(sorted(RULES)), st.data())
def test_single_weights_are_chosen_as_ever(scores, sparsity, rule, data):
    try:
        sp.allocate(rule, scores, sparsity)
    except AllocationError:
        return
    expected = sp.select(scores, sp.allocate(rule, scores, sparsity))
    found = sp.choose(scores, sparsity, rule)
    assert training.equal(found, expected)
    if rule == "rows":
        return
    less = data.draw(st.floats(0, sparsity))
    within = sp.choose(scores, less, rule)
    counts = {name: int(bits.sum()) for name, bits in within.items()}
    expected = sp.select(scores, sp.allocate(rule, scores, sparsity, counts), within=within)
    assert training.equal(sp.choose(scores, sparsity, rule, within=within), expected)


@settings(max_examples=60)
@given(
    BLOCKS.flatmap(lambda form: st.tuples(st.just(form), tensors(*form))), SPARSITIES, st.sampled_from(sorted(RULES))
)
def test_blocks_are_whole_and_their_number_is_exact(drawn, sparsity, rule):
    (rows, columns), scores = drawn
    name = f"{rows}x{columns}"
    total = sum(tensor.numel() for tensor in scores.values()) // (rows * columns)
    wanted = sp.kept_count(total, sparsity)
    try:
        masks = sp.choose(scores, sparsity, rule, name)
    except AllocationError as problem:
        assert rule != "global" and f"counted in blocks of {name}" in str(problem)
        return
    assert {n: bits.shape for n, bits in masks.items()} == {n: tensor.shape for n, tensor in scores.items()}
    blocks = {n: atoms_of(bits, rows, columns) for n, bits in masks.items()}
    assert all((block.all(1) | ~block.any(1)).all() for block in blocks.values())
    assert sum(int(block.all(1).sum()) for block in blocks.values()) == wanted
    assert abs(kept(masks) / (total * rows * columns) - (1 - sparsity)) <= 0.5 / total + 1e-9
    if rule == "global":  # the best by a stable sort of the sums: ties go to the earlier tensor, then the earlier block
        sums = np.concatenate([atoms_of(tensor, rows, columns).sum(1) for tensor in scores.values()])
        best = np.argsort(-sums, kind="stable")[:wanted]
        assert set(np.flatnonzero(np.concatenate([b.all(1) for b in blocks.values()]))) == set(best.tolist())
    if rule == "uniform":
        for block in blocks.values():
            share = len(block) * (1 - sparsity)
            assert abs(block.all(1).sum() - share) <= 1 or wanted < 2 * len(blocks), "one each"


@settings(max_examples=60)
@given(st.sampled_from([(2, 4), (1, 4), (1, 2), (4, 8), (1, 3), (3, 5)]), st.data())
def test_every_group_keeps_its_best_n(pattern, data):
    n, m = pattern
    scores = data.draw(tensors(1, m))
    masks = sp.choose(scores, 1 - n / m, "erk", f"{n}:{m}")  # an allocation has no say
    for name, bits in masks.items():
        ranked = np.argsort(-groups_of(scores[name], m).numpy(), axis=1, kind="stable")[:, :n]
        expected = np.zeros((bits.numel() // m, m), dtype=bool)
        np.put_along_axis(expected, ranked, True, axis=1)
        assert np.array_equal(groups_of(bits, m).numpy(), expected)


FORMS = {"weights": (1, 1), "2x2": (2, 2), "1x4": (1, 4), "4x1": (4, 1), "2:4": (1, 4), "1:4": (1, 4), "1:3": (1, 3)}


@settings(max_examples=80)
@given(st.sampled_from(sorted(FORMS)).flatmap(lambda f: st.tuples(st.just(f), tensors(*FORMS[f]))), st.data())
def test_choosing_within_is_monotone_and_gets_there(drawn, data):
    """As gradual pruning does: new scores each time, nothing returns, and the end is the structure, exactly."""
    form, scores = drawn
    rule = data.draw(st.sampled_from(["global", "uniform", "erk"]))
    last = sp.form(form).sparsity if ":" in form else data.draw(SPARSITIES)
    total, size = sum(s.numel() for s in scores.values()), 1 if ":" in form else sp.form(form).size
    assume(":" in form or sp.kept_count(total // size, last) >= len(scores))  # one for each tensor
    before = None
    for share in [*sorted(data.draw(st.lists(st.floats(0, 1), max_size=4))), 1.0]:
        now = last if share == 1 else share * last
        masks = sp.choose({n: torch.rand_like(s) for n, s in scores.items()}, now, rule, form, before)
        if before is not None:
            assert all(not (masks[name] & ~before[name]).any() for name in masks)
        if ":" in form:
            counts = {int(c) for bits in masks.values() for c in groups_of(bits, sp.form(form).m).sum(1)}
            assert len(counts) == 1 and 1 - counts.pop() / sp.form(form).m <= now + 1e-3
        before = masks
    assert kept(before) == (round(total * (1 - last)) if ":" in form else sp.kept_count(total // size, last) * size)


def test_a_kernels_blocks_and_groups_lie_at_one_position():
    scores = torch.zeros(4, 4, 2, 2)
    scores[2:4, 0:2, 1, 0] = 1.0
    assert torch.equal(sp.choose({"w": scores}, 15 / 16, structure="2x2")["w"], scores.bool())
    scores = torch.zeros(1, 4, 3)
    scores[0, 1, :] = scores[0, 3, :] = 1.0  # at every position inputs 1 and 3
    assert torch.equal(sp.choose({"w": scores}, 0.5, structure="2:4")["w"], scores.bool())


def test_a_blocks_worth_is_the_sum_in_double_precision():
    """Added in float32, 2^24 + 1 + 1 would be 2^24, and the second block would not lose."""
    scores = torch.tensor([[2.0**24, 1.0, 1.0, 0.0], [2.0**24, 1.0, 0.0, 0.0]])
    sums = choosing.blocks({"w": scores}, sp.Blocks(1, 4))["w"]
    assert sums.dtype == torch.float32 and sums.view(-1).tolist() == [2.0**24 + 2, 2.0**24]
    assert sp.choose({"w": scores.flip(0)}, 0.5, structure="1x4")["w"][:, 0].tolist() == [False, True]


def test_large_tensors_are_summed_piece_by_piece(monkeypatch):
    scores = {"w": torch.randn(24, 16, 3, 3), "v": torch.randn(8, 8)}
    whole = choosing.blocks(scores, sp.Blocks(4, 2))
    for chunk in (1, 600, 2000):
        monkeypatch.setattr(choosing, "CHUNK", chunk)
        assert training.equal(choosing.blocks(scores, sp.Blocks(4, 2)), whole)


def test_infinite_and_random_scores():
    scores = torch.ones(2, 4)
    scores[0, 0] = -torch.inf
    assert sp.choose({"w": scores}, 0.5, structure="2x2")["w"][:, :2].any().item() is False
    scores[1, 1] = torch.nan
    with pytest.raises(ValueError, match="scores of w contain NaN"):
        sp.choose({"w": scores}, 0.5, structure="2x2")
    weights = {"w": torch.empty(40, 40)}
    first, second = (sp.choose(sp.random_score(weights, seed), 0.5, structure="4x4")["w"] for seed in (1, 2))
    assert int(first.sum()) == int(second.sum()) == 800 and not torch.equal(first, second)


@pytest.mark.parametrize("rule", ["erk", "uniform"])
def test_layers_get_the_densities_that_single_weights_give_them(rule):
    """ERK's are of the tensors' shapes: a grid of 4x1 blocks is no layer of a quarter of the outputs."""
    weights = {"a": torch.rand(64, 16, 3, 3), "b": torch.rand(64, 256), "c": torch.rand(16, 64)}
    for form in ("4x1", "2x4"):
        blocks, single = sp.choose(weights, 0.8, rule, form), sp.choose(weights, 0.8, rule)
        for name, bits in blocks.items():
            assert bits.double().mean().item() == pytest.approx(single[name].double().mean().item(), abs=0.01), name


def test_only_whole_blocks_live_within():
    within = torch.ones(4, 4, dtype=torch.bool)
    within[0, 0] = False
    masks = sp.choose({"w": torch.arange(16.0).view(4, 4).flip(0)}, 0.25, structure="2x2", within={"w": within})
    assert not masks["w"][:2, :2].any() and int(masks["w"].sum()) == 12
    with pytest.raises(
        AllocationError, match=r"4 weights are to be kept in w, only 3 can be \(counted in blocks of 2x2"
    ):
        sp.choose({"w": torch.ones(4, 4)}, 0.0, structure="2x2", within={"w": within})


@pytest.mark.parametrize(
    "shape, form, message",
    [
        ((6, 8), "4x4", r"blocks of 4x4 do not divide w of shape \(6, 8\)"),
        ((8, 6), "4x4", r"blocks of 4x4 do not divide w of shape \(8, 6\)"),
        ((16, 3, 3, 3), "2:4", r"groups of 4 are impossible on w: its input width 3 \(shape \(16, 3, 3, 3\)\)"),
        ((8,), "2x2", r"blocks of 2x2 do not divide w of shape \(8,\)"),
    ],
)
def test_what_does_not_fit_is_named(shape, form, message):
    with pytest.raises(AllocationError, match=message):
        sp.choose({"w": torch.ones(shape)}, 0.5, structure=form)
    with pytest.raises(AllocationError, match=message):
        sp.pools({"w": shape}, 0.5, structure=form)


def test_more_than_the_pattern_is_an_error():
    with pytest.raises(AllocationError, match=r"2:4 is a sparsity of 0\.5 and never more, found 0\.75"):
        sp.choose({"w": torch.ones(4, 4)}, 0.75, structure="2:4")


# --- drop and grow ----------------------------------------------------------------------------------------------------


@given(BLOCKS.flatmap(lambda form: st.tuples(st.just(form), tensors(*form))), SPARSITIES, st.floats(0, 1), st.data())
def test_blocks_move_as_single_weights_of_their_grid_do(drawn, sparsity, fraction, data):
    (rows, columns), scores = drawn
    form = sp.Blocks(rows, columns)
    masks = sp.Masks({name: nn.Parameter(torch.ones_like(s)) for name, s in scores.items()})
    masks.update(sp.choose(scores, sparsity, structure=str(form)))
    grow = {name: torch.rand_like(s) for name, s in scores.items()}
    found = sp.drop_and_grow(masks, scores, grow, fraction, str(form))
    grid = sp.Masks({n: nn.Parameter(s.clone()) for n, s in choosing.blocks(scores, form).items()})
    grid.update(choosing.whole(masks, form))
    expected = sp.drop_and_grow(grid, choosing.blocks(scores, form), choosing.blocks(grow, form), fraction)
    for name, bits in found.items():
        blocks = atoms_of(bits, rows, columns)
        assert (blocks.all(1) | ~blocks.any(1)).all() and int(bits.sum()) == masks.counts[name]
        assert np.array_equal(blocks.all(1), atoms_of(expected[name], 1, 1).reshape(-1))


def test_a_pattern_does_not_move():
    masks = sp.Masks({"w": nn.Parameter(torch.ones(4, 4))})
    with pytest.raises(AllocationError, match="weights or blocks, found 2:4"):
        sp.drop_and_grow(masks, masks.weights, masks.weights, 0.3, "2:4")


# --- every method -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shared(shared_runs, monkeypatch):
    monkeypatch.setenv("RUNS", str(shared_runs))


SPARSE = [m for m in registry.methods() if hasattr(registry.method(m).Config(), "structure")]
FEW = {"run.steps": 12, "run.checkpoint_every": 0}


@pytest.mark.parametrize("method", SPARSE)
def test_every_method_ends_in_whole_blocks(method, shared):
    level = min(0.8, training.MOST.get(method, 1))
    every = {"method.every": 2} if "every" in vars(registry.method(method).Config()) else {}
    folder = training.trained(method, {**FEW, **every, "method.structure": "2x4"}, level)
    masks, weights = training.masks(folder), training.weights(folder)
    blocks = [atoms_of(bits, 2, 4) for bits in masks.values()]
    assert all((block.all(1) | ~block.any(1)).all() for block in blocks)
    assert sum(int(block.all(1).sum()) for block in blocks) == sp.kept_count(50200 // 8, level)
    assert all(torch.count_nonzero(weights[name][~bits]) == 0 for name, bits in masks.items())
    assert training.summary(folder)["sparsity"] == pytest.approx(level, abs=4 / 50200)
    assert training.summary(folder)["target_met"]


@pytest.mark.parametrize("method", [m for m in SPARSE if "N:M" in registry.method(m).structures])
def test_every_method_that_takes_it_ends_in_two_of_four(method, shared):
    every = {"method.every": 2} if "every" in vars(registry.method(method).Config()) else {}
    folder = training.trained(method, {**FEW, **every, "method.structure": "2:4"}, 0.5)
    for name, bits in training.masks(folder).items():
        assert (groups_of(bits, 4).sum(1) == 2).all(), name
        assert (groups_of(training.weights(folder)[name] != 0, 4).sum(1) <= 2).all(), name
    assert training.summary(folder)["sparsity"] == 0.5 and training.summary(folder)["target_met"]


@pytest.mark.parametrize(
    "target, found, structure, tolerance, met",
    [
        (0.9, 0.8, "weights", None, True),  # of 5 weights at 0.9 one lives
        (0.9, 0.6, "weights", None, False),
        (0.5, 0.55, "2x4", None, True),
        (0.2, 0.0, "2:4", None, False),
        (0.6666666667, 2 / 3, "1:3", None, True),
        (0.8, 0.5, "weights", 0.3, True),
        (0.8, 0.4, "weights", 0.3, False),
    ],
)
def test_a_target_is_met_to_half_an_atom(target, found, structure, tolerance, met):
    assert sp.met(target, found, 5 if structure == "weights" else 24, structure, tolerance) == met


def test_gradual_pruning_goes_group_by_group(shared):
    worker, state = training.begun("gmp", {"method.structure": "1:4", "method.every": 3}, 0.75)
    seen = []
    while state.step < state.steps:
        worker.step(state)
        seen.append(tuple(sorted({int(c) for bits in state.masks.bits.values() for c in groups_of(bits, 4).sum(1)})))
    assert list(dict.fromkeys(seen)) == [(4,), (3,), (2,), (1,)]


def test_rounds_of_a_pattern_are_patterns():
    """A round's settings are what a sweep of 3:4 asks for, so both meet in one stage."""
    made = planner.make(parse(["method=imp", "run.seed=0", "method.structure=1:4", "method.sparsity=0.75"]))
    rounds = [s.config["settings"]["method"] for s in made.stages.values() if s.method == "imp"]
    assert [(r["structure"], r["sparsity"]) for r in rounds] == [("3:4", 0.25), ("2:4", 0.5), ("1:4", 0.75)]
    near = planner.make(
        parse(["method=imp", "run.seed=0", "method.structure=2:4", "method.sparsity=0.5", "method.rate=0.49995"])
    )
    assert [s.method for s in near.stages.values()] == ["dense", "imp"], "no two rounds with the same count"
    single = planner.make(parse(["method=imp", "run.seed=0", "method.structure=3:4", "method.sparsity=0.25"]))
    assert set(single.stages) <= set(made.stages)


def test_controls_stand_on_the_same_structure():
    asked = ["run.seed=0", "method.structure=2:4", "method.sparsity=0.5"]
    made = planner.make(parse(["method=reshuffle,gradual_ticket,scratch_e", *asked]))
    parents = [s for s in made.stages.values() if s.method in ("snip", "gmp")]
    assert {(s.method, s.config["settings"]["method"]["structure"]) for s in parents} == {
        ("snip", "2:4"),
        ("gmp", "2:4"),
    }


# --- SR-STE -----------------------------------------------------------------------------------------------------------


class Wide(Toy):
    def build(self):
        return nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 4), nn.Tanh(), nn.Linear(4, 3))


@pytest.mark.parametrize("decay", [0.0, 0.25])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_of_sr_ste_is_the_papers(decay, accumulate):
    """Zhou et al. (2021): w - rate (gradient at the masked weights + decay x the masked-out weights)."""
    values = {"method.structure": "2:4", "method.decay": decay, "run.accumulate": accumulate}
    values |= {"run.optimizer": "sgd", "run.momentum": 0.0, "run.learning_rate": 0.5}
    worker, state = toy(Wide, "sr_ste", values, 0.5)
    seen = []
    for _ in range(6):
        model = worker.build()
        model.load_state_dict(state.model.state_dict())
        before = training.copy(dict(state.model.named_parameters()))
        masks = {n: torch.zeros_like(w) for n, w in state.weights.items()}
        for name, weight in state.weights.items():
            best = groups_of(weight.detach().abs(), 4).topk(2, 1).indices
            groups_of(masks[name], 4).scatter_(1, best, 1.0)
        seen.append(masks)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.mul_(masks.get(name, 1.0))
        for micro in range(accumulate):
            indices = worker.order(state.step * accumulate + micro)
            (worker.loss(model, worker.batch(indices, 0)) / accumulate).backward()
        worker.step(state)
        for name, weight in state.model.named_parameters():
            pull = decay * (1 - masks[name]) * before[name] if name in masks else 0
            expected = before[name] - 0.5 * (dict(model.named_parameters())[name].grad + pull)
            assert torch.allclose(weight, expected, rtol=1e-5, atol=1e-6), name
    assert not training.equal(seen[0], seen[-1]), "the masks never moved: nothing was shown of choosing them anew"


def test_sr_stes_masks_move_and_validation_sees_them():
    worker, state = toy(Wide, "sr_ste", {"method.structure": "2:4", "run.learning_rate": 0.05, "run.steps": 30}, 0.5)
    seen, evaluate = [], worker.evaluate

    def look(model, split):
        seen.append(training.copy({n: dict(model.named_parameters())[n] for n in state.weights}))
        return evaluate(model, split)

    worker.evaluate = look
    worker._train(state, lambda: None, training_log(), fresh=True)
    assert len(seen) == 3 and state.masks.sparsity == 0.5
    patterns = [{n: w != 0 for n, w in weights.items()} for weights in seen]
    assert all((groups_of(bits, 4).sum(1) == 2).all() for masks in patterns for bits in masks.values())
    assert not training.equal(patterns[0], patterns[-1]), "no mask ever moved"
    assert training.equal(patterns[-1], state.masks.bits) and worker.best["step"] == 30


def training_log():
    from common.training.resume import journal

    return journal.Silence(None, "", 0)


# --- before anything is queued ----------------------------------------------------------------------------------------


def asked(*words: str) -> planner.Plan:
    return planner.make(parse(["run.seed=0", *words]))


@pytest.mark.parametrize(
    "words, complaint",
    [
        ("method=gmp method.structure=4:2", "method.structure: expected weights, RxC as in 4x4, or N:M"),
        (
            "method=gmp method.structure=2:4",
            "method.structure=2:4 is a sparsity of 0.5 and no other: give method.spars",
        ),
        ("method=gmp method.structure=1:3 method.sparsity=0.7", "no other: give method.sparsity=0.666666667$"),
        ("method=rigl method.structure=2:4 method.sparsity=0.5", "must be weights or RxC here, found '2:4'"),
        ("method=set method.structure=2:4 method.sparsity=0.5", "must be weights or RxC here, found '2:4'"),
        ("method=granet method.structure=2:4 method.sparsity=0.5", "must be weights or RxC here, found '2:4'"),
        ("method=magnitude_v2 method.structure=2:4 method.sparsity=0.5", "must be weights or RxC here, found '2:4'"),
        (
            "method=snip method.structure=2:4 method.sparsity=0.5 method.allocation=erk",
            "leave method.allocation at glo",
        ),
        ("method=imp method.structure=2:4 method.rounds=3", "give method.sparsity instead"),
        ("method=imp method.structure=2:4", "imp: method.structure=2:4 is a sparsity of 0.5 and no other"),
    ],
)
def test_settings_that_no_model_could_have(words, complaint):
    with pytest.raises(UserError, match=complaint):
        asked(*words.split())


def test_one_line_says_what_a_whole_sweep_must_give():
    """Ten sparsities and two methods: the same sentence, once."""
    with pytest.raises(UserError) as caught:
        asked("method=gmp,omp_after", "method.structure=2:4")
    assert str(caught.value).count("give method.sparsity=0.5") == 1
    asked("method=gmp,omp_after", "method.structure=2:4", "method.sparsity=0.5")
    asked("method=gmp", "method.structure=1:3", "method.sparsity=0.666666667")


WRONG = [
    ("method=omp_after method.structure=7x4", "blocks of 7x4 do not divide fc1.weight of shape"),
    ("method=gmp method.structure=2:6 method.sparsity=0.666666667", "groups of 6 are impossible on fc1.weight"),
    ("method=gmp method.sparsity=0.5 run.exclude=[fc9.*]", "exclude pattern 'fc9.*' matches no weight of the model"),
    (
        "method=imp method.rounds=1 method.allocation=layers method.rates={head:0.1}",
        "method.rates names 'head'; the pr",
    ),
    ("method=magnitude_v2 method.sparsity=0.95", "at method.sparsity=0.95 the first layer (fc1.weight, dense)"),
    ("method=gmp method.sparsity=0.99 method.allocation=erk_plus", "erk_plus keeps output.weight with its 1000 weig"),
    (
        "method=rigl method.sparsity=0.8 method.initial=uniform_first_dense method.every=7",
        "uniform_first_dense keeps fc1.weight with its 19200 weights de",
    ),
    ("method=random_before method.sparsity=0.99997", "2 of 50200 weights would live, in 3 tensors that keep at least"),
]


@pytest.mark.parametrize("words, message", WRONG, ids=[words.split()[0] + words[-12:] for words, _ in WRONG])
def test_what_the_model_forbids_is_said_before_anything_is_written(words, message, folders, monkeypatch):
    """And in the words in which the stage would have failed, after its parents were trained."""
    with pytest.raises(UserError) as caught:
        fits_the_model.check(asked(*words.split()).todo())
    assert message in str(caught.value) and not list(folders.iterdir())
    said = str(caught.value).split(": ", 1)[1]
    made = asked(*words.split(), "run.steps=20")
    planner.write(made)
    stage = made.stages[made.wished[-1]]
    assert stage.parent is None or run.execute(made.stages[stage.parent].folder) == "done"
    assert run.execute(stage.folder) == "failed"
    assert said in record.read_json(paths.status(stage.folder))["reason"]


@pytest.mark.parametrize("verb", ["plan", "sweep", "smoke"])
def test_the_verbs_refuse_it(verb, folders, capsys):
    assert main([verb, "method=gmp", "run.seed=0", "method.structure=7x4"]) == 2
    assert "error: gmp: blocks of 7x4 do not divide fc1.weight of shape (300, 64)" in capsys.readouterr().err
    assert not list(folders.iterdir())


def test_a_plan_that_asks_nothing_of_the_model_builds_none(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *a, **b: pytest.fail("a process was started"))
    fits_the_model.check(asked("method=gmp,imp,omp_after,random_before").todo())
    stages = asked("method=gmp", "method.structure=4x4").todo()
    fits_the_model.check([stage for stage in stages if stage.method == "dense"])


def test_a_model_too_large_for_any_memory_is_asked_for_its_shapes():
    words = ("task=protein", "task.layers=1000", "task.width=16384", "task.heads=64")
    fits_the_model.check(asked(*words, "method=gmp", "method.structure=2:4", "method.sparsity=0.5").todo())


def test_a_plan_lists_what_is_pruned_and_why_the_rest_is_not(capsys):
    assert main(["plan", "task=protein", "method=gmp", "method.sparsity=0.5", "run.seed=0", "layers=1"]) == 0
    said = capsys.readouterr().out
    assert "24,576 weights are in the prunable set, of 25,536 in matrices and kernels\n" in said
    assert re.search(r"letters.weight +27 x 32 +dense: an embedding table \(run.prune_embeddings\)", said)
    assert re.search(r"head.1.weight +3 x 32 +dense: excluded by head.*\n", said)
    assert re.search(r"layers.1.wide.weight +128 x 32 +pruned\n", said)


def test_the_model_is_built_once_for_many_stages(monkeypatch):
    started, real = [], subprocess.run
    monkeypatch.setattr(fits_the_model, "_KNOWN", {})
    monkeypatch.setattr(subprocess, "run", lambda *a, **b: started.append(a) or real(*a, **b))
    wide = "method=gmp,omp_after,snip", "method.structure=2x2,2x4", "run.batch_size=20,30"
    for _ in range(2):
        fits_the_model.check(asked(*wide).todo())
    assert len(started) == 1
    whole, less, other = (asked(*wide, word).todo()[1] for word in ("run.epochs=3", "run.exclude=[o*]", "run.epochs=4"))
    assert fits_the_model._key(whole) == fits_the_model._key(other) != fits_the_model._key(less), (
        "other weights are prunable then"
    )


def test_finished_stages_are_not_asked_about(monkeypatch):
    made = asked("method=omp_after", "method.structure=4x4")
    monkeypatch.setattr(subprocess, "run", lambda *a, **b: pytest.fail("a process was started"))
    done = {digest: replace(stage, state="done") for digest, stage in made.stages.items()}
    fits_the_model.check(replace(made, stages=done).todo())


@pytest.fixture
def with_model(tmp_path, monkeypatch):
    """What plans are told where the classic task's ``model.py`` ends in these lines."""

    def built(lines: str) -> list:
        root = copy(tmp_path / "copy")
        with open(root / "tasks" / "classic" / "model.py", "a") as file:
            file.write(lines)
        monkeypatch.setattr(paths, "root", lambda: root)
        monkeypatch.chdir(root)
        return fits_the_model._built(asked("method=gmp", "method.structure=2x2").todo()[:1])

    return built


@pytest.mark.parametrize(
    "line, message",
    [
        ("raise RuntimeError('no such vocabulary')", r"to see: RuntimeError: no such vocabulary \(.*model.py, line"),
        ("print('a clue'); import os; os._exit(0)", "to see: its process ended with code 0"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "to see: its process ended with code -9"),
    ],
)
def test_a_model_that_cannot_be_built_is_a_clear_error(with_model, line, message):
    with pytest.raises(UserError, match=message):
        with_model(f"\n\ndef build(config):\n    {line}\n")


def test_what_a_model_prints_is_no_answer(with_model):
    (answer,) = with_model("\nprint('[]')\n")
    assert answer["layers"][1:] == [["fc2.weight", [100, 300], "pruned"], ["output.weight", [10, 100], "pruned"]]


def test_structures_are_read_without_torch():
    code = "import sys; from common import sparsity as sp; sp.pools({'w': (4, 4)}, 0.5, structure='2x2'); "
    code += "from launch.plan import fits_the_model; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_shares_of_a_layer_are_of_its_blocks():
    pools = sp.pools(
        {"w": (4, 8)}, 0.5, lambda sizes, sparsity, living: allocation.per_layer(sizes, {"w": 0.25}), "2x2"
    )
    assert [pool.keep for pool in pools] == [2]


def test_all_that_does_not_fit_is_named_at_once():
    sizes = {"a": (4, 6), "b": (4, 8), "c": (4, 3, 3, 3)}
    with pytest.raises(
        AllocationError, match=r"impossible on a: .* no multiple of 4; so it is with c; leave them dense"
    ):
        sp.n_of_m(sizes, 2, 4)
    with pytest.raises(
        AllocationError, match=r"do not divide a of .*, its inputs .* of 8; so it is with c; leave them"
    ):
        sp.pools(sizes, 0.5, structure="1x8")
