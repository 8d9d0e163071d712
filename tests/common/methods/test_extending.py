"""The core has room for what comes later: methods that are not here yet, each in a few lines, without a change of it.

What each test asserts is the property that tells the method's family from the others.
"""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from common import paths
from common import sparsity as sp
from common.methods.families import base
from common.training.resume import checkpoint
from tests.support import training
from tests.support.training import Noisy, Toy, toy_with


@dataclass
class Config(base.Sparse):
    sparsity: float = 0.75
    allocation: str = "global"


pytestmark = pytest.mark.usefixtures("folders")


class WithMemory(base.Method):
    """What the method found out is in ``memory``, tensors by name, and outlives an interruption."""

    def __init__(self, config=None):
        super().__init__(config or Config())
        self.memory: dict = {}

    def state_dict(self):
        return {"memory": self.memory}

    def load_state_dict(self, state):
        self.memory = state["memory"]


def finished(state) -> dict:
    kinds = {"weight": state.model.state_dict(), "mask": state.masks.bits, "learned": state.learned}
    return {f"{kind} {name}": value for kind, found in kinds.items() for name, value in found.items()}


def check_interrupted(build, kind=Toy, values: dict | None = None):
    """(trainer, state) of a whole training; one that is stopped after 7 steps ends the same, bit for bit."""
    values = {"run.steps": 20, "run.evaluate_every": 5, "run.select": "last", **(values or {})}
    _, straight = ends = training.fit(build(), kind, {**values, "run.checkpoint_every": 0})
    expected = training.copy(finished(straight))
    folder = training.line("dense", {"run.learning_rate": 0.01, **values, "run.checkpoint_every": 0})[-1]
    for path in folder.glob("checkpoint*"):
        path.unlink()
    assert training.fit(build(), kind, values, training.answers({7: "asked to stop"}))[1] == "asked to stop"
    assert checkpoint.load(paths.checkpoint(folder))["step"] == 7
    _, resumed = training.fit(build(), kind, values)
    assert training.equal(expected, finished(resumed))
    return ends


# --- learned scores on frozen weights ---------------------------------------------------------------------------------


class Scores(base.Method):
    """Only which weights live is learned: straight through the top-k (lottery jackpots: Zhang et al., 2021)."""

    frozen, scale = True, 3.0

    def attach(self, state):
        for name, weight in state.weights.items():
            weight.requires_grad_(not self.frozen)
            state.learn(f"score/{name}", weight.abs(), scale=self.scale)
        state.reparametrise(lambda: self.effective(state))

    def scores(self, state) -> dict:
        return {name: state.learned[f"score/{name}"] for name in state.weights}

    def effective(self, state) -> dict:
        masks, scores = self.choose(state, self.scores(state)), self.scores(state)
        return {n: w * (masks[n] + scores[n] - scores[n].detach()) for n, w in state.weights.items()}

    def deployed(self, state):
        return {name: weight.detach() for name, weight in self.effective(state).items()}

    def on_step(self, state):
        if state.step == state.steps:
            state.set_masks(self.choose(state, self.scores(state)))

    def settled(self, step, steps):
        return step >= steps


def test_scores_are_learned_on_weights_that_never_move():
    losses = {}
    for scale in (0.0, 3.0):  # the control learns biases alone, under the mask of the largest weights
        made = Scores(Config())
        made.scale = scale
        worker, state = toy_with(made, values={"run.steps": 60})
        initial = training.copy(state.weights)
        largest = sp.choose(sp.magnitude(initial), 0.75)
        while state.step < state.steps:
            worker.step(state)
        assert all(torch.equal(w, initial[n] * state.masks[n]) for n, w in state.weights.items())
        assert state.masks.kept == 75 and training.equal(state.masks.bits, largest) == (scale == 0)
        losses[scale] = worker.loss(state.model, (worker.inputs, worker.targets)).item()
    assert losses[3.0] < 0.9 * losses[0.0], "the choice itself has got better"


def test_learned_scores_survive_an_interruption():
    _, state = check_interrupted(lambda: Scores(Config()), Noisy)
    assert state.masks.kept == 75


# --- bi-level ---------------------------------------------------------------------------------------------------------


class BiLevel(Scores):
    """Weights and scores in turn, each by an optimizer of its own (BiP: Zhang et al., NeurIPS 2022)."""

    frozen = False

    def attach(self, state):
        super().attach(state)
        self.upper = torch.optim.SGD(state.learned.values(), lr=0.1, momentum=0.9)

    def on_gradients(self, state):
        if state.step % 2 == 0:  # the lower level: the run's optimizer, weights alone
            for parameter in state.learned.values():
                parameter.grad = None
            return False
        for name, weight in state.weights.items():  # a term of second order, from the same gradients
            state.learned[f"score/{name}"].grad -= 1e-4 * weight.grad.square()
        self.upper.step()
        return True

    def state_dict(self):
        return {"upper": self.upper.state_dict()}

    def load_state_dict(self, state):
        self.upper.load_state_dict(state["upper"])


def test_weights_and_scores_are_trained_in_turn_by_two_optimizers():
    worker, state = toy_with(BiLevel(Config()), values={"run.steps": 10})
    while state.step < state.steps - 1:
        weights, scores = training.copy(dict(state.model.named_parameters())), training.copy(state.learned)
        worker.step(state)
        lower = state.step % 2 == 1
        moved = [not torch.equal(p, weights[n]) for n, p in state.model.named_parameters()]
        chosen = [not torch.equal(p, scores[n]) for n, p in state.learned.items()]
        assert (any(moved), any(chosen)) == (lower, not lower), state.step
        assert all(moved) == lower and all(chosen) == (not lower)
    assert state.masks.kept == state.masks.total
    worker.step(state)
    assert state.masks.kept == 75


def test_both_optimizers_survive_an_interruption():
    check_interrupted(lambda: BiLevel(Config()), Noisy)


# --- a subset that is trained -----------------------------------------------------------------------------------------


class Subset(WithMemory):
    """Only the weights of a mask are trained, the others keep their values (composable sparse fine-tuning: Ansell et
    al., ACL 2022); nothing is zero."""

    def start(self, state):
        chosen = self.choose(state, sp.random_score(state.weights, state.stream("mask")))
        self.memory = {f"trained {name}": mask for name, mask in chosen.items()}
        self.memory |= {f"start {name}": weight.detach().clone() for name, weight in state.weights.items()}

    def on_gradients(self, state):
        for name, gradient in state.gradients().items():
            gradient.mul_(self.memory[f"trained {name}"])
        return False

    def on_step(self, state):
        with torch.no_grad():  # weight decay and momentum know nothing of the subset
            for name, weight in state.weights.items():
                weight.copy_(torch.where(self.memory[f"trained {name}"], weight, self.memory[f"start {name}"]))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_outside_the_trained_subset_every_weight_keeps_its_bits(optimizer):
    values = {"run.optimizer": optimizer, "run.weight_decay": 0.1, "run.clip_norm": 0.5}
    worker, state = check_interrupted(Subset, Noisy, values)
    initial = worker.pretrained_state()
    for name, weight in state.weights.items():
        trained = worker.method.memory[f"trained {name}"]
        assert torch.equal(weight[~trained], initial[name][~trained])
        assert bool((weight != initial[name])[trained].all())
    assert state.masks.kept == state.masks.total
    assert sum(int(v.sum()) for n, v in worker.method.memory.items() if n.startswith("trained")) == 75


# --- activation statistics --------------------------------------------------------------------------------------------


class Wanda(base.Method):
    """At the end, of each output the weights with the largest |w| times the norm of their input live (Sun et al., ICLR
    2024)."""

    def on_step(self, state):
        if state.step == state.steps:
            inputs = state.activations(4)
            norms = {n: inputs[n].norm.view(-1, *[1] * (w.ndim - 2)) for n, w in state.weights.items()}
            scores = {n: w.detach().abs() * norms[n] for n, w in state.weights.items()}
            state.set_masks(self.choose(state, scores, allocation="rows"))


class Convolutional(Toy):
    """Unequal inputs, so that their norms decide."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.inputs = self.inputs.view(-1, 2, 6) * torch.tensor([1.0, 7.0]).view(1, 2, 1)

    def build(self):
        return nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.Dropout(0.5), nn.Tanh(), nn.Flatten(), nn.Linear(24, 3))


def test_what_reaches_a_weight_is_measured_and_decides():
    worker, state = check_interrupted(lambda: Wanda(Config(sparsity=0.5)), Convolutional)
    assert all(mask.flatten(1).sum(1).eq(mask[0].numel() // 2).all() for mask in state.masks.bits.values())
    kernel = state.masks["0.weight"]
    assert kernel[:, 1].sum() > 2 * kernel[:, 0].sum(), "the louder channel's weights"

    worker, state = toy_with(base.Method(None), Convolutional)
    seen = {"0.weight": [], "4.weight": []}
    for name, module in (("0.weight", state.model[0]), ("4.weight", state.model[4])):
        module.register_forward_pre_hook(lambda _, given, name=name: seen[name].append(given[0].detach().double()))
    random = torch.get_rng_state()
    state.model.train()
    found = state.activations(3)
    assert torch.equal(torch.get_rng_state(), random) and state.model.training and state.model[1].training
    rows = {name: torch.cat(values) for name, values in seen.items()}
    rows["0.weight"] = rows["0.weight"].movedim(1, -1).flatten(0, -2)
    for name, values in rows.items():
        norm, mean, variance = found[name]
        assert norm.shape == (state.weights[name].shape[1],) and norm.dtype == torch.float32
        assert torch.allclose(norm.double(), values.square().sum(0).sqrt(), rtol=1e-5)
        assert torch.allclose(mean.double(), values.mean(0), atol=1e-5)
        assert torch.allclose(variance.double(), values.var(0, correction=0), rtol=1e-4, atol=1e-6)
    assert len(rows["4.weight"]) == 3 * worker.run.batch_size and rows["4.weight"].all(), "without dropout"


def test_a_weight_whose_inputs_cannot_be_measured_is_named():
    class Grouped(Toy):
        def build(self):
            return nn.Sequential(nn.Unflatten(1, (2, 6)), nn.Conv1d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 3))

    _, state = toy_with(base.Method(None), Grouped)
    with pytest.raises(ValueError, match=r"1\.weight belongs to a Conv1d with 2 groups.*run\.exclude"):
        state.activations(1)

    class Idle(Toy):
        def build(self):
            class Model(nn.Sequential):
                def forward(self, inputs):
                    return inputs @ self[0].weight.T

            return Model(nn.Linear(12, 3))

    _, state = toy_with(base.Method(None), Idle)
    with pytest.raises(ValueError, match=r"0\.weight was used without calling"):
        state.activations(1)


# --- heads and layers as atoms ----------------------------------------------------------------------------------------

HEADS, WIDTH = 3, 4


class Heads(Toy):
    """Two residual layers of attention over four tokens of three numbers."""

    def build(self):
        class Layer(nn.Module):
            def __init__(self):
                super().__init__()
                self.query, self.key, self.value, self.out = (nn.Linear(12, 12, bias=False) for _ in range(4))

            def forward(self, x):
                def split(value):
                    return value.unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)

                mixed = nn.functional.scaled_dot_product_attention(
                    split(self.query(x)), split(self.key(x)), split(self.value(x))
                )
                return x + self.out(mixed.transpose(1, 2).flatten(-2))

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.answer = nn.Linear(3, 12), nn.Linear(12, 3)
                self.layers = nn.ModuleList([Layer(), Layer()])

            def forward(self, inputs):
                x = self.embed(inputs.unflatten(-1, (4, 3)))
                for layer in self.layers:
                    x = layer(x)
                return self.answer(x.mean(1))

        return Model()


def sliced(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """A matrix of attention as [heads, ...]: queries, keys and values by outputs, what mixes the heads by inputs."""
    return (tensor.T if name.endswith("out.weight") else tensor).unflatten(0, (HEADS, WIDTH)).flatten(1)


class WholeHeads(base.Method):
    """A head's score is the sum of |w g| over its slices of four matrices (Michel et al., NeurIPS 2019, coarsely)."""

    def __init__(self, keep: int):
        super().__init__(Config())
        self.keep = keep

    def start(self, state):
        saliency = {n: (w.detach() * g).abs() for (n, w), g in zip(state.weights.items(), state.probe(2).values())}
        parts = {n: sliced(s, n).sum(1) for n, s in saliency.items() if "layers" in n}
        scores = {f"layers.{i}": sum(s for n, s in parts.items() if n.startswith(f"layers.{i}.")) for i in (0, 1)}
        living = sp.select(scores, [sp.Pool(tuple(scores), self.keep)])
        self.living = living
        masks = training.copy(state.masks.bits)
        for name in parts:
            alive = living[name[: len("layers.0")]].repeat_interleave(WIDTH)
            masks[name] = (alive[None] if name.endswith("out.weight") else alive[:, None]).expand(12, 12).clone()
        state.set_masks(masks)


def test_heads_and_whole_layers_live_or_go_as_one():
    worker, state = toy_with(WholeHeads(keep=2), Heads, {"run.exclude": "[embed.weight,answer.weight]"})
    for _ in range(5):
        worker.step(state)
    living = worker.method.living
    assert sum(int(alive.sum()) for alive in living.values()) == 2 and state.masks.kept == 2 * 4 * 12 * WIDTH
    for name, weight in state.weights.items():
        alive = living[name[: len("layers.0")]]
        assert torch.equal(sliced(weight.detach(), name).ne(0).all(1), alive), "all of a slice, or nothing of it"
        assert torch.equal(sliced(weight.detach(), name).ne(0).any(1), alive)
    worker, state = toy_with(WholeHeads(keep=0), Heads, {"run.exclude": "[embed.weight,answer.weight]"})
    x = torch.randn(2, 4, 12)
    assert all(torch.equal(layer(x), x) for layer in state.model.layers), "a layer without heads is its shortcut"
    worker.step(state)
    assert state.masks.kept == 0


# --- weight sharing ---------------------------------------------------------------------------------------------------


class Shared(WithMemory):
    """Every weight is read from one small learned array, at a place and with a sign that a hash says (ROAST: Desai and
    Shrivastava, ICML 2024)."""

    size = 40

    def attach(self, state):
        noise = torch.Generator().manual_seed(state.stream("array"))
        state.learn("array", torch.randn(self.size, generator=noise) * 0.3)
        self.places, self.signs = {}, {}
        for name, weight in state.weights.items():
            weight.requires_grad_(False)
            noise.manual_seed(state.stream("hash", name))
            self.places[name] = torch.randint(self.size, weight.shape, generator=noise)
            self.signs[name] = torch.randint(2, weight.shape, generator=noise) * 2.0 - 1
        state.reparametrise(lambda: self.effective(state))

    def effective(self, state) -> dict:
        return {name: state.learned["array"][self.places[name]] * self.signs[name] for name in state.weights}

    def deployed(self, state):
        return {name: weight.detach() for name, weight in self.effective(state).items()}

    def on_step(self, state):
        if state.step == state.steps:
            state.load({**state.model.state_dict(), **self.deployed(state)})


def test_all_weights_are_read_from_one_small_array():
    worker, state = toy_with(Shared(), values={"run.steps": 40})
    batch = (worker.inputs, worker.targets)
    state.model.train()
    worker.loss(state.network, batch).backward()
    plain = nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 3))
    plain.load_state_dict({**state.model.state_dict(), **worker.method.deployed(state)})
    before = worker.loss(plain, batch)
    before.backward()
    expected = torch.zeros(Shared.size)
    for name, weight in plain.named_parameters():
        if name in state.weights:
            expected.index_add_(
                0, worker.method.places[name].flatten(), (weight.grad * worker.method.signs[name]).flatten()
            )
    assert torch.allclose(state.learned["array"].grad, expected, atol=1e-6), "each place gets what all its weights get"
    state.optimizer.zero_grad()
    while state.step < state.steps:
        worker.step(state)
    values = torch.cat([weight.detach().abs().flatten() for weight in state.weights.values()])
    assert values.unique().numel() <= Shared.size < values.numel() == 300
    assert worker.loss(state.model, batch) < before
    check_interrupted(Shared, Noisy)
