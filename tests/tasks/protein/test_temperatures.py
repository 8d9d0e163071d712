"""Temperatures of the protein task: what a model says of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from common import record
from common.stage import run
from tasks.protein.trainer import balanced_accuracy, ranks, spearman
from tests.support import training
from tests.support.protein_files import flip, made, write
from tests.support.protein_training import begun, finished, outputs, real_values, stage, values


@given(values, st.randoms())
def test_rank_correlation_is_spearmans_with_ties(first, chance):
    second = chance.choices([0.0, 1.0, 2.0, 3.0], k=len(first))
    found = spearman(torch.tensor(first), torch.tensor(second))
    assert torch.equal(ranks(torch.tensor(first)), torch.tensor(stats.rankdata(first)))
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found == 0.0
    else:
        assert abs(found - stats.spearmanr(first, second).statistic) < 1e-9


def test_balanced_accuracy_weighs_classes_not_sequences():
    targets = torch.tensor([0] * 8 + [2] * 2)
    assert balanced_accuracy(torch.zeros(10, dtype=torch.long), targets) == 50.0
    assert balanced_accuracy(targets, targets) == 100.0


def test_a_regression_reports_correlation_and_degrees(folders):
    rows = made(80)
    write(folders / "data", {"mixed_split.csv": flip(rows, marked=12)})
    chosen = real_values(folders / "data", **{"task.dataset": "meltome", "task.validation": -1, "task.length": 15})
    folder = stage(**chosen, **{"run.select": "last"})
    found = finished(folder)
    worker = run.trainer(record.read_config(folder))
    built = worker.build()
    built.load_state_dict(training.weights(folder))
    # by hand: no batches, degrees instead of standardised ones
    test = [(sequence, value) for at, (_, sequence, value) in enumerate(rows) if at % 5 == 0]
    train = torch.tensor([v for at, (_, _, v) in enumerate(rows) if at % 5 and at > 12], dtype=torch.float32).double()
    with torch.no_grad():
        predicted = outputs(built.eval(), [sequence[:15] for sequence, _ in test])[:, 0].double()
    predicted = predicted * train.std() + train.mean()
    actual = torch.tensor([value for _, value in test], dtype=torch.float64)
    measured = found["measurements"]
    assert found["metric"] == "spearman" and abs(found["score"] - 100 * measured["spearman"]) < 1e-9
    assert abs(measured["spearman"] - stats.spearmanr(predicted, actual).statistic) < 1e-6
    assert abs(measured["mae"] - (predicted - actual).abs().mean().item()) < 1e-3
    assert measured["mae_of_median"] > 0 and found["baseline"] == 0.0
    assert measured["cropped"] == sum(len(sequence) > 15 for sequence, _ in test) > 0


def test_a_constant_prediction_of_temperatures_is_a_collapse():
    worker, state = begun(**{"task.target": "temperature"})
    state.model.eval()
    assert not worker.evaluate(state.model, "validation")["constant"]
    torch.nn.init.zeros_(state.model.head[1].weight)
    found = worker.evaluate(state.model, "validation")
    assert found["constant"] and found["score"] == 0.0


@pytest.mark.parametrize("kind", ["class", "temperature"])
@pytest.mark.parametrize("broken", ["all", "one"])
def test_outputs_that_are_not_finite_are_no_answers_but_a_collapse(kind, broken, monkeypatch):
    """NaN orders nothing and is of no class, whatever ranks and argmax make of it."""
    worker, state = begun(**{"task.target": kind})
    state.model.eval()
    whole, given = worker.evaluate(state.model, "test"), worker._outputs(state.model, "test")
    place = 0 if kind == "temperature" else int((given.argmax(1) == worker.targets("test")).nonzero()[0])
    given[slice(None) if broken == "all" else place] = torch.nan
    monkeypatch.setattr(worker, "_outputs", lambda *arguments: given)
    found = worker.evaluate(state.model, "test")
    assert found["constant"] and not whole["constant"] and found["loss"] != found["loss"]
    one_fewer = whole["score"] - 100 / len(given)
    assert abs(found["score"] - (one_fewer if kind == "class" and broken == "one" else 0.0)) < 1e-9


def test_targets_are_standardised_by_the_training_set_alone():
    worker, _ = begun(**{"task.target": "temperature"})
    train, test = worker.targets("train"), worker.targets("test")
    assert train.dtype == torch.float32 and abs(train.mean()) < 1e-6 and abs(train.std() - 1) < 1e-6
    mean, deviation = worker.scale
    assert torch.allclose(test.double() * deviation + mean, worker.data.test.targets.double(), atol=1e-4)
