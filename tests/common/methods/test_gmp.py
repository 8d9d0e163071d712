"""Gradual magnitude pruning: the cubic, and layers that run out of weights."""

from itertools import pairwise

import pytest

from common import sparsity as sp
from tests.support import training
from tests.support.training import begun


@pytest.fixture(autouse=True)
def runs(folders, shared_runs, monkeypatch):
    monkeypatch.setenv("RUNS", str(shared_runs))


@pytest.mark.parametrize("every", [1, 7, 13, 100])
@pytest.mark.parametrize("begin, end", [(0.1, 0.8), (0.0, 1.0), (0.5, 0.51)])
def test_gmp_rises_along_the_cubic_and_meets_its_target_at_its_end(every, begin, end):
    """SMC-Bench stops at the last multiple of the interval before the end, at 99.3 % of the target."""
    worker, state = begun("gmp", {"method.every": every, "method.begin": begin, "method.end": end})
    first, last = round(begin * 60), round(end * 60)
    kept = [state.masks.kept]
    while state.step < state.steps:
        worker.step(state)
        kept.append(state.masks.kept)
    total, target = state.masks.total, sp.kept_count(state.masks.total, 0.8)
    assert all(before >= after for before, after in pairwise(kept))
    assert kept[last:] == [target] * (61 - last)
    for step in range(max(first, 1), last):
        if (step - first) % every == 0:
            share = 0.8 * (1 - (1 - (step - first) / (last - first)) ** 3)
            assert kept[step] == sp.kept_count(total, share)
        else:
            assert kept[step] == kept[step - 1]


@pytest.mark.parametrize("allocation", ["uniform", "erk", "rows"])
def test_gmp_never_asks_a_layer_for_a_weight_that_is_gone(allocation):
    """Rounding alone gives a layer one weight more at some higher sparsities."""
    values = {"method.allocation": allocation, "method.every": 1, "method.begin": 0.0, "method.end": 1.0}
    worker, state = begun("gmp", {**values, "run.steps": 300}, 0.3)
    history = []
    while state.step < state.steps:
        before = training.copy(state.masks.bits)
        worker.step(state)
        history.append(state.masks.kept)
        assert all(not (state.masks[name] & ~bits).any() for name, bits in before.items())
    assert history[-1] == sp.kept_count(50200, 0.3)
