"""Variational dropout: its divergence and its noise are the paper's."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from common import sparsity as sp
from common.errors import UserError
from common.sparsity import variational
from tests.support.learned import LEARNED
from tests.support.training import Toy, toy


@pytest.fixture(autouse=True)
def runs(folders, shared_runs, monkeypatch):
    monkeypatch.setenv("RUNS", str(shared_runs))


def exact_divergence(log_alpha: float) -> float:
    """KL(N(1, alpha) || log-uniform) = E log|x| - log(alpha) / 2 + (Euler's gamma + log 2) / 2, zero at infinity.

    The expectation by the trapezoidal rule over t = log|x|, where the integrand is smooth and dies out at both ends.
    """
    t, step = np.linspace(-45, 7, 400_001, retstep=True)
    x, alpha = np.exp(t), math.exp(log_alpha)
    density = (np.exp(-((x - 1) ** 2) / (2 * alpha)) + np.exp(-((x + 1) ** 2) / (2 * alpha))) / math.sqrt(
        2 * math.pi * alpha
    )
    assert step * (density * x).sum() == pytest.approx(1, abs=1e-9)
    return step * (density * x * t).sum() - log_alpha / 2 + (np.euler_gamma + math.log(2)) / 2


def test_the_divergence_is_the_papers_approximation_of_the_integral():
    grid = torch.linspace(-8, 8, 65, dtype=torch.float64)
    found, expected = sp.divergence(grid), torch.tensor([exact_divergence(value.item()) for value in grid])
    error = (found - expected).abs()
    assert 0.009 < error.max() < 0.0095
    assert error[grid >= 3].max() < 0.001 and error[grid <= -7].max() < 0.0015, "closer at both ends"
    assert bool((found.diff() < 0).all()) and bool((expected.diff() < 0).all())


@given(st.floats(-30, 30))
@settings(max_examples=50, deadline=None)
def test_the_divergence_is_flat_outside_its_interval(value):
    at = torch.tensor(value, requires_grad=True)
    found = sp.divergence(at)
    found.backward()
    held = torch.tensor(min(max(value, -8.0), 8.0))
    assert torch.equal(found, sp.divergence(held)) and found.dtype == torch.float32
    assert (at.grad == 0) if abs(value) > 8 else (at.grad < 0)


def test_log_alpha_is_finite_where_the_weight_is_zero():
    weight, log_variance = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([-10.0, -1.0, 3.0])
    found = sp.log_alpha(weight, log_variance)
    assert torch.allclose(found, torch.tensor([-10 - math.log(1e-8), -1.0, 3 - math.log(4)]))


class Layered(nn.Module):
    """One layer; what it is called with may be anything."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, inputs):
        return self.layer(inputs)


LAYERS = {
    "linear": (lambda: nn.Linear(5, 4), (3, 5)),
    "linear over positions": (lambda: nn.Linear(5, 4, bias=False), (2, 3, 5)),
    "conv1d circular": (lambda: nn.Conv1d(3, 4, 3, padding=2, padding_mode="circular"), (2, 3, 7)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, dilation=2), (2, 4, 7, 6)),
    "conv2d reflect": (lambda: nn.Conv2d(2, 3, (3, 2), padding="same", padding_mode="reflect"), (1, 2, 5, 5)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2, padding=1), (1, 2, 3, 4, 3)),
    "embedding": (lambda: nn.Embedding(6, 3), None),
    "embedding with padding": (lambda: nn.Embedding(6, 3, padding_idx=2), None),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_noise_has_the_variance_that_noisy_weights_give_the_output(kind, monkeypatch):
    """An output is J w for its Jacobian J, so its variance is J^2 sigma^2, whatever the layer is."""
    torch.manual_seed(0)
    build, shape = LAYERS[kind]
    model = Layered(build())
    weight = model.layer.weight
    inputs = torch.tensor([[0, 2, 2, 5], [1, 0, 3, 2]]) if shape is None else torch.randn(shape)
    log_variance = nn.Parameter(torch.randn_like(weight) - 2)
    plain = model(inputs)
    jacobian = torch.autograd.functional.jacobian(
        lambda value: functional_call(model, {"layer.weight": value}, inputs), weight.detach()
    )
    if "padding" in kind and shape is None:  # the table's row has no gradient there, and no noise
        jacobian[inputs == 2] = 0
    expected = (jacobian.square() * log_variance.exp()).flatten(plain.ndim).sum(-1)
    noise = variational.LocalNoise(model, {"layer.weight": weight}, {"layer.weight": log_variance})
    with pytest.raises(ValueError, match=r"layer\.weight was used without calling"):
        noise.check()
    assert torch.equal(model.eval()(inputs), plain), "no noise in evaluation mode"
    model.train()
    assert not torch.equal(model(inputs), model(inputs)), "drawn anew each time"
    noise.check()
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    found = model(inputs) - plain
    assert torch.allclose(found.square(), expected + 1e-8 * (found != 0), rtol=1e-3, atol=1e-6)
    found.sum().backward()
    assert log_variance.grad is not None and bool((log_variance.grad >= 0).all()) and bool(log_variance.grad.any())


def test_each_lookup_and_each_example_has_noise_of_its_own():
    torch.manual_seed(0)
    for layer, inputs in ((nn.Embedding(4, 2000), torch.tensor([[1, 1]])), (nn.Linear(3, 2000), torch.ones(1, 2, 3))):
        model = Layered(layer)
        log_variance = torch.zeros_like(layer.weight)
        variational.LocalNoise(model, {"layer.weight": layer.weight}, {"layer.weight": log_variance})
        plain = model.eval()(inputs)
        first, second = (model.train()(inputs) - plain)[0]
        assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.1
        wanted = 1.0 if isinstance(layer, nn.Embedding) else 3.0
        assert first.var().item() == pytest.approx(wanted, rel=0.15) and abs(first.mean()) < 0.15


class Attention(Toy):
    def build(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.attention, self.output = nn.MultiheadAttention(12, 2, batch_first=True), nn.Linear(12, 3)

            def forward(self, inputs):
                inputs = inputs.unsqueeze(1)
                return self.output(self.attention(inputs, inputs, inputs)[0].squeeze(1))

        return Model()


class Narrow(nn.Linear):
    def forward(self, inputs):
        return functional.linear(inputs, self.weight * 0.5, self.bias)


class Subclassed(Toy):
    def build(self):
        return nn.Sequential(Narrow(12, 20), nn.Tanh(), nn.Linear(20, 3))


class Bypassed(Toy):
    def build(self):
        class Model(nn.Sequential):
            def forward(self, inputs):
                return self[1](functional.linear(inputs, self[0].weight))

        return Model(nn.Linear(12, 20), nn.Linear(20, 3))


@pytest.mark.parametrize(
    "kind, exclude, found",
    [
        (Attention, [], "attention.in_proj_weight belongs to attention, a MultiheadAttention"),
        (Attention, ["attention.in*"], "attention.out_proj.weight was used without calling"),
        (Subclassed, [], "0.weight belongs to 0, a Narrow"),
        (Bypassed, [], "0.weight was used without calling the Linear"),
    ],
)
def test_a_weight_that_cannot_be_made_noisy_is_an_error_before_a_step_is_taken(kind, exclude, found, monkeypatch):
    values = {"run.exclude": f"[{','.join(exclude)}]"} if exclude else {}
    with pytest.raises(UserError) as error:
        worker, state = toy(kind, "variational_dropout", values)
        worker.step(state)
    assert found in str(error.value) and "run.exclude" in str(error.value)
    left = {"run.exclude": "[attention*]" if kind is Attention else "[0.weight]"}
    worker, state = toy(kind, "variational_dropout", left)
    worker.step(state)


class Recurrent(Toy):
    """The inputs as a sequence of six pairs."""

    def build(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.gru, self.output = nn.GRU(2, 5, batch_first=True, bidirectional=True), nn.Linear(10, 3)

            def forward(self, inputs):
                return self.output(self.gru(inputs.unflatten(1, (6, 2)))[0].mean(1))

        return Model()


def test_recurrent_weights_are_drawn_once_a_batch():
    worker, state = toy(Recurrent, "variational_dropout", {"method.strength": 0.0, "method.log_variance": -2.0})
    torch.manual_seed(0)
    inputs = torch.randn(4, 12)
    assert torch.equal(state.network.eval()(inputs), state.model(inputs)), "no noise in evaluation mode"
    state.network.train()
    assert not torch.equal(state.network(inputs), state.network(inputs)), "drawn anew each time"
    state.learned["log_variance/output.weight"].data.fill_(-100.0)
    same = state.network(inputs[:1].expand(2, 12))
    assert torch.allclose(same[0], same[1], atol=1e-3), "one draw for all sequences of a batch"
    worker.loss(state.network, worker.batch(torch.arange(4), 0)).backward()
    for name in state.weights:
        assert state.learned[f"log_variance/{name}"].grad.any() or name == "output.weight", name


def test_a_drawn_weight_has_the_learned_mean_and_variance():
    torch.manual_seed(0)
    weight, log_variance = torch.tensor([1.0, -3.0], requires_grad=True), torch.tensor([0.0, -2.0], requires_grad=True)
    drawn = torch.stack([sp.noisy(weight, log_variance) for _ in range(20_000)])
    assert torch.allclose(drawn.mean(0), weight, atol=0.03)
    assert torch.allclose(drawn.var(0), log_variance.exp(), rtol=0.05)
    drawn.sum().backward()
    assert weight.grad.tolist() == [20_000, 20_000] and bool(log_variance.grad.any())


class Tied(Toy):
    """Tokens in, the same table out."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.inputs = torch.randint(0, 9, (self.size, 5), generator=torch.Generator().manual_seed(1))
        self.targets = torch.randn(self.size, 9, generator=torch.Generator().manual_seed(2))

    def build(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.table, self.middle, self.output = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 9)
                self.output.weight = self.table.weight

            def forward(self, tokens):
                return self.output(torch.tanh(self.middle(self.table(tokens).mean(1))))

        return Model()


@pytest.mark.parametrize("method", LEARNED)
def test_a_tied_table_is_noisy_in_both_places_and_pruned_once(method):
    values = {"run.prune_embeddings": "true", "run.steps": 20}
    worker, state = toy(Tied, method, values, sparsity=0.75)
    assert len(state.weights) == len(state.learned) == 2
    while state.step < state.steps:
        worker.step(state)
    assert state.masks.kept == round(0.25 * (72 + 64)) and state.model.output.weight is state.model.table.weight
    assert not state.model.output.weight[~state.masks["table.weight"]].any()
