"""The knee of a curve: where it is, and where there is none."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.report import knee
from launch.report.knee import Point


def points(curve, levels, deviation=None, n=1):
    return [Point(level, curve(level), deviation, n) for level in levels]


def corner(at: float, before: float, beyond: float):
    """100 at sparsity 0, then falling by ``before`` a unit of sparsity up to ``at``, by ``beyond`` from there on."""
    return lambda s: 100 - before * min(s, at) - beyond * max(0.0, s - at)


TENTHS = [k / 10 for k in range(1, 10)]


DENSE = Point(0.0, 100.0, None, 1)


@pytest.mark.parametrize("at", [0.3, 0.5, 0.7, 0.8])
def test_a_corner_of_two_straight_lines_is_found_where_it_is(at):
    """Falling 1 point a unit up to it, 150 beyond: the distance from the line in closed form."""
    curve = corner(at, 1, 150)
    found = knee.find(DENSE, points(curve, TENTHS))
    fall = 100 - curve(0.9)
    assert found.sparsity == at and found.score == pytest.approx(curve(at))
    assert found.above == pytest.approx((curve(at) - curve(0.9)) / fall - (0.9 - at) / 0.9)
    assert found.faster == pytest.approx(150)


def test_between_two_levels_it_is_the_one_before_or_behind():
    assert knee.find(DENSE, points(corner(0.66, 0, 300), TENTHS)).sparsity in (0.6, 0.7)


def test_what_collapsed_beyond_does_not_move_it():
    def plateaus(s):
        return max(10.0, corner(0.6, 2, 500)(s))

    assert knee.find(DENSE, points(plateaus, TENTHS)).sparsity == 0.6
    assert knee.find(DENSE, points(plateaus, [*TENTHS, 0.95, 0.98, 0.99])).sparsity == 0.6


@pytest.mark.parametrize(
    "curve",
    [
        lambda s: 100 - 50 * s,  # a straight line
        lambda s: 100 - 50 * math.sqrt(s),  # falls ever more slowly
        lambda s: 100.0,
        lambda s: 100 + 3 * s,
        lambda s: 100 - 0.9 * max(0.0, s - 0.5),  # a corner, but hardly a fall
        corner(0.5, 40, 80),  # twice as fast beyond
        lambda s: math.nan if s > 0.8 else 90.0,
    ],
)
def test_a_curve_without_a_corner_has_none(curve):
    assert knee.find(DENSE, points(curve, TENTHS)) is None


def test_a_corner_as_slight_as_may_be():
    """At half of both axes a fifth above the line: seven tenths of the fall beyond it, 7 / 3 as fast as before."""
    found = knee.find(DENSE, points(corner(0.5, 60, 140.01), [0.1, 0.3, 0.5, 0.7, 1.0]))
    assert found.above == pytest.approx(0.2, abs=1e-3) and found.faster == pytest.approx(7 / 3, abs=0.01)
    assert knee.find(DENSE, points(corner(0.5, 60, 139), [0.1, 0.3, 0.5, 0.7, 1.0])) is None


def noisy(curve, number: int, deviation: float, seeds: int = 3):
    """Levels whose seeds scatter around the curve, as cells of a report have them."""
    random_, found = random.Random(number), []
    for level in [0.0, *TENTHS]:
        scores = [random_.gauss(curve(level), deviation) for _ in range(seeds)]
        mean = sum(scores) / seeds
        spread = math.sqrt(sum((score - mean) ** 2 for score in scores) / (seeds - 1))
        found.append(Point(level, mean, spread, seeds))
    return found[0], found[1:]


def test_noise_moves_it_by_a_level_at_most():
    found = [knee.find(*noisy(corner(0.6, 2, 100), number, 1.0)) for number in range(200)]
    assert all(one is not None and one.sparsity in (0.5, 0.6, 0.7) for one in found)
    assert sum(one.sparsity == 0.6 for one in found) > 190


def test_noise_makes_none():
    for curve in (lambda s: 100.0, lambda s: 100 - 10 * s):
        found = [knee.find(*noisy(curve, number, 1.0)) for number in range(300)]
        assert sum(one is not None for one in found) <= 6  # two in a hundred


def test_too_few_levels_say_nothing():
    assert knee.find(DENSE, points(corner(0.5, 0, 100), [0.4, 0.5, 0.6])) is None
    assert knee.find(None, points(corner(0.5, 0, 100), [0.2, 0.5, 0.6])) is None


def test_without_a_dense_score_the_curve_begins_at_its_first_level():
    assert knee.find(None, points(corner(0.6, 0, 100), TENTHS)).sparsity == 0.6


@given(st.sampled_from([0.3, 0.5, 0.7]), st.floats(0.1, 50), st.floats(-20, 20), st.permutations(range(len(TENTHS))))
def test_units_and_order_do_not_matter(at, scale, shift, order):
    def curve(s):
        return scale * (corner(at, 1, 150)(s) + shift)

    dense = Point(0.0, curve(0.0), None, 1)
    given_ = points(curve, TENTHS)
    assert knee.find(dense, [given_[i] for i in order]).sparsity == at
