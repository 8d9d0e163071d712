"""One-shot pruning of a pretrained network (Jaiswal et al., NeurIPS 2023), and pruning without retraining."""

import signal

import pytest
import torch

from common import paths, record, registry
from common import sparsity as sp
from common.errors import UserError
from launch.request import arguments, grid
from tests.support import training
from tests.support.training import Death, line, masks, train, trained, weights

# --- the published procedure: prune what was pretrained, then fine-tune -----------------------------------------------


@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_pretrained_weights_are_pruned_before_anything_is_trained_and_survivors_are_fine_tuned(allocation):
    """As in the authors' code, and not the network that was trained on the task."""
    folders = line("essential", {"method.allocation": allocation}, 0.7)
    train(folders)
    (folder,) = folders  # no dense training comes first
    before, after, found = torch.load(training.pretrained()), weights(folder), training.summary(folder)
    magnitude = {name: before[name].abs() for name in masks(folder)}
    assert training.equal(masks(folder), sp.choose(magnitude, 0.7, allocation, "weights", None))
    assert found["steps"] == training.SMALL["run.steps"] and found["unmoved"] == []
    assert all(not torch.equal(after[name], before[name] * mask) for name, mask in masks(folder).items())


def test_any_task_that_starts_from_random_weights_is_refused():
    for task in registry.tasks():
        asked = [f"task={task}", "method=essential", "run.seed=0"]
        with pytest.raises(UserError, match=f"METHOD=essential prunes pretrained weights, .* task {task} start from"):
            grid.cells(arguments.parse(asked))
    assert grid.cells(arguments.parse(["task=protein", "method=essential", "run.seed=0", "task.model=antiberty"]))


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
    "omp_no_retraining": {},
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
        own = trained("omp_no_retraining", {"method.allocation": allocation}, 0.7)
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
    same = training.summary(trained("omp_no_retraining", shared, 0.0))
    assert (same["score"], same["test_loss"]) == (dense["score"], dense["test_loss"])


@pytest.mark.parametrize("death", [Death("writing", "weights.pt"), Death("before", "summary.json")])
def test_killed_at_the_end_it_ends_the_same(death):
    folders = line("omp_no_retraining", {"run.seed": 4}, 0.6)
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
    folder = trained("reshuffle", {"method.of": "omp_no_retraining", "method.settings": "{}"}, 0.8)
    counts = {name: int(mask.sum()) for name, mask in masks(folder).items()}
    assert counts == {name: int(mask.sum()) for name, mask in masks(trained("omp_no_retraining", {}, 0.8)).items()}


@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("omp_after", {"method.retrain": "none", "method.distill": 1}, "method.distill is part of the loss"),
        ("omp_after", {"method.retrain": "none", "method.retrain_share": 0.5}, "is for method.retrain=fine_tune"),
        ("obert", {"method.retrain": "none", "method.prunings": 3}, "has no steps to prune in"),
        ("imp", {"method.retrain": "none"}, "is trained in every round"),
        ("one_shot_ticket", {"method.retrain": "none"}, "a ticket trains by method.rewind"),
        ("omp_no_retraining", {"method.retrain": "full"}, "use METHOD=omp_after"),
        ("omp_no_retraining", {"method.allocation": "erk"}, "one of global, uniform"),
        ("essential", {"method.allocation": "erk"}, "one of global, uniform"),
        ("essential", {"task.pretrained": ""}, "METHOD=omp_before prunes those, METHOD=omp_no_retraining the trained"),
    ],
)
def test_what_cannot_work_is_said_before_training(method, values, message):
    with pytest.raises(UserError, match=message):
        line(method, values)
