"""Pruning without retraining, and the corner of a curve (Jaiswal et al., NeurIPS 2023; Satopaa et al., 2011)."""

import math
import random
import signal
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common import paths, record
from common import sparsity as sp
from common.errors import UserError
from launch.plan import estimate
from launch.report import knee
from launch.report.knee import Point
from tests.support import training
from tests.support.training import Death, line, masks, train, trained, weights

# --- no retraining ----------------------------------------------------------------------------------------------------

# The rate is a hundredfold from half of the training on: on any processor the best step is the one before.
SPOILT = {
    "run.evaluate_every": 5,
    "run.learning_rate": 0.003,
    "run.schedule": "steps",
    "run.milestones": [0.5],
    "run.decay": 100.0,
}

AFTER = {
    "essential": {},
    "omp_after": {"method.retrain": "none"},
    "random_after": {"method.retrain": "none"},
    "obd": {"method.retrain": "none"},
    "obert": {"method.retrain": "none"},
}


@pytest.mark.parametrize("method", AFTER)
@pytest.mark.parametrize("select", ["last", "best_loss"])
def test_no_step_is_taken_and_the_network_is_scored_as_pruned(method, select):
    shared = {"run.select": select, **SPOILT}
    folder, dense = trained(method, {**AFTER[method], **shared}, 0.9), trained("dense", shared)
    chosen = paths.selected(dense)
    before = torch.load(chosen)["model"] if chosen.exists() else weights(dense)  # those the dense score is of
    assert chosen.exists() == (select == "best_loss"), "the test needs a step before the last to be chosen"
    found, after = training.summary(folder), weights(folder)
    assert (found["steps"], found["epochs"], found["scored_step"], found["unmoved"]) == (0, 0, 0, [])
    assert found["sparsity"] == pytest.approx(0.9, abs=1e-5)
    for name, mask in masks(folder).items():
        if method != "obert":  # whose survivors make up for the others
            assert torch.equal(after[name], before[name] * mask)
    assert all(torch.equal(after[name], before[name]) for name in after if name not in masks(folder))
    (validation,) = training.lines(folder)
    assert validation == {
        "step": 0, "validation_loss": validation["validation_loss"], "validation_score": found["score_validation"],
    }  # fmt: skip
    status = record.read_json(paths.status(folder))
    assert (status["state"], status["step"], status["steps"]) == ("done", 0, 0)


def test_it_is_one_shot_pruning_by_magnitude_under_a_name_of_its_own():
    for allocation in ("global", "uniform"):
        own = trained("essential", {"method.allocation": allocation}, 0.7)
        other = trained("omp_after", {"method.allocation": allocation, "method.retrain": "none"}, 0.7)
        assert training.equal(weights(own), weights(other))
        assert training.summary(own)["score"] == training.summary(other)["score"]
        magnitude = {name: weights(trained("dense"))[name].abs() for name in masks(own)}
        expected = sp.choose(magnitude, 0.7, allocation, "weights", None)
        assert training.equal(masks(own), expected)


@pytest.mark.parametrize("select", ["last", "best_loss"])
def test_pruning_nothing_loses_nothing(select):
    shared = {"run.select": select, **SPOILT}
    dense = training.summary(trained("dense", shared))
    same = training.summary(trained("essential", shared, 0.0))
    assert (same["score"], same["test_loss"]) == (dense["score"], dense["test_loss"])


@pytest.mark.parametrize("death", [Death("writing", "weights.pt"), Death("before", "summary.json")])
def test_killed_at_the_end_it_ends_the_same(death):
    folders = line("essential", {"run.seed": 4}, 0.6)
    train(folders[:-1])
    assert training.attempt(folders[-1], death) == -signal.SIGKILL
    assert training.attempt(folders[-1]) == 0
    killed = training.result(folders[-1])
    for path in folders[-1].iterdir():
        if path.name != "config.yaml":
            path.unlink()
    train(folders)
    assert training.result(folders[-1]) == killed


def test_what_follows_may_start_from_it():
    """A stage without steps is a parent like any other: its masks and counts can be asked for."""
    folder = trained("reshuffle", {"method.of": "essential", "method.settings": "{}"}, 0.8)
    counts = {name: int(mask.sum()) for name, mask in masks(folder).items()}
    assert counts == {name: int(mask.sum()) for name, mask in masks(trained("essential", {}, 0.8)).items()}


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("omp_after", {"method.retrain": "none", "method.distill": 1}, "method.distill is part of the loss"),
        ("omp_after", {"method.retrain": "none", "method.retrain_share": 0.5}, "is for method.retrain=fine_tune"),
        ("obert", {"method.retrain": "none", "method.prunings": 3}, "has no steps to prune in"),
        ("imp", {"method.retrain": "none"}, "is trained in every round"),
        ("one_shot_ticket", {"method.retrain": "none"}, "a ticket trains by method.rewind"),
        ("essential", {"method.retrain": "full"}, "use METHOD=omp_after"),
        ("essential", {"method.allocation": "erk"}, "one of global, uniform"),
    ],
)
def test_what_cannot_work_is_said_before_training(method, values, message):
    with pytest.raises(UserError, match=message):
        line(method, values)


# --- the corner -------------------------------------------------------------------------------------------------------


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


# --- what a plan costs ------------------------------------------------------------------------------------------------


class Stage(SimpleNamespace):
    __hash__ = object.__hash__

    def __init__(self, digest: str, method: str, state: str = "new", **settings):
        content = {"method": method, "data": "x", "settings": {"run": {"steps": 100}, "task": {}, "method": settings}}
        shared = {"parent": None, "processes": 1, "config": content, "folder": paths.stage("classic", digest)}
        super().__init__(digest=digest, method=method, state=state, **shared)


def seconds(todo: Stage, done: dict[Stage, float]) -> float:
    """The estimate for ``todo`` after stages that took so many seconds."""
    for one, taken in done.items():
        one.folder.mkdir(parents=True, exist_ok=True)
        record.write_json(paths.summary(one.folder), {"seconds": taken})
    plan = SimpleNamespace(task="classic", stages={one.digest: one for one in [*done, todo]}, todo=lambda: [todo])
    return estimate.estimate(plan, None)["hours"] * 3600


def test_a_stage_is_expected_to_take_as_long_as_its_steps_do():
    full = Stage("a", "omp_after", "done", retrain="full")
    none = Stage("b", "omp_after", "done", retrain="none")
    assert seconds(Stage("d", "omp_after", retrain="none"), {full: 100}) == 0
    assert seconds(Stage("d", "omp_after", retrain="none"), {full: 100, none: 3}) == pytest.approx(3)
    assert seconds(Stage("d", "essential"), {full: 100, none: 3}) == pytest.approx(3)
    assert seconds(Stage("d", "omp_after", retrain="full"), {full: 100, none: 3}) == pytest.approx(100)
    half = Stage("d", "omp_after", retrain="fine_tune", retrain_share=0.5)
    assert seconds(half, {full: 100, none: 3}) == pytest.approx(50)
    assert seconds(Stage("d", "scratch_b"), {full: 100}) == pytest.approx(200)
