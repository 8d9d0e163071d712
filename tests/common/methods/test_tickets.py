"""Tickets: rounds, rewinding, and what published code gets wrong about them."""

import math
from itertools import pairwise

import pytest
import torch

from common import paths, record
from common import sparsity as sp
from common.stage import run
from common.training import optimization
from tests.support import training
from tests.support.training import begun, trained


@pytest.fixture(autouse=True)
def runs(folders, shared_runs, monkeypatch):
    monkeypatch.setenv("RUNS", str(shared_runs))


@pytest.mark.parametrize("allocation", ["global", "layers"])
def test_rounds_are_nested_and_prune_their_share_of_what_lives(allocation):
    values = {"method.rounds": 3, "method.rate": 0.2, "method.allocation": allocation}
    if allocation == "layers":
        values["method.rates"] = "{output.weight:0.1}"
    folders = training.line("imp", values)
    training.train(folders)
    rounds = [training.masks(folder) for folder in folders]
    for name, first in rounds[0].items():
        for before, after in pairwise(rounds):
            assert not (after[name] & ~before[name]).any()
        kept = [int(masks[name].sum()) for masks in rounds]
        if allocation == "layers":
            share = 0.9 if name == "output.weight" else 0.8
            assert kept == [math.floor(first.numel() * share**k + 0.5) for k in range(4)]
    for k, masks in enumerate(rounds):
        if allocation == "global":
            assert sum(int(mask.sum()) for mask in masks.values()) == sp.kept_count(50200, 1 - 0.8**k)
    assert training.summary(folders[-1])["sparsity_target"] == pytest.approx(training.summary(folders[-1])["sparsity"])


@pytest.mark.parametrize("rewind", ["0", "3", "7"])
def test_survivors_are_bit_equal_to_the_early_weights_head_included(rewind):
    dense = trained("dense")
    worker, early = begun("dense")
    while early.step < int(rewind):
        worker.step(early)
    folders = training.line("imp", {"method.rewind": rewind})
    training.train(folders)
    state = begun("imp", {"method.rewind": rewind})[1]
    assert "output.weight" in state.weights
    for name, value in early.model.state_dict().items():
        mask = state.masks[name] if name in state.weights else torch.ones_like(value, dtype=torch.bool)
        assert torch.equal(state.model.state_dict()[name][mask], value[mask]), name
    if rewind == "0":
        assert training.equal(sp.snapshot(early.model), torch.load(paths.snapshot(dense, 0)))


@pytest.mark.parametrize("method", ["imp", "one_shot_ticket", "imp_reinit"])
def test_what_was_rewound_trains_the_rest_of_the_schedule(method):
    """Frankle et al. (2020): from W_k to W_T. A fresh initialisation is rewound nowhere."""
    values = {"run.log_every": 1, "run.schedule": "linear", "method.rewind": 7}
    folders = training.line(method, values)
    training.train(folders)
    dense, last = (
        {e["step"]: e["learning_rate"] for e in training.lines(folder) if "learning_rate" in e}
        for folder in (folders[0], folders[-1])
    )
    back = 0 if method == "imp_reinit" else 7
    assert training.summary(folders[-1])["steps"] == len(dense) - back
    assert last == {step - back: rate for step, rate in dense.items() if step > back}


def test_rewinding_to_pretrained_weights(tmp_path):
    generator = torch.Generator().manual_seed(11)
    pretrained = {n: torch.randn(v.shape, generator=generator) for n, v in training.weights(trained("dense")).items()}
    torch.save(pretrained, tmp_path / "pretrained.pt")
    values = {"task.pretrained": tmp_path / "pretrained.pt"}
    state = begun("imp", {**values, "method.rewind": "pretrained"})[1]
    for name, value in state.model.state_dict().items():
        mask = state.masks[name] if name in state.weights else torch.ones_like(value, dtype=torch.bool)
        assert torch.equal(value[mask], pretrained[name][mask])


def test_each_seed_goes_back_to_weights_of_its_own():
    """SMC-Bench keeps one snapshot for all folds of a seed; the last to write it wins."""
    states = [begun("imp", {"run.seed": seed})[1] for seed in (0, 1)]
    starts = [torch.load(paths.snapshot(training.line("dense", {"run.seed": seed})[0], 0)) for seed in (0, 1)]
    for name in states[0].weights:
        assert not torch.equal(starts[0][name], starts[1][name])
        for state, start in zip(states, starts, strict=True):
            assert torch.equal(state.weights[name], start[name] * state.masks[name])


def test_a_living_weight_that_happens_to_be_zero_is_not_taken_for_pruned():
    """SMC-Bench reads the support off ``w != 0``, so that padding rows count as pruned; here the masks say it."""

    class Zeroed:
        def __init__(self, parent):
            self.parent, self.masks, self.rewound = parent, parent.masks, parent.rewound

        def weights(self):
            weights = training.copy(self.parent.weights())
            for name in ("fc2.weight", "output.weight"):  # fc1 comes first: its dead weights would win every tie
                weights[name].zero_()
            return weights

    for sparsity in (0.5, 0.8):  # after the dense training, and after a round
        worker, state = begun("imp", sparsity=sparsity, start=False)
        state.parent = Zeroed(state.parent)
        worker.method.start(state)
        assert state.masks.kept == sp.kept_count(50200, sparsity)
        assert not any((state.masks[name] & ~mask).any() for name, mask in state.parent.masks().items())


def test_the_control_has_the_tickets_masks_and_other_weights():
    ticket, control = begun("imp")[1], begun("imp_reinit")[1]
    assert control.masks.checksum() == ticket.masks.checksum()
    for name, weight in control.weights.items():
        living = ticket.masks[name]
        assert (weight[living] != ticket.weights[name][living]).float().mean() > 0.99
        assert weight[living].std() > 0
    third = begun("imp_reinit", {"run.seed": 1})[1]
    assert not torch.equal(third.weights["fc1.weight"], control.weights["fc1.weight"])


def test_a_ticket_trains_with_a_fresh_optimizer_over_the_whole_schedule():
    worker, state = begun("imp")
    assert not state.optimizer.state and state.steps == 60
    order = optimization.Order(begun("dense")[0].order.seed, worker.examples(), 20)
    assert worker.order(0).tolist() == order(0).tolist(), "and on the same batches as the dense training"


def test_unknown_layers_in_rates_are_named():
    values = {"method.rounds": 1, "method.allocation": "layers", "method.rates": "{head:0.1}"}
    folders = training.line("imp", values)
    training.train(folders[:-1])
    assert run.execute(folders[-1]) == "failed"
    reason = record.read_json(paths.status(folders[-1]))["reason"]
    assert "'head'" in reason and "fc1.weight, fc2.weight, output.weight" in reason
