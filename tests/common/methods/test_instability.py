"""The second copy of a training, and the line between both (Frankle, Dziugaite, Roy and Carbin, ICML 2020)."""

import math
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from common import paths, record
from common import sparsity as sp
from common.errors import UserError
from common.stage import run
from common.training.probes import interpolation
from common.training.state import Parent
from tests.support import training
from tests.support.training import Death, begun, line, train, weights

# Adam has a memory, and the batches of 20 do not divide the 1,257 examples: nothing here is in step by accident.
NOISE = {"run.evaluate_every": 30, "method.points": 7}


@pytest.fixture(autouse=True)
def runs(folders, shared_runs, monkeypatch):
    monkeypatch.setenv("RUNS", str(shared_runs))


def measured(folder) -> dict:
    return training.summary(folder)["measurements"]


def copied(values: dict | None = None, sparsity: float = 0.0):
    """The folder of a finished copy and that of what it is the copy of."""
    folders = line("instability", {**NOISE, **(values or {})}, sparsity)
    train(folders)
    return folders[-1], folders[-2]


# --- the copy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rewind", [0, 3, 17, 60])
def test_with_its_parents_own_noise_the_copy_of_the_dense_training_is_its_parent(rewind):
    copy, parent = copied({"method.copy": 0, "method.rewind": rewind})
    assert training.equal(weights(copy), weights(parent))
    found = measured(copy)
    assert (found["instability"], found["instability_validation"], found["loss_barrier"]) == (0, 0, 0)
    assert found["distance"] == 0
    assert len(set(found["line_loss"])) == 1


@pytest.mark.parametrize("values", [{"method.rewind": 0}, {"method.rewind": 3}, {"method.retrain": "learning_rate"}])
@pytest.mark.parametrize("sparsity", [0.5, 0.8])
def test_with_its_parents_own_noise_the_copy_of_a_ticket_is_its_parent(values, sparsity):
    copy, parent = copied({**values, "method.copy": 0}, sparsity)
    assert record.read_config(parent)["method"] == "imp"
    assert training.equal(weights(copy), weights(parent))
    assert measured(copy)["instability"] == 0 == measured(copy)["distance"]


def test_dropout_and_batch_normalisation_are_copied_too(monkeypatch):
    """And the step at which the noise changes is the step that was asked for."""
    from tasks.classic.trainer import Trainer

    def build(self):
        middle = nn.Sequential(nn.Linear(64, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Dropout(0.5))
        return nn.Sequential(nn.Flatten(), middle, nn.Linear(30, 10))

    monkeypatch.setattr(Trainer, "build", build)
    values = {"run.seed": 21}
    for rewind in (0, 5):
        same, parent = copied({**values, "method.copy": 0, "method.rewind": rewind})
        assert training.equal(weights(same), weights(parent))
        other, _ = copied({**values, "method.rewind": rewind})
        assert not training.equal(weights(other), weights(parent))


def test_the_noise_is_another_from_the_step_on_that_was_asked_for():
    def seen(method, values):
        worker, state = begun(method, {"run.evaluate_every": 30, **values}, 0.0)
        found = []
        while state.step < 12:
            worker.step(state)
            found.append((worker.order(state.step - 1).tolist(), sp.checksum(state.model.state_dict())))
        return found

    dense = seen("dense", {})
    for rewind in (0, 1, 7):
        copy = seen("instability", {"method.rewind": rewind})
        assert copy[:rewind] == dense[:rewind]
        assert all(a[0] != b[0] for a, b in zip(copy[rewind:], dense[rewind:], strict=True)), "other batches"
        assert all(a[1] != b[1] for a, b in zip(copy[rewind:], dense[rewind:], strict=True)), "other weights"


def test_augmentation_and_dropout_are_other_noise_too():
    worker, _ = begun("instability", {**NOISE, "method.rewind": 2}, 0.0)
    names = ("augmentation", 5)
    own = worker.stream(*names)
    assert own == begun("dense")[0].stream(*names)
    worker._draw(worker.method.noise(2))
    first = torch.rand(3)
    assert worker.stream(*names) != own
    torch.manual_seed(worker.stream("training"))
    assert torch.equal(torch.rand(3), first)


def test_two_copies_of_one_training_are_two_samples_of_noise():
    found = [copied({"method.copy": number})[0] for number in (1, 2)]
    assert not training.equal(*(weights(folder) for folder in found))
    assert found[0].name != found[1].name


def test_the_weights_at_the_fork_are_the_parents_own():
    """Where the parent kept them: a GPU that adds in another order must not count as noise."""
    folders = line("instability", {**NOISE, "method.rewind": 3}, 0.0)
    train(folders[:-1])
    kept = torch.load(paths.snapshot(folders[0], 3))
    worker = run.trainer(record.read_config(folders[-1]))
    state = worker.begin(Parent(folders[-2], worker))
    worker.method.start(state)
    while state.step < 2:
        worker.step(state)
    with torch.no_grad():
        state.model.fc1.weight.add_(1e-6)
    worker.step(state)
    assert training.equal(state.model.state_dict(), kept)


def test_tickets_are_shared_with_imp():
    ours = line("instability", {"method.rewind": 3}, 0.8)
    theirs = line("imp", {"method.rewind": 3}, 0.8)
    assert ours[:-1] == theirs
    assert line("instability", {}, 0.0)[0] == line("dense")[0]


def test_masks_that_are_not_the_parents_are_a_fault():
    folders = line("instability", NOISE, 0.5)
    train(folders[:-1])
    worker = run.trainer(record.read_config(folders[-1]))
    parent = Parent(folders[-2], worker)
    state, masks = worker.begin(parent), parent.masks()
    parent.masks = lambda: {**masks, "fc2.weight": masks["fc2.weight"].flip(0)}
    with pytest.raises(RuntimeError, match=r"masks of fc2.weight are not those of .*" + folders[-2].name):
        worker.method.start(state)


@pytest.mark.parametrize(
    ("values", "sparsity", "message"),
    [
        ({"method.rewind": 61}, 0.0, "beyond the 60 steps"),
        ({"method.rewind": "early"}, 0.5, "must be a step"),
        ({"method.retrain": "fine_tune"}, 0.0, "are for tickets"),
        ({"method.points": 2}, 0.0, r"must be in \[3, 1000\], found 2"),
        ({"method.copy": -1}, 0.0, "must not be negative"),
    ],
)
def test_what_cannot_work_is_said_before_training(values, sparsity, message):
    with pytest.raises(UserError, match=message):
        line("instability", values, sparsity)


# --- the line ---------------------------------------------------------------------------------------------------------


def state(*values):
    return {"weight": torch.tensor(values), "count": torch.tensor(3)}


def test_both_ends_are_exact_and_counters_are_the_second_networks():
    first, second = state(0.1, -7.3e-5), {**state(0.7, 1e8), "count": torch.tensor(9)}
    assert torch.equal(interpolation.between(first, second, 0.0)["weight"], first["weight"])
    assert torch.equal(interpolation.between(first, second, 1.0)["weight"], second["weight"])
    halfway = interpolation.between(state(2.0, 0.0), {**state(4.0, 0.0), "count": torch.tensor(9)}, 0.5)
    assert halfway["weight"].tolist() == [3.0, 0.0] and halfway["count"] == 9


def test_the_barrier_of_a_double_well_in_closed_form():
    """E(x) = (x^2 - 1)^2 between its minima -1 and 1: highest, 1, in the middle; with one end at 0.5, less."""

    class Point(nn.Module):
        def __init__(self):
            super().__init__()
            self.x = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def error(model):
        return (model.x.item() ** 2 - 1) ** 2

    def ends(first, second):
        return ({"x": torch.tensor(v, dtype=torch.float64)} for v in (first, second))

    model = Point()
    line = interpolation.along(model, *ends(-1.0, 1.0), 31, error)
    assert len(line) == 31 and model.x == 1
    assert interpolation.height(line) == (pytest.approx(1.0), 0.5)
    height, where = interpolation.height(interpolation.along(model, *ends(-1.0, 0.5), 31, error))
    assert height == pytest.approx(1 - 0.75**2 / 2) and where == pytest.approx(2 / 3)


def test_the_height_by_hand():
    assert interpolation.height([1.0, 4.0, 2.0, 3.0]) == (2.0, pytest.approx(1 / 3))
    assert interpolation.height([-97.0, -96.0, -97.0]) == (1.0, 0.5)
    assert interpolation.height([5.0, 5.0, 5.0])[0] == 0
    assert math.isnan(interpolation.height([1.0, math.nan, 2.0])[0])


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=40))
def test_it_is_at_least_half_of_what_the_ends_differ(errors):
    assert interpolation.height(errors)[0] >= abs(errors[0] - errors[-1]) / 2 - 1e-9
    assert interpolation.height(errors)[0] == pytest.approx(interpolation.height(errors[::-1])[0], abs=1e-9)


@given(st.integers(0, 1000))
def test_a_convex_loss_has_no_barrier(seed):
    """Linear least squares: nothing on the line is worse than its worse end."""
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = torch.randn(30, 4, generator=generator), torch.randn(30, 2, generator=generator)
    model = nn.Linear(4, 2)
    ends = [
        {"weight": torch.randn(2, 4, generator=generator), "bias": torch.randn(2, generator=generator)} for _ in "ab"
    ]
    with torch.no_grad():
        line = interpolation.along(model, *ends, 9, lambda m: (m(inputs) - targets).double().square().mean().item())
    height, _ = interpolation.height(line)
    assert height <= abs(line[0] - line[-1]) / 2 + 1e-5


def test_distance():
    assert interpolation.distance(state(0.0, 0.0), {**state(3.0, 4.0), "count": torch.tensor(9)}) == 5.0


# --- what the summary says --------------------------------------------------------------------------------------------


def test_the_ends_of_the_line_are_both_networks_and_the_measure_follows_from_the_line():
    values = {"run.select": "last", "method.rewind": 0}
    copy, parent = copied(values)
    found = measured(copy)
    assert found["line_score"][0] == training.summary(parent)["score"]
    assert found["line_score"][-1] == training.summary(copy)["score"]
    assert found["line_loss"][0] == training.summary(parent)["test_loss"]
    assert len(found["line_score"]) == len(found["line_loss_validation"]) == 7
    ends = (found["line_score"][0] + found["line_score"][-1]) / 2
    assert found["instability"] == ends - min(found["line_score"]) >= 0
    assert found["line_score"][round(6 * found["barrier_alpha"])] == min(found["line_score"])
    difference = [weights(copy)[n].double() - v.double() for n, v in weights(parent).items()]
    assert found["distance"] == pytest.approx(math.sqrt(sum(d.square().sum().item() for d in difference)))


def test_the_last_weights_are_measured_whatever_step_was_scored():
    values = {"run.learning_rate": 0.03, "run.seed": 4, "run.batch_size": 10, "run.evaluate_every": 10}
    copy, _ = copied(values)
    assert paths.selected(copy).exists(), "the test needs two different"
    worker = run.trainer(record.read_config(copy))
    model = worker.build_seeded("initialisation").eval()
    sp.restore(model, weights(copy))
    assert measured(copy)["line_loss"][-1] == worker.evaluate(model, "test")["loss"]
    assert measured(copy)["line_loss"][-1] != training.summary(copy)["test_loss"]
    selected = torch.load(paths.selected(copy))["model"]
    assert training.summary(copy)["weights"] == sp.checksum(selected), "measuring leaves the summary as it was"
    assert training.summary(copy)["unmoved"] == []


# --- several processes ------------------------------------------------------------------------------------------------


def test_two_processes_copy_together_and_one_of_them_measures():
    values = {"run.processes": 2, "run.steps": 24, "method.rewind": 7}  # a step that the parent has not kept
    same, parent = copied({**values, "method.copy": 0})
    assert training.equal(weights(same), weights(parent))
    assert measured(same)["instability"] == measured(same)["distance"] == 0
    assert measured(copied(values)[0])["distance"] > 0


# --- interruptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rewind", [10, 15, 20])
def test_killed_before_at_and_after_the_fork_it_ends_the_same(rewind, monkeypatch):
    """Resume points lie every ten steps, so also right where the noise changes; dropout shows a stream that is not."""
    from tasks.classic.trainer import Trainer

    def build(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Dropout(0.5), nn.Linear(30, 10))

    monkeypatch.setattr(Trainer, "build", build)
    values = {**NOISE, "method.rewind": rewind, "run.seed": 22, "method.points": 3}
    folders = line("instability", values, 0.0)
    train(folders[:-1])
    for step in (13, 4, 14, 12):  # counted from the resume point: in 12, 13, 23 and 31
        assert training.attempt(folders[-1], Death("step", call=step)) == -signal.SIGKILL
    assert training.attempt(folders[-1]) == 0
    killed = training.result(folders[-1])
    for path in folders[-1].iterdir():
        if path.name != "config.yaml":
            path.unlink()
    train(folders)
    assert training.result(folders[-1]) == killed
