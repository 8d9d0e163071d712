"""Schedules: pure functions whose last event falls on their end, whatever the interval."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import sparsity as sp

WINDOWS = st.tuples(st.integers(0, 5000), st.integers(0, 5000)).map(sorted)
LEVELS = st.floats(0, 1, exclude_max=True)


@given(WINDOWS, st.integers(1, 6000), LEVELS, LEVELS)
def test_the_cubic_reaches_its_target_exactly_on_the_last_update(window, every, initial, final):
    begin, end = window
    updates = [step for step in range(end + 50) if sp.due(step, begin, end, every)]
    assert updates[0] == begin
    assert updates[-1] == end
    assert all(b - a == every for a, b in pairwise(updates[:-1]))
    assert sp.cubic(end, begin, end, final, initial) == final
    if begin < end:
        assert sp.cubic(begin, begin, end, final, initial) == initial


@given(WINDOWS, LEVELS, LEVELS, st.integers(1, 500))
def test_the_cubic_never_falls_and_stays_between_its_ends(window, one, other, stride):
    (begin, end), (initial, final) = window, sorted((one, other))
    values = [sp.cubic(step, begin, end, final, initial) for step in range(max(0, begin - 3), end + 4, stride)]
    assert all(b >= a - 1e-12 for a, b in pairwise(values))
    assert all(initial - 1e-12 <= v <= final + 1e-12 for v in values)


def test_the_cubic_by_hand():
    """Zhu and Gupta's cubic, with s_i = 0, s_f = 0.8 from step 100 to 200."""
    table = {0: 0.0, 100: 0.0, 125: 0.8 * (1 - 0.75**3), 150: 0.7, 175: 0.8 * (1 - 0.25**3), 200: 0.8, 1000: 0.8}
    for step, expected in table.items():
        assert sp.cubic(step, 100, 200, 0.8) == pytest.approx(expected, abs=1e-15)


def test_due_by_hand():
    assert [s for s in range(40) if sp.due(s, 3, 20, 5)] == [3, 8, 13, 18, 20]
    assert [s for s in range(40) if sp.due(s, 0, 20, 10)] == [0, 10, 20]
    assert [s for s in range(40) if sp.due(s, 7, 7, 10)] == [7]
    assert [s for s in range(40) if sp.due(s, 3, 6, 1000)] == [3, 6]


@pytest.mark.parametrize("every", [0, -1])
def test_an_interval_below_one_step_is_an_error(every):
    with pytest.raises(ValueError, match="at least 1 step, found"):
        sp.due(0, 0, 10, every)


@given(st.integers(1, 5000), st.floats(0.01, 1))
def test_the_cosine_falls_from_its_start_to_exactly_nothing(end, initial):
    assert sp.cosine(0, end, initial) == initial
    assert sp.cosine(end, end, initial) == 0
    assert sp.cosine(end + 1, end, initial) == 0, "a cosine that rises again would go on dropping weights"
    values = [sp.cosine(step, end, initial) for step in range(0, end + 1, max(1, end // 50))]
    assert all(a > b for a, b in pairwise(values))


def test_the_cosine_by_hand():
    assert sp.cosine(250, 1000, 0.3) == pytest.approx(0.15 * (1 + math.sqrt(0.5)))
    assert sp.cosine(500, 1000, 0.3) == pytest.approx(0.15)


def test_smc_bench_s_ten_levels():
    printed = [0.2, 0.36, 0.488, 0.5904, 0.67232, 0.737856, 0.7902848, 0.83222784, 0.865782272, 0.8926258176]
    assert sp.geometric_levels(0.8926258176, 0.2) == printed


@given(st.integers(1, 15), st.integers(1, 15), st.floats(0.05, 0.5), st.floats(-1, 1))
def test_targets_on_one_grid_share_all_earlier_rounds(one, other, rate, noise):
    fewer, more = sorted((one, other))
    levels = sp.geometric_levels(1 - (1 - rate) ** more, rate)
    # a target written down with ten digits is on the grid still
    assert sp.geometric_levels(1 - (1 - rate) ** fewer + 1e-10 * noise, rate) == levels[:fewer]
    assert len(levels) == more


@given(st.floats(0.001, 0.999), st.floats(0.01, 0.9))
def test_levels_rise_to_the_target(target, rate):
    levels = sp.geometric_levels(target, rate)
    assert levels == sorted(set(levels))
    assert abs(levels[-1] - target) <= 1e-9
    survivors = [1.0, *(1 - level for level in levels)]
    assert all(b / a == pytest.approx(1 - rate, rel=1e-5) for a, b in pairwise(survivors[:-1]))
    assert survivors[-1] / survivors[-2] >= 1 - rate - 1e-5


def test_a_target_off_the_grid_is_the_last_level_itself():
    assert sp.geometric_levels(0.5, 0.2) == [0.2, 0.36, 0.488, 0.5]
    assert sp.geometric_levels(0.1, 0.2) == [0.1]
    assert sp.geometric_levels(0.489, 0.2) == [0.2, 0.36, 0.488, 0.489]


@pytest.mark.parametrize(("target", "rate"), [(0, 0.2), (1, 0.2), (-0.1, 0.2), (0.5, 0), (0.5, 1), (0.5, float("nan"))])
def test_levels_out_of_range_are_errors(target, rate):
    with pytest.raises(ValueError, match=r"must be in \(0, 1\), found"):
        sp.geometric_levels(target, rate)
