"""Every method does what its paper says, and none of the faults found in published code can come back.

``SMC-Bench`` in a test's docstring names the code in which the fault was found.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from common import paths, record, registry
from common import sparsity as sp
from common.errors import UserError
from common.stage import run
from common.training import optimization
from common.training.state import Parent
from tests.support import training
from tests.support.training import Noisy, Toy, begun, toy, trained


@dataclass(frozen=True)
class Signature:
    """What tells a method from the others."""

    starts: str  # initial: the untrained weights; trained: its parent's; rewound: the root's early ones; fresh: others
    masks: str = "stand"  # or move (same count), shrink (nested), evolve (both: the count never rises)
    parent: str | None = None


SIGNATURES = {
    "dense": Signature("initial"),
    "essential": Signature("trained", parent="dense"),
    "gmp": Signature("initial", "shrink"),
    "gradual_random": Signature("initial", "shrink"),
    "gradual_ticket": Signature("initial", parent="gmp"),
    "granet": Signature("initial", "evolve"),
    "grasp": Signature("initial"),
    "imp": Signature("rewound", parent="imp"),
    "imp_reinit": Signature("fresh", parent="imp"),
    "instability": Signature("rewound", parent="imp"),
    "l0": Signature("initial", "shrink"),
    "magnitude_v2": Signature("initial", "evolve"),
    "obd": Signature("trained", parent="dense"),
    "obert": Signature("fresh", parent="dense"),  # the trained weights, corrected: tests/common/sparsity/test_fisher.py
    "omp_after": Signature("trained", parent="dense"),
    "omp_before": Signature("initial"),
    "one_shot_ticket": Signature("rewound", parent="dense"),
    "random_after": Signature("trained", parent="dense"),
    "random_before": Signature("initial"),
    "random_search": Signature("initial"),
    "reshuffle": Signature("initial", parent="snip"),
    "rigl": Signature("initial", "move"),
    "scratch_b": Signature("fresh", parent="gmp"),
    "scratch_e": Signature("fresh", parent="gmp"),
    "set": Signature("initial", "move"),
    "snip": Signature("initial"),
    "sr_ste": Signature("initial", "shrink"),  # dense weights are stored until the last step: test_structure.py
    "synflow": Signature("initial"),
    "variational_dropout": Signature("initial", "shrink"),  # once, at the last step: test_learned.py
}
SPARSE = sorted(set(SIGNATURES) - {"dense"})


@pytest.fixture(autouse=True)
def runs(folders, shared_runs, monkeypatch):
    monkeypatch.setenv("RUNS", str(shared_runs))


def test_every_method_has_a_signature():
    """A new method needs a row in SIGNATURES, so that the tests of this file hold for it."""
    assert sorted(SIGNATURES) == registry.methods()


@pytest.mark.parametrize("method", registry.methods())
def test_signature(method):
    signature = SIGNATURES[method]
    folders = training.line(method)
    worker, state = begun(method)
    parents = [record.read_config(folder)["method"] for folder in folders[:-1]]
    assert (parents[-1] if parents else None) == signature.parent
    initial = worker.pretrained_state()
    expected = {"initial": initial, "rewound": initial}.get(signature.starts)
    if signature.starts == "trained":
        expected = training.weights(folders[-2])
    if signature.starts == "fresh":
        assert not any(torch.equal(state.weights[name], initial[name] * state.masks[name]) for name in state.weights)
    else:
        for name, value in state.model.state_dict().items():
            expected_value = expected[name] * state.masks[name] if name in state.weights else expected[name]
            assert torch.equal(value, expected_value), name
    history = [training.copy(state.masks.bits)]
    while state.step < state.steps:
        worker.step(state)
        history.append(training.copy(state.masks.bits))
        if worker.method.settled(state.step - 1, state.steps):
            assert training.equal(history[-1], history[-2]), "the masks moved although they were settled"
    steps = list(pairwise(history))
    moved = [not training.equal(before, after) for before, after in steps]
    counts = [sum(int(bits.sum()) for bits in masks.values()) for masks in history]
    assert any(moved) == (signature.masks != "stand")
    if signature.masks == "shrink":
        assert all(not (after[name] & ~before[name]).any() for before, after in steps for name in before)
    elif signature.masks == "evolve":
        assert all(before >= after for before, after in pairwise(counts)) and counts[-1] < counts[0]
        assert any((after[name] & ~before[name]).any() for before, after in steps for name in before)
    else:
        assert len(set(counts)) == 1


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.777, 0.8926258176, 0.99])
@pytest.mark.parametrize("method", SPARSE)
def test_the_sparsity_is_exact_and_dead_weights_are_zero(method, sparsity):
    """SMC-Bench keeps one weight too few (strictly greater than the threshold), or draws each by a coin."""
    if sparsity > training.MOST.get(method, 1):
        pytest.skip("its first layer, which it leaves dense, is larger than what may live")
    folder = trained(method, {"run.steps": 12}, sparsity)
    weights, masks, found = training.weights(folder), training.masks(folder), training.summary(folder)
    total = sum(mask.numel() for mask in masks.values())
    kept = sp.kept_count(total, sparsity)
    assert sum(int(mask.sum()) for mask in masks.values()) == kept
    assert all(torch.count_nonzero(weights[name][~mask]) == 0 for name, mask in masks.items())
    assert found["sparsity"] == (total - kept) / total
    assert found["zeros"] >= found["sparsity"]
    parameters = sum(value.numel() for value in weights.values())
    assert found["sparsity_all"] == (total - kept) / parameters < found["sparsity"]
    assert sum(layer["kept"] for layer in found["layers"].values()) == kept


def test_dense_training_keeps_everything():
    folder = trained("dense")
    assert all(bool(mask.all()) for mask in training.masks(folder).values())
    assert training.summary(folder)["sparsity"] == 0
    assert [paths.snapshot(folder, step).exists() for step in (0, 1, 3)] == [True] * 3


@pytest.mark.parametrize("allocation", ["global", "uniform", "erk", "rows"])
@pytest.mark.parametrize("method", ["gmp", "omp_before", "omp_after", "random_before", "random_after", "snip"])
def test_allocations_are_exact_in_total(method, allocation):
    values = {"method.allocation": allocation, "run.steps": 12, **({"method.every": 1} if method == "gmp" else {})}
    summary = training.summary(trained(method, values, 0.777))
    kept = {name: layer["kept"] / layer["total"] for name, layer in summary["layers"].items()}
    assert sum(layer["kept"] for layer in summary["layers"].values()) == sp.kept_count(50200, 0.777)
    if allocation in ("uniform", "rows"):
        assert all(share == pytest.approx(0.223, abs=0.001) for share in kept.values())
    if allocation == "erk":
        assert kept["fc1.weight"] / kept["fc2.weight"] == pytest.approx((364 / 19200) / (400 / 30000), rel=0.01)


def test_all_weights_alike_are_still_pruned_exactly(monkeypatch):
    """With ``score > threshold`` every tie at the threshold goes: here, the whole network (SMC-Bench)."""
    worker, state = begun("omp_before", start=False)
    with torch.no_grad():
        for weight in state.weights.values():
            weight.fill_(0.5)
    worker.method.start(state)
    assert state.masks.kept == sp.kept_count(state.masks.total, 0.8)


# --- random and magnitude pruning -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["random_before", "random_after"])
def test_random_masks_are_uniform_by_seed_and_nested(method):
    """One seed ranks the weights once: what a lower sparsity keeps contains what a higher one does, so that curves

    compare nested masks. Another seed ranks them anew.
    """
    states = {key: begun(method, {"run.seed": key[0]}, key[1])[1] for key in ((0, 0.5), (0, 0.8), (1, 0.8))}
    half, fifth, other = (state.masks for state in states.values())
    for name, weight in states[0, 0.8].weights.items():
        assert not (fifth[name] & ~half[name]).any()
        overlap = (fifth[name] & other[name]).sum().item() / fifth.counts[name]
        spread = math.sqrt(0.2 * 0.8 / fifth.counts[name])
        assert overlap == pytest.approx(0.2, abs=5 * spread), "seeds are independent"
        assert fifth.counts[name] == pytest.approx(0.2 * weight.numel(), abs=1), "the same share of every layer"
    again = begun(method, {"run.seed": 0}, 0.8)[1]
    assert again.masks.checksum() == fifth.checksum()


def largest(scores: dict, keep: int) -> dict:
    """The ``keep`` highest over all tensors, by a plain sort; ties by order."""
    flat = torch.cat([value.reshape(-1) for value in scores.values()]).numpy()
    chosen = np.zeros(len(flat), dtype=bool)
    chosen[np.argsort(-flat, kind="stable")[:keep]] = True
    sizes = [value.numel() for value in scores.values()]
    pieces = torch.from_numpy(chosen).split(sizes)
    return {name: piece.view(value.shape) for (name, value), piece in zip(scores.items(), pieces, strict=True)}


@pytest.mark.parametrize("method, weights_of", [("omp_before", "initial"), ("omp_after", "trained")])
def test_magnitude_pruning_keeps_the_largest_weights(method, weights_of):
    worker, state = begun(method)
    source = worker.pretrained_state() if weights_of == "initial" else training.weights(trained("dense"))
    expected = largest({name: source[name].abs() for name in state.weights}, sp.kept_count(50200, 0.8))
    assert training.equal(state.masks.bits, expected)


def test_pruning_after_training_starts_from_the_last_weights_whatever_step_was_scored():
    """Neither masks nor weights come from the best step (SMC-Bench's tickets do)."""
    values = {"run.learning_rate": 0.03, "run.batch_size": 10, "run.seed": 3}
    dense = trained("dense", values)
    assert training.summary(dense)["best_step"] < 60 and paths.selected(dense).exists(), "the test needs two different"
    final = training.weights(dense)
    for method in ("omp_after", "imp"):
        state = begun(method, values, 0.5)[1]
        expected = largest({name: final[name].abs() for name in state.weights}, sp.kept_count(50200, 0.5))
        assert training.equal(state.masks.bits, expected)


def test_methods_share_one_dense_training():
    roots = {
        training.line(method, sparsity=s)[0] for method in ("imp", "omp_after", "random_after") for s in (0.5, 0.8)
    }
    assert roots == {training.line("dense")[0]}


# --- tickets ----------------------------------------------------------------------------------------------------------


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


# --- SNIP -------------------------------------------------------------------------------------------------------------


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


# --- RigL -------------------------------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match="no update would ever come"):  # as soon as the data say how many steps
        begun("rigl", {"method.every": 45, "run.steps": 0, "run.epochs": 0.5})


@pytest.mark.parametrize(
    "initial, twin", [("omp", "omp_before"), ("snip", "snip"), ("erk", "random_before"), ("uniform", "random_before")]
)
def test_rigl_starts_from_the_masks_of_the_method_it_names(initial, twin):
    values = {"method.allocation": initial if twin == "random_before" else "global"}
    same = {**values, "method.batches": 2} if twin == "snip" else values
    first = begun("rigl", {"method.initial": initial, "method.batches": 2})[1].masks
    assert first.checksum() == begun(twin, same)[1].masks.checksum()


# --- GMP --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 7, 13, 100])
@pytest.mark.parametrize("begin, end", [(0.1, 0.8), (0.0, 1.0), (0.5, 0.51)])
def test_gmp_rises_along_the_cubic_and_meets_its_target_at_its_end(every, begin, end):
    """SMC-Bench stops at the last multiple of the interval before the end, at 99.3 % of the target."""
    worker, state = begun("gmp", {"method.every": every, "method.begin": begin, "method.end": end})
    first, last = round(begin * 60), round(end * 60)
    kept = [state.masks.kept]
    while state.step < state.steps:
        worker.step(state)
        kept.append(state.masks.kept)
    total, target = state.masks.total, sp.kept_count(state.masks.total, 0.8)
    assert all(before >= after for before, after in pairwise(kept))
    assert kept[last:] == [target] * (61 - last)
    for step in range(max(first, 1), last):
        if (step - first) % every == 0:
            share = 0.8 * (1 - (1 - (step - first) / (last - first)) ** 3)
            assert kept[step] == sp.kept_count(total, share)
        else:
            assert kept[step] == kept[step - 1]


@pytest.mark.parametrize("allocation", ["uniform", "erk", "rows"])
def test_gmp_never_asks_a_layer_for_a_weight_that_is_gone(allocation):
    """Rounding alone gives a layer one weight more at some higher sparsities."""
    values = {"method.allocation": allocation, "method.every": 1, "method.begin": 0.0, "method.end": 1.0}
    worker, state = begun("gmp", {**values, "run.steps": 300}, 0.3)
    history = []
    while state.step < state.steps:
        before = training.copy(state.masks.bits)
        worker.step(state)
        history.append(state.masks.kept)
        assert all(not (state.masks[name] & ~bits).any() for name, bits in before.items())
    assert history[-1] == sp.kept_count(50200, 0.3)


# --- the test set -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", registry.methods())
def test_the_test_set_is_looked_at_once_after_all_training(method, monkeypatch):
    """SMC-Bench's arithmetic and protein codes choose their epoch on the test set."""
    from tasks.classic.trainer import Trainer

    folders = training.line(method, {"run.steps": 20, "run.seed": 5})
    training.train(folders[:-1])
    seen, evaluate, step = [], Trainer.evaluate, Trainer.step
    monkeypatch.setattr(Trainer, "evaluate", lambda self, m, split: seen.append(split) or evaluate(self, m, split))
    monkeypatch.setattr(Trainer, "step", lambda self, state: seen.append("step") or step(self, state))
    training.train(folders[-1:])
    measures = {"instability": 5}.get(method, 0)  # points of a line between finished networks
    assert seen.count("test") == 1 + measures and seen[-1] == "test"
    assert "step" not in seen[seen.index("test") :]
    assert seen.count("step") == training.summary(folders[-1])["steps"]


@pytest.mark.parametrize("method", registry.methods())
def test_a_parent_is_only_read(method):
    """Training from a stage must not change what other stages start from."""
    folders = training.line(method, {"run.seed": 6})
    training.train(folders[:-1])
    before = {path: path.read_bytes() for folder in folders[:-1] for path in folder.iterdir()}
    training.train(folders[-1:])
    for path, content in before.items():
        assert path.read_bytes() == content


def test_a_method_may_only_see_its_state():
    """No method knows a task, the data or the scheduler."""
    worker, state = begun("omp_after", start=False)
    assert isinstance(state.parent, Parent)
    assert set(vars(worker.method)) == {"config"}
