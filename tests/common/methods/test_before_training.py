"""Masks chosen before training: SynFlow, GraSP, random search, and the control that shuffles them."""

import math
import re
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from common import record
from common import sparsity as sp
from common.errors import UserError
from common.training import optimization
from common.training.probes.synaptic_flow import _positive
from launch.plan import planner
from launch.request.arguments import parse
from tests.support import training
from tests.support.training import Noisy, Toy, begun, toy


@pytest.fixture(autouse=True)
def runs(folders):
    """A runs/ of their own for the stages of this file."""


class Rectified(Toy):
    """Two hidden layers of rectified units between 12 inputs and 3 outputs, with biases that are not zero."""

    widths = (12, 8, 6, 3)

    def build(self):
        layers = [layer for a, b in pairwise(self.widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers[:-1])


class Convolutions(Toy):
    """Strides, padding, batch normalisation, a shortcut and pooling."""

    def build(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.first = nn.Conv2d(1, 4, 3, padding=1)
                self.norm = nn.BatchNorm2d(4)
                self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
                self.layer_norm = nn.LayerNorm(3)
                self.output = nn.Linear(4, 3)

            def forward(self, values):
                hidden = functional.relu(self.norm(self.first(values.view(-1, 1, 4, 3))))
                hidden = hidden + self.layer_norm(self.second(hidden))
                return self.output(hidden.mean((2, 3)))

        return Model()


def flow_by_products(weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """The shares of a chain of matrices (outputs, inputs): ones times everything after, before, and |w| between."""
    weights = [w.detach().double().abs() for w in weights]
    before = [torch.ones(weights[0].shape[1], dtype=torch.float64)]
    for w in weights:
        before.append(w @ before[-1])
    after = [torch.ones(weights[-1].shape[0], dtype=torch.float64)]
    for w in reversed(weights):
        after.insert(0, w.T @ after[0])
    whole = before[-1].sum()
    return [a[:, None] * w * b[None] / whole for a, w, b in zip(after[1:], weights, before)]


# --- SynFlow ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pruned", [False, True])
def test_synaptic_flow_of_a_chain_is_its_product_of_matrices(pruned):
    _, state = toy(Rectified, start=False)
    if pruned:
        state.set_masks(sp.select(sp.random_score(state.weights, 3), sp.uniform(state.weights, 0.4)))
    for found, expected in zip(state.synaptic_flow().values(), flow_by_products(list(state.weights.values()))):
        assert found.dtype == torch.float64 and torch.allclose(found, expected, rtol=1e-12, atol=0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=3, max_size=6), st.integers(0, 2**31), st.floats(1e-4, 1e4))
def test_every_layer_and_every_unit_conserves_the_flow(widths, seed, scale):
    """Theorems 1 and 2: what comes into a unit goes out of it, so each layer's scores add up to the same."""
    torch.manual_seed(seed)
    model = nn.Sequential(*[layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())][:-1])
    with torch.no_grad():
        model[0].weight.mul_(scale)
    Fixed.model = model
    flow = list(toy(Fixed, start=False)[1].synaptic_flow().values())
    for scores in flow:
        assert scores.sum() == pytest.approx(1, rel=1e-10) and (scores >= 0).all()
    for earlier, later in pairwise(flow):
        assert torch.allclose(earlier.sum(1), later.sum(0), rtol=1e-10)


class Fixed(Toy):
    """The model that a test made, fed with as many columns as it takes."""

    model = None

    def build(self):
        return self.model

    def batch(self, indices, position):
        return torch.zeros(len(indices), self.model[0].in_features), torch.zeros(len(indices), 1)


def test_normalisations_count_as_their_scale_and_the_trunk_of_a_network_with_shortcuts_conserves():
    _, state = toy(Convolutions, start=False)
    with torch.no_grad():  # as in pretrained networks: statistics and shifts that would make units negative
        state.model.norm.running_mean += 50
        state.model.norm.running_var.copy_(torch.tensor([1.0, 4.0, 9.0, 100.0]))
        state.model.norm.bias -= 3
        state.model.norm.weight.fill_(-1)
        state.model.layer_norm.bias -= 3
    flow = state.synaptic_flow()
    assert flow["first.weight"].sum() == pytest.approx(1) and flow["output.weight"].sum() == pytest.approx(1)
    assert 0 < flow["second.weight"].sum() < 1, "the rest goes by the shortcut"
    with torch.no_grad():
        half = functional.conv2d(torch.ones(1, 1, 4, 3), state.model.first.weight.abs(), padding=1)
        half /= torch.tensor([1.0, 2.0, 3.0, 10.0]).view(4, 1, 1)
        branch = functional.conv2d(half, state.model.second.weight.abs(), padding=1)
        whole = (half + branch).mean((2, 3)) @ state.model.output.weight.abs().T
        part = branch.mean((2, 3)) @ state.model.output.weight.abs().T
    assert flow["second.weight"].sum() == pytest.approx((part.sum() / whole.sum()).item(), rel=1e-4)


@pytest.mark.parametrize("kind", [Rectified, Convolutions])
def test_synaptic_flow_sees_no_data_and_leaves_no_trace(kind):
    worker, state = toy(kind, start=False)
    for _ in range(3):
        worker.step(state)
    before = training.copy(state.model.state_dict()), torch.get_rng_state(), str(state.optimizer.state_dict())
    modes = [module.training for module in state.model.modules()]
    found = state.synaptic_flow()
    worker.inputs, worker.targets = worker.inputs * 7 - 2, worker.targets.fill_(math.nan)
    assert training.equal(found, state.synaptic_flow())
    assert training.equal(before[0], state.model.state_dict()) and torch.equal(before[1], torch.get_rng_state())
    assert before[2] == str(state.optimizer.state_dict()) and torch.get_default_dtype() == torch.float32
    assert modes == [module.training for module in state.model.modules()]
    assert all(parameter.grad is None for parameter in state.model.parameters())
    assert not any(len(module._forward_hooks) for module in state.model.modules())


def test_deep_networks_overflow_no_score():
    """Single precision ends at 1e38: here the flow is 1e90 times that of the input, and shares are exact."""
    Fixed.model = nn.Sequential(*[nn.Linear(16, 16) for _ in range(30)])
    with torch.no_grad():
        for layer in Fixed.model:
            layer.weight.fill_(64.0)
    _, state = toy(Fixed, start=False)
    for scores in state.synaptic_flow().values():
        assert torch.allclose(scores, torch.full((16, 16), 1 / 256, dtype=torch.float64))
    with torch.no_grad():
        for layer in Fixed.model:
            layer.weight.fill_(1e30)
    with pytest.raises(ValueError, match="beyond double precision"):
        state.synaptic_flow()


@pytest.mark.parametrize("seed", range(8))
def test_synflow_reaches_the_maximal_critical_compression(seed):
    """Their axiom: one weight a layer is the least a chain can live on, and those that are left make up one path.

    SNIP and magnitude at the same sparsity empty a layer.
    """
    total, values = 12 * 8 + 8 * 6 + 6 * 3, {"run.seed": seed, "method.iterations": 100}
    _, state = toy(Rectified, "synflow", values, 1 - 3 / total)
    assert list(state.masks.counts.values()) == [1, 1, 1]
    assert sum(float(scores.sum()) for scores in state.synaptic_flow().values()) == pytest.approx(3)
    others = [toy(Rectified, method, {"run.seed": seed}, 1 - 3 / total)[1] for method in ("snip", "omp_before")]
    assert any(0 in other.masks.counts.values() for other in others)


def test_one_round_is_not_enough():
    """Why it is iterated: the scores of the whole network do not say what matters in the rest of it."""
    total = 12 * 8 + 8 * 6 + 6 * 3
    states = [
        toy(Rectified, "synflow", {"run.seed": seed, "method.iterations": 1}, 1 - 3 / total)[1] for seed in range(8)
    ]
    assert any(0 in state.masks.counts.values() for state in states)


def test_synflow_prunes_along_an_exponential_within_what_lives(monkeypatch):
    worker, state = begun("synflow", {"method.iterations": 7}, 0.9, start=False)
    history, set_masks = [], state.set_masks

    def watch(masks):
        flow = state.synaptic_flow()
        set_masks(masks)
        history.append((state.masks.kept, training.copy(state.masks.bits), flow))

    state.set_masks = watch
    worker.method.start(state)
    total = state.masks.total
    assert [kept for kept, _, _ in history] == [sp.kept_count(total, 1 - 0.1 ** (k / 7)) for k in range(1, 7)] + [
        sp.kept_count(total, 0.9)
    ]
    for (_, before, _), (kept, after, flow) in pairwise(history):
        assert all(not (after[name] & ~before[name]).any() for name in after)
        chosen = torch.cat([flow[name][after[name]] for name in after])
        left = torch.cat([flow[name][before[name] & ~after[name]] for name in after])
        assert len(chosen) == kept and chosen.min() >= left.max()


def test_what_synflow_has_pruned_stays_pruned():
    """A weight that no path crosses any more scores as little as a pruned one, which must not take its place."""
    Fixed.model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        Fixed.model[0].weight.copy_(torch.tensor([[0.1, 0.2], [5.0, 5.0]]))
        Fixed.model[2].weight.fill_(1.0)
    _, state = toy(Fixed, "synflow", {"method.iterations": 100}, 1 / 3)
    assert state.masks["0.weight"].tolist() == [[False, True], [True, True]]  # 0.1 went first, then the way out of 0.2
    assert state.masks["2.weight"].tolist() == [[False, True]]


@pytest.mark.parametrize("sparsity", [0.9, 0.99, 0.999])
def test_synflow_keeps_every_layer_where_others_empty_one(sparsity):
    """On the digits: at 99.9 % no path through GraSP's 50 weights is left, all of SynFlow's are part of one."""
    state = begun("synflow", {"method.iterations": 100}, sparsity)[1]
    assert state.masks.kept == sp.kept_count(state.masks.total, sparsity) and all(state.masks.counts.values())
    assert all(float(scores.sum()) == pytest.approx(1) for scores in state.synaptic_flow().values())
    other = begun("grasp", None, sparsity)[1]
    emptied = 0 in other.masks.counts.values()
    assert emptied == (sparsity == 0.999)
    assert [float(scores.sum()) > 0 for scores in other.synaptic_flow().values()] == [not emptied] * 3


class Text(Toy):
    """Tokens in, a word out; with attention or without."""

    attention = False

    def build(self):
        class Model(nn.Module):
            def __init__(self, attention):
                super().__init__()
                self.words = nn.Embedding(10, 8)
                self.attention = nn.MultiheadAttention(8, 2, batch_first=True) if attention else None
                self.norm, self.output = nn.LayerNorm(8), nn.Linear(8, 10)

            def forward(self, *, words):
                hidden = self.words(words)
                if self.attention is not None:
                    hidden = hidden + self.attention(hidden, hidden, hidden, need_weights=False)[0]
                return {"scores": self.output(self.norm(hidden).mean(1)), "states": hidden}

        return Model(self.attention)

    def batch(self, indices, position):
        return torch.stack([indices % 10, indices % 7, indices % 3], 1), indices % 10

    def loss(self, model, batch):
        return functional.cross_entropy(model(words=batch[0])["scores"], batch[1])


def test_token_models_start_with_ones_behind_the_embeddings():
    _, state = toy(Text, start=False)
    flow = state.synaptic_flow()["output.weight"]
    expected = state.weights["output.weight"].detach().double().abs()
    assert torch.allclose(flow, expected / expected.sum())
    with pytest.raises(ValueError, match=r"words.weight gets no score: leave it dense"):
        toy(Text, values={"run.prune_embeddings": True}, start=False)[1].synaptic_flow()


class Slope(Rectified):
    def build(self):
        return nn.Sequential(nn.Linear(12, 5), nn.LogSoftmax(1), nn.Linear(5, 3))


class Nothing(Rectified):
    def build(self):
        model = super().build()
        nn.init.zeros_(model[2].weight)
        return model


class Roundabout(Rectified):
    def loss(self, model, batch):
        return (model[2:](model[:2](batch[0].to(model[0].weight))) - batch[1]).square().mean()


class Whole(Rectified):
    def batch(self, indices, position):
        return (self.inputs[indices] * 100).long(), self.targets[indices]

    def build(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.output = nn.Linear(12, 3)

            def forward(self, values):
                return self.output(values.to(torch.get_default_dtype()))

        return Model()


def test_where_the_theory_does_not_hold_it_says_so(monkeypatch):
    monkeypatch.setattr(Text, "attention", True)
    for kind, complaint in (
        (Text, "through attention.in_proj_weight is nothing"),
        (Slope, "through 0.weight is negative in part"),
        (Nothing, "nothing flows from the inputs"),
        (Roundabout, "does not call the model itself"),
        (Whole, "neither real inputs nor embeddings"),
    ):
        with pytest.raises(ValueError, match=complaint):
            toy(kind, start=False)[1].synaptic_flow()
        assert torch.get_default_dtype() == torch.float32


def test_the_positive_copy_shares_nothing_and_keeps_ties():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    before = training.copy(model.state_dict())
    twin = _positive(model)
    assert twin[0].weight is twin[1].weight and training.equal(before, training.copy(model.state_dict()))
    assert torch.equal(twin[0].weight, before["0.weight"].double().abs()) and not twin[0].bias.any()


# --- GraSP ------------------------------------------------------------------------------------------------------------


class Quadratic(Toy):
    """Loss 1/2 w'Aw + b'w of the six weights w: gradient and Hessian are known."""

    curvature = torch.diag(torch.tensor([3.0, -2.0, 1.0, 0.5, 4.0, 1.0])) + 0.1

    def build(self):
        model = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [3.0, -0.1, 1.0]]))
        return model

    def loss(self, model, batch):
        w = model.weight.view(-1)
        return w @ self.curvature @ w / 2 + w.sum() + 0 * model(torch.ones(3)).sum()


def test_grasp_on_a_quadratic_removes_what_the_gradient_misses_least():
    """Removing weight i takes 2 w_i (Hg)_i off the squared gradient, to first order: the smallest such loss goes first.

    The sign is that of the paper's text and code; the top of -w (Hg) kept, as in some re-implementations, keeps
    exactly what it removes.
    """
    _, state = toy(Quadratic, start=False)
    w, a = state.model.weight.detach().view(-1), Quadratic.curvature
    product = state.hessian_gradient(3)["weight"].view(-1)
    assert torch.allclose(product, a @ (a @ w + 1), rtol=1e-6)
    score = sp.gradient_flow(state.weights, {"weight": product.view(2, 3)}).chunk("weight", 0, 6)
    tiny = 1e-3 * torch.diag(w).double()  # a small part of each weight removed: the change is of first order
    norms = [((a.double() @ (w.double() - part) + 1) ** 2).sum() for part in (torch.zeros(6), *tiny)]
    falls = torch.stack([(norms[0] - norm) / 2e-3 for norm in norms[1:]])
    assert torch.allclose(score.double(), falls, rtol=0.02, atol=0.02)
    _, state = toy(Quadratic, "grasp", {"method.temperature": 1.0}, 0.5)
    assert sorted(state.masks["weight"].view(-1).nonzero().view(-1).tolist()) == sorted(falls.topk(3).indices.tolist())


def whole_hessian(worker, state, batches: int, temperature: float):
    """Mean gradient and mean Hessian over the probe's batches, entry by entry, in the order of the weights."""
    order = optimization.Order(state.stream("probe"), worker.examples(), worker.run.batch_size)
    names, shapes = list(state.weights), [w.shape for w in state.weights.values()]
    rest = {n: p.detach() for n, p in state.model.named_parameters() if n not in names}

    def loss(flat):
        pieces = flat.split([shape.numel() for shape in shapes])
        values = {n: piece.view(shape) for n, piece, shape in zip(names, pieces, shapes)}
        found = []
        for position in range(batches):
            inputs, targets = worker.batch(order(position), position)
            outputs = torch.func.functional_call(state.model, {**rest, **values}, inputs) / temperature
            found.append((outputs - targets).square().mean())
        return torch.stack(found).mean()

    flat = torch.cat([w.detach().view(-1) for w in state.weights.values()])
    state.model.eval()
    return torch.func.grad(loss)(flat), torch.func.hessian(loss)(flat)


@pytest.mark.parametrize("temperature", [1.0, 200.0])
def test_the_hessian_gradient_product_is_that_of_the_whole_hessian(temperature):
    worker, state = toy(Toy, start=False)
    gradient, hessian = whole_hessian(worker, state, 3, temperature)
    found = torch.cat([value.view(-1) for value in state.hessian_gradient(3, temperature).values()])
    assert torch.allclose(found, hessian @ gradient, rtol=1e-4, atol=1e-6 * found.abs().max())
    one = torch.cat([value.view(-1) for value in state.hessian_gradient(1, temperature).values()])
    assert not torch.allclose(one, found, rtol=0.1)


def test_grasp_leaves_no_trace_and_gives_the_same_again():
    worker, state = toy(Noisy, start=False)
    for _ in range(3):
        worker.step(state)
    before = training.copy(state.model.state_dict()), torch.get_rng_state(), str(state.optimizer.state_dict())
    found = state.hessian_gradient(3, 200.0)
    assert training.equal(before[0], state.model.state_dict()) and torch.equal(before[1], torch.get_rng_state())
    assert before[2] == str(state.optimizer.state_dict())
    assert all(parameter.grad is None for parameter in state.model.parameters()) and not state.model._forward_hooks
    assert training.equal(found, state.hessian_gradient(3, 200.0))


def test_attention_can_be_differentiated_twice(monkeypatch):
    """Its fast kernels cannot: they are not used here."""
    monkeypatch.setattr(Text, "attention", True)
    product = toy(Text, start=False)[1].hessian_gradient(2)
    assert all(value.abs().sum() > 0 for value in product.values())


def test_weights_that_no_gradient_depends_on_have_no_product():
    class Line(Toy):
        def build(self):
            return nn.Linear(12, 3)

        def loss(self, model, batch):
            return model(batch[0]).mean()

    assert not toy(Line, start=False)[1].hessian_gradient(2)["weight"].any()


# --- random search ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allocation", ["uniform", "erk_plus"])
def test_one_candidate_is_random_before(allocation):
    masks = [
        toy(Toy, method, {"method.allocation": allocation, **more}, 0.7)[1].masks.checksum()
        for method, more in (("random_before", {}), ("random_search", {"method.candidates": 1}))
    ]
    assert masks[0] == masks[1]


def test_random_search_takes_the_mask_of_least_loss():
    worker, state = toy(Toy, "random_search", {"method.candidates": 6, "method.batches": 3}, 0.7, start=False)
    seen, loss = [], state.loss

    def watch(batches, masks):
        seen.append((loss(batches, masks), training.copy(masks)))
        assert batches == 3
        return seen[-1][0]

    state.loss = watch
    worker.method.start(state)
    losses = [value for value, _ in seen]
    best = losses.index(min(losses))
    assert len(set(losses)) == 6 and best != 0, "the test needs another than the first to win"
    assert training.equal(state.masks.bits, seen[best][1])
    assert state.loss(3, state.masks.bits) == min(losses)
    plain = [worker.loss(state.model, worker.batch(order, 0)).item() for order in probed(worker, state, 3)]
    assert min(losses) == pytest.approx(sum(plain) / 3)
    _, fewer = toy(Toy, "random_search", {"method.candidates": best + 1, "method.batches": 3}, 0.7)
    assert fewer.masks.checksum() == state.masks.checksum(), "more candidates do not shift the earlier ones"
    _, other = toy(Toy, "random_search", {"method.candidates": 6, "run.seed": 1}, 0.7)
    assert other.masks.checksum() != state.masks.checksum()


def probed(worker, state, batches: int):
    order = optimization.Order(state.stream("probe"), worker.examples(), worker.run.batch_size)
    return [order(position) for position in range(batches)]


def test_losses_that_are_no_numbers_never_win():
    for values, expected in (([math.nan, 2.0, 1.0, math.nan], 2), ([math.nan] * 4, 0), ([1.0, 1.0, 1.0, 1.0], 0)):
        worker, state = toy(Toy, "random_search", {"method.candidates": 4}, 0.7, start=False)
        seen, answers = [], iter(values)
        state.loss = lambda batches, masks, seen=seen, answers=answers: seen.append(masks) or next(answers)
        worker.method.start(state)
        assert training.equal(state.masks.bits, seen[expected])


def test_a_loss_leaves_no_trace():
    worker, state = toy(Noisy, start=False)
    for _ in range(3):
        worker.step(state)
    before = training.copy(state.model.state_dict()), torch.get_rng_state(), str(state.optimizer.state_dict())
    masks = {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in state.weights.items()}
    whole, none = state.loss(3), state.loss(3, masks)
    assert whole != none and whole == state.loss(3)
    assert training.equal(before[0], state.model.state_dict()) and torch.equal(before[1], torch.get_rng_state())
    assert before[2] == str(state.optimizer.state_dict())

    def broken(*arguments):
        raise RuntimeError("a loss that cannot be taken")

    worker.loss = broken
    with pytest.raises(RuntimeError):
        state.loss(3, masks)
    assert training.equal(before[0], state.model.state_dict())


# --- the control that shuffles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["snip", "imp", "omp_after"])
def test_reshuffling_keeps_each_layers_count_and_no_place(of):
    values = {"run.steps": 12, "method.of": of, "method.settings": "{}"}
    folders = training.line("reshuffle", values)
    methods = [record.read_config(folder)["method"] for folder in folders]
    expected = {"snip": [], "omp_after": ["dense"], "imp": ["dense", *["imp"] * 7]}[of]
    assert methods == [*expected, of, "reshuffle"]
    own = training.line(
        of, {"run.steps": 12, "method.batches": 10} if of == "snip" else {"run.steps": 12, **RATE.get(of, {})}
    )
    assert own == folders[:-1], "the very stages that the other method has for itself"
    state = begun("reshuffle", values)[1]
    theirs = training.masks(folders[-2])
    for name, bits in theirs.items():
        share = bits.double().mean().item()
        assert state.masks.counts[name] == int(bits.sum()) and not torch.equal(state.masks[name], bits)
        overlap = (state.masks[name] & bits).sum().item() / bits.sum().item()
        assert overlap == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / int(bits.sum())) + 1e-9)


RATE = {"imp": {"method.rate": 0.2}}


def test_a_reshuffled_erk_mask_is_random_before():
    """Both draw from the same stream: the control and the control's control are paired."""
    values = {"run.steps": 12, "method.of": "omp_before", "method.settings": "{allocation:erk}"}
    masks = begun("reshuffle", values)[1].masks
    assert masks.checksum() == begun("random_before", {"run.steps": 12, "method.allocation": "erk"})[1].masks.checksum()


@pytest.mark.parametrize(
    "words, complaint",
    [
        ("method.of=snap", "method.of must be one of .*snip.*; found 'snap'"),
        ("method.of=dense", "method.of must be one of "),
        ("method.of=reshuffle", "method.of must be one of "),
        (
            "method.settings={batch:3}",
            "snip has no setting 'batch' to give here .it has: allocation, batches, sum, dropout",
        ),
        ("method.settings={sparsity:0.3}", "snip has no setting 'sparsity' to give here"),
        ("method.settings={batches:many}", "batches of snip: expected a whole number, found 'many'"),
        (
            "method.settings={batches:0}",
            "reshuffle starts from snip, which cannot work: method.batches must be at least 1",
        ),
        ("method.of=imp method.sparsity=0", "reshuffle starts from imp, which cannot work: .*use METHOD=dense"),
    ],
)
def test_what_cannot_be_reshuffled(words, complaint):
    with pytest.raises(UserError, match=complaint):
        planner.make(parse(["method=reshuffle", "run.seed=0", *words.split(" ")]))


@pytest.mark.parametrize(
    "words, complaint",
    [
        ("method=synflow method.iterations=0", "method.iterations must be at least 1, found 0"),
        ("method=grasp method.batches=0", "method.batches must be at least 1, found 0"),
        ("method=grasp method.temperature=0", "method.temperature must be above 0, found 0.0"),
        ("method=random_search method.candidates=0", "method.candidates must be at least 1, found 0"),
        ("method=random_search method.batches=-1", "method.batches must be at least 1, found -1"),
        (
            "method=grasp method.allocation=erk+",
            "must be one of global, uniform, uniform_first_dense, erk, erk_plus, rows; found 'erk+'",
        ),
    ],
)
def test_wrong_settings_are_named_before_training(words, complaint):
    with pytest.raises(UserError, match=re.escape(complaint)):
        planner.make(parse(["run.seed=0", *words.split(" ")]))
