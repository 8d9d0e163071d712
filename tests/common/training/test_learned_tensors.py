"""Tensors that a method learns beside the weights, and weights that are used otherwise than stored."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call

from common import paths, record, registry
from common import sparsity as sp
from common.methods.families import base
from common.stage import run
from common.training.reparametrised import Reparametrised
from common.training.resume import checkpoint
from common.training.trainer import NotFinite
from tests.support import training
from tests.support.learned import LEARNED, Double
from tests.support.training import Noisy, Toy, toy, toy_with, trained


@pytest.fixture(autouse=True)
def runs(folders, shared_runs, monkeypatch):
    monkeypatch.setenv("RUNS", str(shared_runs))


class Scaled(base.Method):
    """Every prunable weight is used times a learned factor of its output; no noise."""

    def attach(self, state):
        for name, weight in state.weights.items():
            state.learn(f"factor/{name}", torch.ones(len(weight), 1), scale=3.0)
        state.reparametrise(lambda: {n: w * state.learned[f"factor/{n}"].to(w) for n, w in state.weights.items()})

    def deployed(self, state):
        return {n: (w * state.learned[f"factor/{n}"]).detach() for n, w in state.weights.items()}

    def on_step(self, state):
        if state.step == state.steps:
            state.load({**state.model.state_dict(), **self.deployed(state)})


def test_learned_tensors_are_trained_and_are_no_part_of_the_model():
    _, plain = toy()
    worker, state = toy_with(Scaled(None), values={"run.weight_decay": 0.1, "run.steps": 3, "run.schedule": "linear"})
    assert list(state.weights) == list(plain.weights) and sp.count(state.model) == sp.count(plain.model)
    assert state.masks.total == plain.masks.total and list(state.model.state_dict()) == list(plain.model.state_dict())
    first, second, third = state.optimizer.param_groups
    assert (first["weight_decay"], second["weight_decay"], third["weight_decay"]) == (0.1, 0, 0)
    assert second["params"][0] is state.learned["factor/0.weight"]
    before = training.copy(state.learned)
    worker.step(state)
    assert all(not torch.equal(state.learned[name], before[name]) for name in before)
    assert (first["lr"], second["lr"], third["lr"]) == pytest.approx((0.01, 0.03, 0.03))


def test_a_name_is_learned_once_and_in_attach():
    _, state = toy_with(Scaled(None))
    with pytest.raises(ValueError, match=r"factor/0\.weight: the name is taken"):
        state.learn("factor/0.weight", torch.ones(1))
    with pytest.raises(ValueError, match="call it in attach"):
        state.learn("other", torch.ones(1))
    with pytest.raises(ValueError, match="once, in attach"):
        state.reparametrise(dict)


def test_training_uses_effective_weights_with_dense_gradients_to_all_they_come_from():
    worker, state = toy_with(Scaled(None))
    with torch.no_grad():
        state.learned["factor/0.weight"].fill_(2.0)
        state.learned["factor/2.weight"][1] = 0.0
    batch = worker.batch(torch.arange(8), 0)
    state.model.train()
    loss = worker.loss(state.network, batch)
    loss.backward()
    weights = {n: p.detach().clone().requires_grad_() for n, p in state.model.named_parameters()}
    factors = {n: state.learned[f"factor/{n}"].detach().clone().requires_grad_() for n in state.weights}
    effective = {n: weights[n] * factors[n] if n in factors else weights[n] for n in weights}
    expected = (functional_call(state.model, effective, batch[0]) - batch[1]).square().mean()
    expected.backward()
    assert torch.equal(loss, expected)
    for name, parameter in state.model.named_parameters():
        assert torch.equal(parameter.grad, weights[name].grad), name
    for name in state.weights:
        assert torch.equal(state.learned[f"factor/{name}"].grad, factors[name].grad), name
    assert bool(state.learned["factor/2.weight"].grad[1] != 0), "a weight that is used as zero can still come back"
    state.model.eval()
    assert torch.equal(worker.loss(state.network, batch), worker.loss(state.model, batch)), "stored weights"


@pytest.mark.parametrize("build", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_use_effective_weights_too(build):
    """They keep a list of their weights beside the parameters."""
    torch.manual_seed(0)
    model, factor = build(3, 4, num_layers=2, batch_first=True), nn.Parameter(torch.tensor(0.5))
    weights = dict(model.named_parameters())
    network = Reparametrised(model, {"factor": factor}, lambda: {n: w * factor for n, w in weights.items()})
    inputs = torch.randn(2, 5, 3)
    stored = model(inputs)[0].detach()
    found = network.train()(inputs)[0]
    found.sum().backward()
    assert factor.grad.abs() > 0 and all(w.grad is not None for w in weights.values())
    half = build(3, 4, num_layers=2, batch_first=True)
    half.load_state_dict({name: w.detach() * 0.5 for name, w in weights.items()})
    assert torch.allclose(found, half(inputs)[0], atol=1e-6)
    assert torch.equal(network.eval()(inputs)[0], stored)


def test_batch_normalisation_goes_on_averaging_under_effective_weights():
    worker, state = toy_with(Scaled(None), Noisy)
    assert isinstance(state.network, Reparametrised)
    _, plain = toy(Noisy, start=False)
    for network in (state.network, plain.network):
        (state if network is state.network else plain).model.train()
        worker.loss(network, worker.batch(torch.arange(20), 0))
    norm, expected = state.model[0][1], plain.model[0][1]
    assert norm.num_batches_tracked == 1 and norm.running_mean.any()
    assert torch.equal(norm.running_mean, expected.running_mean)
    assert torch.equal(norm.running_var, expected.running_var)


def test_validation_sees_what_is_deployed_and_the_stored_weights_come_back_bit_for_bit():
    seen = []

    class Watching(Scaled):
        calls = 0

        def deployed(self, state):
            self.calls += 1
            return super().deployed(state)

    class Telling(Toy):
        def evaluate(self, model, split):
            seen.append(training.copy(model.state_dict()))
            return super().evaluate(model, split)

    made = Watching(None)
    after = []
    made.on_step = lambda state: after.append((training.copy(state.model.state_dict()), training.copy(state.learned)))
    _, state = training.fit(made, Telling, {"run.steps": 4, "run.evaluate_every": 2})
    stored, learned = after[1]
    assert torch.equal(seen[0]["0.weight"], stored["0.weight"] * learned["factor/0.weight"])
    assert torch.equal(seen[0]["0.bias"], stored["0.bias"])
    with state.standing_in({"0.weight": torch.zeros_like(stored["0.weight"])}):
        assert not state.weights["0.weight"].any()
    assert training.equal(after[3][0], state.model.state_dict())
    assert training.equal(seen[1], after[3][0]) and made.calls == 1, "the last step's weights are final"
    _, same = training.fit(Scaled(None), Toy, {"run.steps": 4, "run.evaluate_every": 100, "run.select": "last"})
    final = {n: after[3][0][n] * after[3][1][f"factor/{n}"] for n in state.weights}
    assert all(torch.equal(same.weights[n], final[n]) for n in final), "looking changes nothing"


def test_learned_tensors_are_checked_and_clipped_with_the_weights():
    worker, state = toy_with(Scaled(None), values={"run.clip_norm": 0.01, "run.optimizer": "sgd", "run.momentum": 0})
    before = training.copy({**state.learned, **dict(state.model.named_parameters())})
    worker.step(state)
    now = {**state.learned, **dict(state.model.named_parameters())}
    scales = {name: 0.03 if name in state.learned else 0.01 for name in now}
    norm = math.sqrt(sum(((now[n] - before[n]).detach() / scales[n]).square().sum().item() for n in now))
    assert norm == pytest.approx(0.01, rel=1e-3), "the norm of all gradients together"
    worker.method.penalty = lambda state: (state.learned["factor/0.weight"] - 1).abs().sqrt().sum()
    with torch.no_grad():
        state.learned["factor/0.weight"].fill_(1.0)
    before = training.copy({**state.learned, **dict(state.model.named_parameters())})
    with pytest.raises(NotFinite, match="gradient is not finite"):
        worker.step(state)
    assert training.equal(before, {**state.learned, **dict(state.model.named_parameters())}), "nothing has moved"


def test_resume_points_hold_what_is_learned_and_a_method_that_learns_something_else_says_so():
    values = {"run.steps": 9, "run.seed": 41}
    stops = training.answers({4: "asked to stop"})
    assert training.fit(Scaled(None), Noisy, values, stops)[1] == "asked to stop"
    folder = training.line("dense", {"run.learning_rate": 0.01, **values})[-1]
    saved = checkpoint.load(paths.checkpoint(folder))
    assert sorted(saved["learned"]) == ["factor/0.0.weight", "factor/1.weight"]
    with pytest.raises(ValueError, match=r"learns \{\} beside the model, the resume point has .*factor/1"):
        training.fit(base.Method(None), Noisy, values)
    _, resumed = training.fit(Scaled(None), Noisy, values)
    for path in folder.glob("checkpoint*"):
        path.unlink()
    _, straight = training.fit(Scaled(None), Noisy, values)
    assert training.equal(resumed.model.state_dict(), straight.model.state_dict())
    assert training.equal(resumed.learned, straight.learned)


def in_place_of_gmp(monkeypatch, cls) -> None:
    gmp = registry.method("gmp")
    for name in ("attach", "start", "penalty", "deployed", "on_step", "on_gradients"):
        monkeypatch.setattr(gmp, name, getattr(cls, name))


TWO = {"run.processes": 2, "run.batch_size": 8, "run.steps": 12, "run.accumulate": 2, "run.clip_norm": 0.5}


def test_two_processes_learn_what_one_does(monkeypatch):
    monkeypatch.setattr("tasks.classic.trainer.Trainer", Double)
    in_place_of_gmp(monkeypatch, Scaled)
    one, two = (training.weights(trained("gmp", {**TWO, "run.processes": n})) for n in (1, 2))
    assert all(torch.allclose(one[n], two[n], rtol=1e-9, atol=1e-12) for n in one)


def test_processes_that_learned_different_things_are_found_out(monkeypatch):
    class Differing(Scaled):
        def attach(self, state):
            Scaled.attach(self, state)
            state.learn("own", torch.full((1,), float(state._trainer.team.rank)))

        def penalty(self, state):
            return 0 * state.learned["own"].sum()

    monkeypatch.setattr("tasks.classic.trainer.Trainer", Toy)
    in_place_of_gmp(monkeypatch, Differing)
    folder = training.line("gmp", {**TWO, "run.seed": 5})[-1]
    assert run.execute(folder) == "failed"
    assert "weights at the start differ" in record.read_json(paths.status(folder))["reason"]


@pytest.mark.parametrize("method", LEARNED)
def test_noise_differs_between_processes_and_what_is_learned_does_not(method, monkeypatch):
    """Every process compares weights and learned tensors with the others' at the start and at the end."""
    monkeypatch.setattr("tasks.classic.trainer.Trainer", Toy)
    folder = trained(method, TWO, 0.75)
    assert training.summary(folder)["sparsity"] == 0.75
    one = trained(method, {**TWO, "run.processes": 1}, 0.75)
    assert not training.equal(training.weights(one), training.weights(folder)), "noise of its own on rank 1"
