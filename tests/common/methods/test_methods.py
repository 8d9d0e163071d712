"""Every method does what its paper says, and none of the faults found in published code can come back.

``SMC-Bench`` in a test's docstring names the code in which the fault was found.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

from common import paths, record, registry
from common import sparsity as sp
from common.training.state import Parent
from tests.support import training
from tests.support.magnitude import largest
from tests.support.training import begun, trained


@dataclass(frozen=True)
class Signature:
    """What tells a method from the others."""

    starts: str  # initial: the untrained weights; trained: its parent's; rewound: the root's early ones; fresh: others
    masks: str = "stand"  # or move (same count), shrink (nested), evolve (both: the count never rises)
    parent: str | None = None


SIGNATURES = {
    "dense": Signature("initial"),
    "essential": Signature("initial"),
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
    "omp_no_retraining": Signature("trained", parent="dense"),
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
    assert found["sparsity"] == (total - kept) / total and found["target_met"]
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


@pytest.mark.parametrize(
    "method, weights_of", [("omp_before", "initial"), ("essential", "initial"), ("omp_after", "trained")]
)
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


# --- the test set -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", registry.methods())
def test_the_test_set_is_looked_at_once_after_all_training_and_a_parent_is_only_read(method, monkeypatch):
    """SMC-Bench's arithmetic and protein codes choose their epoch on the test set.

    Training from a stage must not change what other stages start from.
    """
    from tasks.classic.trainer import Trainer

    folders = training.line(method, {"run.steps": 20, "run.seed": 5})
    training.train(folders[:-1])
    before = {path: path.read_bytes() for folder in folders[:-1] for path in folder.iterdir()}
    seen, evaluate, step = [], Trainer.evaluate, Trainer.step
    monkeypatch.setattr(Trainer, "evaluate", lambda self, m, split: seen.append(split) or evaluate(self, m, split))
    monkeypatch.setattr(Trainer, "step", lambda self, state: seen.append("step") or step(self, state))
    training.train(folders[-1:])
    measures = {"instability": 5}.get(method, 0)  # points of a line between finished networks
    assert seen.count("test") == 1 + measures and seen[-1] == "test"
    assert "step" not in seen[seen.index("test") :]
    assert seen.count("step") == training.summary(folders[-1])["steps"]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_method_may_only_see_its_state():
    """No method knows a task, the data or the scheduler."""
    worker, state = begun("omp_after", start=False)
    assert isinstance(state.parent, Parent)
    assert set(vars(worker.method)) == {"config"}
