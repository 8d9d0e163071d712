"""RigL: what it drops, grows, and when it rests."""

import math

import pytest
import torch

from common import paths, record
from common.errors import UserError
from common.stage import run
from tests.support import training
from tests.support.magnitude import largest
from tests.support.training import begun, line


@pytest.fixture(autouse=True)
def runs(folders, shared_runs, monkeypatch):
    monkeypatch.setenv("RUNS", str(shared_runs))


class Update:
    """What stands right before, or right after, a topology update."""

    def __init__(self, state):
        self.step = state.step
        self.masks = training.copy(state.masks.bits)
        self.gradients = training.copy(state.gradients())
        self.weights = training.copy(state.weights)
        self.moments = {name: training.copy(_moments(state, weight)) for name, weight in state.weights.items()}


def _moments(state, weight) -> dict:
    found = state.optimizer.state.get(weight, {})
    return {key: value for key, value in found.items() if torch.is_tensor(value) and value.shape == weight.shape}


def updates(worker, state):
    """Train to the end; for each update the ``Update`` before it, and masks, weights and moments right after."""
    original, found = worker.method.on_gradients, []

    def watch(state):
        before, moved = Update(state), original(state)
        if moved:
            found.append((before, Update(state)))
        return moved

    worker.method.on_gradients = watch
    while state.step < state.steps:
        worker.step(state)
    return found


@pytest.mark.parametrize("initial", ["erk", "uniform", "omp", "snip"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_rigl_drops_the_smallest_and_grows_the_largest_gradients(initial, optimizer):
    worker, state = begun("rigl", {"method.initial": initial, "run.optimizer": optimizer, "run.learning_rate": 0.005})
    counts = dict(state.masks.counts)
    found = updates(worker, state)
    assert [before.step for before, _ in found] == [7, 14, 21, 28, 35, 42], "every 7 steps, to 0.75 of 60"
    for before, after in found:
        assert before.masks["fc2.weight"].sum() == after.masks["fc2.weight"].sum()
        assert not torch.equal(before.masks["fc2.weight"], after.masks["fc2.weight"])
        share = 0.15 * (1 + math.cos(math.pi * before.step / 45))
        for name, old in before.masks.items():
            number = math.floor(share * counts[name])
            survivors = largest({name: before.weights[name].abs().masked_fill(~old, -1)}, counts[name] - number)[name]
            grown = largest({name: before.gradients[name].abs().masked_fill(survivors, -1)}, number)[name]
            new = after.masks[name]
            assert torch.equal(new, survivors | grown)
            assert int(new.sum()) == counts[name]
            moved = new ^ old
            assert torch.count_nonzero(after.weights[name][moved]) == 0, "grown weights start at zero"
            for key, value in after.moments[name].items():
                assert torch.count_nonzero(value[moved]) == 0, f"{key} of what changed (SMC-Bench keeps stale moments)"
                assert torch.equal(value[new & old], before.moments[name][key][new & old]), "that of others stands"
            assert torch.equal(after.weights[name][new & old], before.weights[name][new & old]), "no optimizer step"


@pytest.mark.parametrize("every, stop", [(1, 0.5), (7, 0.75), (44, 0.75), (10, 1.0)])
def test_rigl_rests_after_its_stop(every, stop):
    """SMC-Bench's goes on to the end, so that the last grown weights are hardly trained."""
    worker, state = begun("rigl", {"method.every": every, "method.stop": stop})
    assert [before.step for before, _ in updates(worker, state)] == list(range(every, round(stop * 60), every))


def test_rigl_that_would_never_update_is_refused():
    """A static mask under RigL's name, as in SMC-Bench's protein scripts."""
    with pytest.raises(UserError, match="no update would ever come"):  # before anything is queued
        begun("rigl", {"method.every": 45, "method.stop": 0.75})
    folder = line("rigl", {"method.every": 45, "run.steps": 0, "run.epochs": 0.5})[-1]
    assert run.execute(folder) == "failed"  # as soon as the data say how many steps
    assert "no update would ever come" in record.read_json(paths.status(folder))["reason"]


@pytest.mark.parametrize(
    "initial, twin", [("omp", "omp_before"), ("snip", "snip"), ("erk", "random_before"), ("uniform", "random_before")]
)
def test_rigl_starts_from_the_masks_of_the_method_it_names(initial, twin):
    values = {"method.allocation": initial if twin == "random_before" else "global"}
    same = {**values, "method.batches": 2} if twin == "snip" else values
    first = begun("rigl", {"method.initial": initial, "method.batches": 2})[1].masks
    assert first.checksum() == begun(twin, same)[1].masks.checksum()
