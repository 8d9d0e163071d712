"""Methods that move or tighten masks while training, and those that start from what they found."""

import itertools
import math
import signal

import pytest
import torch

from common import paths, record, registry
from common import sparsity as sp
from common.errors import UserError
from common.settings import groups
from common.stage import run
from launch.plan import planner
from launch.request.arguments import parse
from tests.support import training
from tests.support.training import Death, begun, line, masks, summary, trained, weights

EVERY = {"run.log_every": 1, "run.checkpoint_every": 0}


def history(method: str, values: dict | None = None, sparsity: float = 0.8):
    """(trainer, state, masks before the first and after every step)."""
    worker, state = begun(method, values, sparsity)
    found = [training.copy(state.masks.bits)]
    while state.step < state.steps:
        worker.step(state)
        found.append(training.copy(state.masks.bits))
    return worker, state, found


def count(bits: dict) -> int:
    return sum(int(mask.sum()) for mask in bits.values())


# --- gradual pruning --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["gmp", "gradual_random", "granet"])
def test_the_sparsity_is_the_cubics_at_every_update(method):
    start = {"granet": {"method.begin": 0.1}}.get(method, {})
    _, _state, found = history(method, {"method.every": 6, **start})
    at = {6: 6, 12: 12, 24: 24, 48: 48}
    late = method == "granet"  # the update takes the place of the step after
    for step, updated in at.items():
        kept = count(found[step + late])
        if method == "gradual_random":  # layer by layer: rounding may leave a weight more
            assert kept == pytest.approx(sp.kept_count(50200, sp.cubic(updated, 6, 48, 0.8)), abs=1)
        else:
            assert kept == sp.kept_count(50200, sp.cubic(updated, 6, 48, 0.8)), step
    assert count(found[-1]) == sp.kept_count(50200, 0.8)


def test_gradual_random_pruning_takes_any_weight():
    """The survivors are no larger than the rest: the control of magnitude pruning."""
    _, _state, found = history("gradual_random")
    initial = begun("dense")[1].weights
    for name, mask in found[-1].items():
        kept, all_ = initial[name][mask].abs().mean().item(), initial[name].abs().mean().item()
        assert kept == pytest.approx(all_, rel=0.1), name


def test_returning_weights_come_back_with_the_value_they_had():
    worker, state = begun("gmp", {"method.every": 5, "method.returning": "true", "run.learning_rate": 0.01}, 0.9)
    returned = 0
    while state.step < state.steps:
        before, alive = training.copy(state.weights), training.copy(state.masks.bits)
        remembered = dict(worker.method.values)
        worker.step(state)
        for name, weight in state.weights.items():
            back = state.masks[name] & ~alive[name]
            returned += int(back.sum())
            assert torch.equal(weight[back], remembered[name][back]) if back.any() else True
            assert not before[name][~alive[name]].any()
    assert returned > 0, "the test needs a weight that comes back"
    assert state.masks.kept == sp.kept_count(50200, 0.9)


def test_without_returning_it_is_the_method_it_was():
    assert "returning" not in str(record.read_config(trained("gmp"))["variant"])
    _, _, found = history("gmp")
    assert all(not (after[n] & ~before[n]).any() for before, after in itertools.pairwise(found) for n in before)


@pytest.mark.parametrize(
    "method, values",
    [
        ("gmp", {"method.returning": "true", "method.every": 5}),
        ("rigl", {"method.grown": "last", "method.every": 7}),
        ("rigl", {"method.grown": "pretrained", "method.every": 7}),
        ("granet", {"method.initial_sparsity": 0.5, "method.every": 7}),
    ],
)
def test_what_a_method_remembers_is_resumed_bit_for_bit(method, values):
    folder = line(method, {**values, "run.seed": 4})[-1]
    for step in (9, 31, 15):
        assert training.attempt(folder, Death("step", call=step)) == -signal.SIGKILL
    assert training.attempt(folder) == 0
    killed = training.result(folder)
    for path in folder.iterdir():
        if path.name != "config.yaml":
            path.unlink()
    training.train([folder])
    assert training.result(folder) == killed


# --- magnitude v2 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.6])
def test_the_first_layer_is_dense_and_the_last_no_sparser_than_asked(sparsity):
    folder = trained("magnitude_v2", {"method.last_sparsity": 0.4, "run.steps": 12, "method.every": 2}, sparsity)
    assert sparsity in (0.2, 0.5) or training.MOST["magnitude_v2"] < sparsity
    layers = summary(folder)["layers"]
    first, *_, last = layers.values()
    assert first["kept"] == first["total"]
    reached = min(sparsity, training.MOST["magnitude_v2"])
    assert last["kept"] == sp.kept_count(last["total"], min(reached, 0.4))
    assert sum(layer["kept"] for layer in layers.values()) == sp.kept_count(50200, reached)


def test_it_trains_half_as_long_again_with_a_stretched_schedule():
    values = {**EVERY, "run.schedule": "linear", "method.every": 7}
    folder = trained("magnitude_v2", values, 0.5)
    rates = [entry["learning_rate"] for entry in training.lines(folder) if "learning_rate" in entry]
    assert summary(folder)["steps"] == len(rates) == 90
    assert rates == [pytest.approx(1.2e-3 * (1 - step / 90)) for step in range(90)]


def test_an_impossible_target_is_said_before_the_first_step():
    worker, state = begun("magnitude_v2", {"method.sparsity": 0.8}, start=False)
    with pytest.raises(ValueError, match=r"first layer \(fc1.weight, dense\).*alone hold 19400 weights of the 10040"):
        worker.method.start(state)


# --- drop and grow ----------------------------------------------------------------------------------------------------


def test_set_moves_a_fixed_share_and_grows_blindly():
    _, _state, found = history("set", {"method.every": 7, "method.drop_fraction": 0.3})
    for step in (7, 14, 42):
        before, after = found[step - 1], found[step]
        for name in before:
            kept = int(before[name].sum())
            assert int(after[name].sum()) == kept
            grown = int((after[name] & ~before[name]).sum())
            share = math.floor(0.3 * kept)
            dead = before[name].numel() - kept + share
            expected = share * (1 - share / dead)  # some of what is dropped is drawn again
            assert grown == pytest.approx(expected, abs=5 * math.sqrt(share) + 1), (step, name)
    assert training.equal(found[45], found[-1]), "the topology rests after three quarters"


@pytest.mark.parametrize("method", ["set", "granet"])
def test_settings_that_cannot_work_are_said_before_training(method):
    with pytest.raises(UserError, match=r"drop_fraction must be in \(0, 1\]"):
        line(method, {"method.drop_fraction": 0})
    if method == "set":
        with pytest.raises(UserError, match="no update would ever come"):
            line(method, {"method.every": 100})
    else:
        with pytest.raises(UserError, match=r"method\.initial_sparsity must be between 0 and method\.sparsity=0\.8"):
            line(method, {"method.initial_sparsity": 0.9})
        with pytest.raises(UserError, match=r"method\.end must be in \(0, 1\), found 1.0: the last update"):
            line(method, {"method.end": 1})


@pytest.mark.parametrize("steps, end", [(100, 0.999), (2, 0.8), (1, 0.8)])
def test_training_that_ends_before_the_last_update_is_refused(steps, end):
    """The last update would come after the last step: the network would be denser than its row says."""
    with pytest.raises(UserError, match=f"masks are not final after the {steps} steps"):
        line("granet", {"run.steps": steps, "method.end": end})
    examples = run.trainer(record.read_config(line("dense")[-1])).examples()
    folder = line("granet", {"run.steps": 0, "run.epochs": steps * 20 / examples, "method.end": end})[-1]
    assert run.execute(folder) == "failed", "where only the data know how many steps there are"
    assert "masks are not final after the" in record.read_json(paths.status(folder))["reason"]
    assert line("granet", {"run.steps": steps + 10, "method.end": 0.8})


def test_no_method_takes_steps_in_which_its_masks_do_not_become_final():
    for name in registry.methods():
        method = registry.method(name)(groups.classes("classic", name)["method"]())
        for steps in (1, 2, 3, 12, 100, 997):
            last = method.budget(steps)
            assert method.settled(last, last) or method.complaints_for(steps), (name, steps)


def test_granet_can_be_sparse_from_the_start():
    _worker, state, found = history("granet", {"method.initial_sparsity": 0.5, "method.every": 7})
    assert count(found[0]) == sp.kept_count(50200, 0.5)
    pools = {pool.names[0]: pool.keep for pool in sp.erdos_renyi_kernel(state.weights, 0.5)}
    assert {name: int(mask.sum()) for name, mask in found[0].items()} == pools
    assert count(found[-1]) == sp.kept_count(50200, 0.8)


def test_granet_grows_where_the_gradient_is_largest():
    worker, state = begun("granet", {"method.every": 7, "method.begin": 0.1, "method.drop_fraction": 0.5})
    while state.step < 6 or state.masks.kept == state.masks.total:
        worker.step(state)
    grown = {}
    update = sp.drop_and_grow

    def seen(masks, drop, grow, fraction, structure):
        new = update(masks, drop, grow, fraction, structure)
        for name, weight in state.weights.items():
            gradient = weight.grad.abs()
            came, dead = new[name] & ~masks[name], ~masks[name] & ~new[name]
            grown[name] = (gradient[came], gradient[dead])
        return new

    sp.drop_and_grow, before = seen, sp.drop_and_grow
    try:
        while not grown:
            worker.step(state)
    finally:
        sp.drop_and_grow = before
    assert all(came.min() >= dead.max() for came, dead in grown.values() if len(came) and len(dead))


@pytest.mark.parametrize("grown", ["zero", "last", "pretrained"])
def test_what_rigls_new_weights_start_from(grown):
    worker, state = begun("rigl", {"method.every": 7, "method.grown": grown, "run.learning_rate": 0.02})
    initial, last, found = worker.pretrained_state(), {}, 0
    while state.step < state.steps:
        before = training.copy(state.weights)
        alive = training.copy(state.masks.bits)
        worker.step(state)
        for name, weight in state.weights.items():
            new = state.masks[name] & ~alive[name]
            found += int(new.sum())
            expected = {"zero": torch.zeros_like(weight), "pretrained": initial[name]}.get(grown)
            if expected is None:
                expected = last.get(name, torch.zeros_like(weight))
            assert torch.equal(weight[new], expected[new])
            gone = alive[name] & ~state.masks[name]
            last[name] = torch.where(gone, before[name], last.get(name, torch.zeros_like(weight)))
    assert found > 100


# --- from the mask of gradual pruning ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["scratch_e", "scratch_b", "gradual_ticket"])
def test_they_take_gradual_prunings_final_mask(method):
    folders = line(method)
    training.train(folders)
    parent = folders[-2]
    assert record.read_config(parent)["method"] == "gmp"
    assert training.equal(masks(folders[-1]), masks(parent))
    assert summary(folders[-1])["steps"] == {"scratch_b": 120}.get(method, 60)


@pytest.mark.parametrize("setting", ["end=0.5", "begin=0.3", "every=7", "allocation=uniform", "returning=true"])
def test_one_word_reaches_gradual_pruning_and_what_stands_on_it(setting):
    """They share the one stage of gmp, whichever of its settings the command gives."""
    words = ["method=gmp,scratch_e,gradual_ticket", "method.sparsity=0.9", "run.seed=0"]
    usual, asked = (list(planner.make(parse(words + more)).stages.values()) for more in ([], [f"method.{setting}"]))
    assert [stage.method for stage in asked].count("gmp") == 1
    pruned = {stage.method: stage.digest for stage in asked}["gmp"]
    assert {s.parent for s in asked if s.method in ("scratch_e", "gradual_ticket")} == {pruned}
    assert not {s.digest for s in usual if s.method != "dense"} & {s.digest for s in asked}


def test_scratch_b_stretches_the_schedule():
    values = {**EVERY, "run.schedule": "linear"}
    rates = [e["learning_rate"] for e in training.lines(trained("scratch_b", values)) if "learning_rate" in e]
    assert rates == [pytest.approx(1.2e-3 * (1 - step / 120)) for step in range(120)]


@pytest.mark.parametrize("shape, density", [((300, 200), 0.1), ((64, 32, 3, 3), 0.05), ((300, 200), 1.0)])
def test_augmented_initialisation_has_the_variance_of_what_remains(shape, density):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(shape))
    mask = torch.rand(shape) < density
    sp.augment({"w": weight}, {"w": mask}, seed=1)
    outputs, inputs = shape[:2]
    living = int(mask.sum())
    if len(shape) == 2:
        limit = math.sqrt(6 / (living / outputs + living / inputs))
        assert weight.abs().max().item() <= limit and weight.abs().max().item() > 0.98 * limit
        expected = limit / math.sqrt(3)
    else:
        expected = math.sqrt(2 / (living / inputs))
    assert weight.std().item() == pytest.approx(expected, rel=0.03)
    again = torch.nn.Parameter(torch.zeros(shape))
    sp.augment({"w": again}, {"w": mask}, seed=1)
    assert torch.equal(weight, again)


def test_a_one_shot_ticket_is_the_pruned_network_at_its_early_weights():
    state = begun("one_shot_ticket")[1]
    after = begun("omp_after")[1]
    assert state.masks.checksum() == after.masks.checksum()
    initial = begun("dense")[1].weights
    assert all(torch.equal(w, initial[n] * state.masks[n]) for n, w in state.weights.items())
    with pytest.raises(UserError, match="use METHOD=omp_after"):
        line("one_shot_ticket", {"method.retrain": "weights"})
    assert not torch.equal(
        weights(trained("one_shot_ticket"))["fc1.weight"], weights(trained("omp_after"))["fc1.weight"]
    )
