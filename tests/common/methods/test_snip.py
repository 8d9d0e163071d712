"""SNIP: scores over batches, without a trace in the model."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from common.training import optimization
from tests.support import training
from tests.support.magnitude import largest
from tests.support.training import Noisy, Toy, begun, toy, trained


@pytest.fixture(autouse=True)
def runs(folders, shared_runs, monkeypatch):
    monkeypatch.setenv("RUNS", str(shared_runs))


def direct(worker, state, batches: int) -> tuple[dict, dict]:
    """Mean gradient and mean absolute gradient over the probe's batches, computed plainly."""
    order = optimization.Order(state.stream("probe"), worker.examples(), worker.run.batch_size)
    signed = {name: torch.zeros_like(weight) for name, weight in state.weights.items()}
    absolute = training.copy(signed)
    state.model.eval()
    for position in range(batches):
        state.model.zero_grad()
        worker.loss(state.model, worker.batch(order(position), position)).backward()
        for name, weight in state.weights.items():
            signed[name] += weight.grad / batches
            absolute[name] += weight.grad.abs() / batches
    state.model.zero_grad()
    return signed, absolute


@pytest.mark.parametrize("total", ["gradients", "magnitudes"])
def test_snip_scores_over_all_batches(total):
    """SMC-Bench overwrites its mask for each micro-batch: one batch decides."""
    worker, state = begun("snip", {"method.sum": total, "method.batches": 5}, start=False)
    weights = training.copy(state.weights)
    signed, absolute = direct(worker, state, 5)
    worker.method.start(state)
    gradient = signed if total == "gradients" else absolute
    expected = largest({name: (weights[name] * gradient[name]).abs() for name in weights}, state.masks.kept)
    same = sum(int((expected[name] == state.masks[name]).sum()) for name in weights)
    assert same >= state.masks.total - 4, "all but roundings at the threshold"
    one = begun("snip", {"method.sum": total, "method.batches": 1})[1]
    assert one.masks.checksum() != state.masks.checksum()


@pytest.mark.parametrize("dropout", [False, True])
def test_probing_leaves_no_trace(dropout):
    worker, state = toy(Noisy, start=False)
    for _ in range(3):  # statistics and an optimizer state that could be disturbed
        worker.step(state)
    state.model[0].eval()  # and modes that differ
    modes = [module.training for module in state.model.modules()]
    before = training.copy(state.model.state_dict()), torch.get_rng_state(), str(state.optimizer.state_dict())
    found = state.probe(4, dropout=dropout)
    assert training.equal(before[0], state.model.state_dict()), "weights and running averages"
    assert torch.equal(before[1], torch.get_rng_state())
    assert before[2] == str(state.optimizer.state_dict())
    assert all(parameter.grad is None for parameter in state.model.parameters())
    assert modes == [module.training for module in state.model.modules()]
    assert training.equal(found, state.probe(4, dropout=dropout)), "and gives the same again"
    assert not training.equal(found, state.probe(4, dropout=not dropout))


def test_probing_normalises_by_each_batchs_own_statistics():
    """Before training the running averages are those of no data: a score under them is one of another network."""
    _, state = toy(Noisy, start=False)
    first = state.probe(4)
    with torch.no_grad():
        state.model[0][1].running_mean += 100
    assert training.equal(first, state.probe(4))


class Words(Toy):
    """A table of 40 words of which the data uses 10, and one of kinds that nothing uses; the output is tied or not."""

    tied = False

    def build(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.words, self.kinds = nn.Embedding(40, 12), nn.Embedding(2, 12)
                self.middle, self.output = nn.Linear(12, 12), nn.Linear(12, 40, bias=False)

            def forward(self, words):
                return self.output(self.middle(self.words(words)))

        model = Model()
        if self.tied:
            model.output.weight = model.words.weight
        return model

    def batch(self, indices, position):
        return indices % 10, indices % 3

    def loss(self, model, batch):
        return functional.cross_entropy(model(batch[0]), batch[1])

    @torch.no_grad()
    def evaluate(self, model, split):
        loss = self.loss(model, self.batch(torch.arange(self.size), 0)).item()
        return {"score": -loss, "loss": loss, "constant": False}


@pytest.mark.parametrize("included", [False, True])
def test_a_table_that_no_batch_uses_is_a_reported_collapse_and_excluded_by_default(included, monkeypatch):
    """SMC-Bench's SNIP at a nominal 20 % is "delete the vocabulary that one batch did not show"."""
    monkeypatch.setattr("tasks.classic.trainer.Trainer", Words)
    folder = trained("snip", {"run.prune_embeddings": included, "run.steps": 10}, 0.5)
    found = training.summary(folder)
    assert ("words.weight" in found["layers"]) == included
    assert found["collapsed"] == included
    assert found["collapse"] == (["empty layer kinds.weight"] if included else [])
    if included:
        assert training.masks(folder)["words.weight"][10:].sum() == 0


def test_tied_weights_are_scored_and_counted_once(monkeypatch):
    monkeypatch.setattr(Words, "tied", True)
    worker, state = toy(Words, method="snip", values={"run.prune_embeddings": True}, sparsity=0.3)
    assert list(state.weights) == ["words.weight", "kinds.weight", "middle.weight"]
    assert state.masks.total == 40 * 12 + 2 * 12 + 12 * 12
    worker.step(state)
    assert torch.count_nonzero(state.model.output.weight[~state.masks["words.weight"]]) == 0
    worker, state = toy(Words, method="snip", sparsity=0.3)
    assert list(state.weights) == ["middle.weight"], "the output follows the table it is tied to"
