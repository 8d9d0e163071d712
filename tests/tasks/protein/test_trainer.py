"""The protein task's model, batches by length, scores, and that everything which should move does."""

import copy
import json
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.nn.functional import cross_entropy

from common import paths, record
from common.settings import groups
from common.stage import run
from common.training.optimization import Order, OrderByLength
from launch.plan import fits_the_model, planner
from launch.request import arguments
from tasks.protein import model
from tasks.protein.config import Config
from tasks.protein.encoders import transformer
from tasks.protein.files import datasets, fingerprint
from tests.support import training
from tests.support.protein_files import complaint, csv_files, made, write
from tests.support.protein_training import (
    FAST,
    Echo,
    begun,
    finished,
    outputs,
    real_values,
    stage,
)

# --- the model -------------------------------------------------------------------------------------------------------


def network(**values):
    torch.manual_seed(0)
    built = model.build(Config(**{"width": 16, "layers": 2, "heads": 2, **values}))
    noise = torch.Generator().manual_seed(1)
    for parameter in built.parameters():  # biases and norms too, so that nothing hides behind a zero
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=noise)
    return built.eval()


@pytest.mark.parametrize("head", ["linear", "hidden"])
def test_company_in_a_batch_changes_nothing(head):
    built = network(head=head)
    sequences = ["MKV", "ACDEFGHIKLMNPQRSTVWY" * 2, "W"]
    together = outputs(built, sequences)
    alone = torch.cat([outputs(built, [sequence]) for sequence in sequences])
    assert torch.allclose(together, alone, atol=1e-5) and together.shape == (3, 3)


def test_the_encoder_sees_order_and_distances_but_no_positions():
    vectors = torch.randn(1, 1, 9, 8, generator=torch.Generator().manual_seed(0))
    turned = transformer.rotated(vectors)
    assert torch.allclose(turned.norm(dim=-1), vectors.norm(dim=-1), atol=1e-6)
    assert torch.equal(turned[..., 0, :], vectors[..., 0, :])
    same = transformer.rotated(vectors[..., :1, :].expand(1, 1, 9, 8))
    products = (same[0, 0] @ same[0, 0].T).fill_diagonal_(0)
    for distance in range(1, 8):
        along = products.diagonal(distance)
        assert torch.allclose(along, along[0].expand_as(along), atol=1e-5)
    built = network()
    assert not torch.allclose(outputs(built, ["MDKNV"]), outputs(built, ["MNKDV"]), atol=1e-3)


def test_pooling_leaves_special_tokens_and_padding_out():
    hidden = torch.arange(24.0).view(1, 4, 6)
    residues = torch.tensor([[False, True, True, False]])
    assert torch.equal(model.mean(hidden, residues), hidden[:, 1:3].mean(1))


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_the_head_sees_the_mean_over_residues_or_the_first_token(pooling):
    built = model.Network(Echo(), Config(model="esm", pooling=pooling))
    built.head = torch.nn.Identity()
    found = outputs(built, ["AC", "CCCA"])
    expected = [[0.0, 1.0]] * 2 if pooling == "first" else [[5.5, 1.0], [5.75, 1.0]]
    assert torch.equal(found, torch.tensor(expected))


def test_the_prunable_set_is_the_matrices_of_the_layers_unless_the_head_is_wanted():
    _, state = begun()
    assert set(state.weights) == {
        *(f"backbone.layers.0.attention.{name}.weight" for name in ("query", "key", "value", "output")),
        "backbone.layers.0.wide.weight", "backbone.layers.0.narrow.weight",
    }  # fmt: skip
    _, state = begun(**{"run.exclude": "[]"})
    assert "head.1.weight" in state.weights


# --- head and backbone move ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dense", "rigl", "snip", "omp_before", "gmp"])
def test_every_tensor_of_head_and_backbone_moves(method):
    """Published code built optimizers for the head or the backbone and never stepped them."""
    worker, state = begun(method, **{"task.head": "hidden", "task.hidden": 8, "task.backbone_rate": 0.01})
    before, worker.start_sums = training.copy(dict(state.model.named_parameters())), state.sums()
    for _ in range(3):
        worker.step(state)
    for name, parameter in state.model.named_parameters():
        assert not torch.equal(parameter, before[name]), name
        if name in state.masks.weights:
            assert not parameter[~state.masks[name]].any(), f"{name}: the dead stay dead"
    assert not worker.unmoved(state)


def test_the_summary_of_a_sparse_stage_says_that_all_of_it_moved():
    found = finished(stage("rigl", **{"task.backbone_rate": 0.05}))
    assert found["unmoved"] == [] and abs(found["sparsity"] - 0.8) < 1e-3


def test_biases_of_two_classes_move_although_their_sum_does_not():
    worker, state = begun(**{"task.boundaries": "[50.0]"})
    torch.nn.init.constant_(state.model.head[1].bias, 0.1)
    worker.start_sums = state.sums()
    worker.step(state)
    bias = state.model.head[1].bias
    assert len(bias) == 2 and bias[0] != bias[1] and abs(bias.sum() - 0.2) < 1e-6
    assert "head.1.bias" not in worker.unmoved(state)


def test_head_and_backbone_have_rates_of_their_own():
    """One step of plain gradient descent, by hand."""
    values = {"run.optimizer": "sgd", "run.momentum": 0.0, "run.schedule": "constant", "run.warmup_steps": 0}
    worker, state = begun(**values, **{"run.learning_rate": 0.5, "task.backbone_rate": 0.02})
    replica = copy.deepcopy(state.model)
    inputs, targets = worker.batch(worker.order(0), 0)
    cross_entropy(replica(*inputs), targets).backward()
    worker.step(state)
    moved = dict(state.model.named_parameters())
    for name, parameter in replica.named_parameters():
        rate = 0.5 if name.startswith("head") else 0.01
        assert torch.allclose(moved[name], parameter - rate * parameter.grad, atol=1e-6), name


# --- batches by length -----------------------------------------------------------------------------------------------

sizes = st.lists(st.integers(1, 60), min_size=1, max_size=70)


@given(sizes, st.integers(1, 9), st.integers(1, 5), st.integers(0, 3))
def test_a_pass_by_length_holds_every_example_once_and_asks_no_memory(lengths, batch, pools, seed):
    lengths = torch.tensor(lengths)
    order = OrderByLength(seed, lengths, batch, pools)
    count = 3 * len(lengths) // batch + 1
    found = [order(position) for position in range(count)]
    stream = torch.cat(found)
    for start in range(0, len(stream) - len(lengths) + 1, len(lengths)):
        assert sorted(stream[start : start + len(lengths)].tolist()) == list(range(len(lengths)))
    for position in reversed(range(count)):  # from anywhere, in any order, by anybody
        assert torch.equal(OrderByLength(seed, lengths, batch, pools)(position), found[position])


@given(st.integers(0, 5), st.integers(3, 8))
def test_batches_by_length_hold_like_lengths(seed, batch):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(10, 1000, (160,), generator=generator)

    def padded(order):
        return sum(int(lengths[order(p)].max()) * batch for p in range(2 * len(lengths) // batch))

    assert padded(OrderByLength(seed, lengths, batch, 100)) < 0.75 * padded(Order(seed, len(lengths), batch))


def test_batches_by_length_come_in_no_order_of_length():
    lengths = torch.arange(320)
    order = OrderByLength(0, lengths, 10, 100)
    means = [lengths[order(position)].double().mean().item() for position in range(32)]
    assert abs(stats.spearmanr(means, range(32)).statistic) < 0.5
    assert means != [lengths[order(32 + position)].double().mean().item() for position in range(32)]


def test_the_trainer_batches_by_length_unless_told_not_to():
    worker, _ = begun()
    assert isinstance(worker.order, OrderByLength)
    lengths = worker.tokens("train").lengths
    spread = [int(lengths[worker.order(p)].max() - lengths[worker.order(p)].min()) for p in range(20)]
    assert sorted(spread)[10] <= 5
    plain, _ = begun(**{"task.pools": 1})
    assert type(plain.order) is Order


# --- resuming --------------------------------------------------------------------------------------------------------

NOISY = {"task.dropout": 0.2, "run.accumulate": 2, "run.batch_size": 10, "run.checkpoint_every": 10, "run.steps": 40}


@pytest.mark.parametrize("method", ["dense", "rigl", "gmp"])
def test_a_stage_that_was_killed_ends_the_same_bit_for_bit(method, tmp_path, monkeypatch):
    whole = stage(method, **NOISY)
    training.train([whole])
    expected = training.result(whole)
    monkeypatch.setenv("RUNS", str(tmp_path / "again"))
    folder = stage(method, **NOISY)
    assert folder != whole and folder.name == whole.name
    run.warm(folder)
    for call in (14, 9, 17):
        assert training.attempt(folder, training.Death("step", call=call)) == -9
    assert training.attempt(folder) == 0
    assert training.result(folder) == expected


# --- what a summary says ---------------------------------------------------------------------------------------------


def test_classes_of_a_fold_leaks_and_crops_stand_in_the_summary(folders):
    files = csv_files(made(80))
    line = files["s2c2_0_test.csv"].splitlines()[1]
    files["s2c2_0_train.csv"] += line.replace(",test,", ",train,") + "\n"
    write(folders / "data", files)
    chosen = {"task.dataset": "hp-s2c2", "task.length": 20, "task.crop": "ends"}
    folder = stage(**real_values(folders / "data", **chosen))
    found = finished(folder)
    test = [sequence for _, sequence, _ in made(80)[::10]]
    assert found["measurements"]["sequences"] == 8
    assert found["measurements"]["cropped"] == sum(len(sequence) > 20 for sequence in test) > 0
    made_here, warning = found["warnings"]
    assert made_here.startswith("not the published files of hp-s2c2")
    assert warning.startswith("1 of 8 test sequences are also among the training sequences")
    test_classes = Counter(value >= 75 for _, _, value in made(80)[::10])
    assert found["baseline"] == 100 * test_classes[False] / 8
    assert json.loads(paths.summary(folder).read_text())["dataset"] == "hp-s2c2"


def test_folds_are_an_axis_of_the_grid(folders):
    write(folders / "data", csv_files(made(80)))
    values = real_values(folders / "data", **{"task.dataset": "hp-s2c2"})
    names = {stage(**{**values, "task.fold": fold}).name for fold in (0, 1, 2)}
    assert len(names) == 3
    by_seed = stage(**{**values, "task.fold": -1, "run.seed": 2})
    worker, fixed = (run.trainer(record.read_config(f)) for f in (by_seed, stage(**{**values, "task.fold": 2})))
    assert worker.data.test.sequences == fixed.data.test.sequences


def test_data_replaced_after_planning_is_noticed(folders):
    write(folders / "data", csv_files(made(80)))
    folder = stage(**real_values(folders / "data", **{"task.dataset": "hp-s2c2"}))
    write(folders / "data", csv_files(made(90)))
    assert run.execute(folder) == "failed"
    assert "the data changed since planning" in record.read_json(paths.status(folder))["reason"]
    worker = run.trainer(record.read_config(folder))  # and by the trainer itself, had the files changed a moment later
    assert "the data changed since planning" in complaint(lambda: worker.data)


def test_evaluation_in_parts_gives_every_sequence_its_own_output(monkeypatch):
    worker, state = begun()
    state.model.eval()
    whole = worker.evaluate(state.model, "test")
    shapes, inputs = [], worker.inputs
    monkeypatch.setattr("tasks.protein.trainer.evaluation", 150)
    monkeypatch.setattr(worker, "inputs", lambda *a: shapes.append(inputs(*a)[0].shape) or inputs(*a))
    parts = worker.evaluate(state.model, "test")
    assert abs(parts["loss"] - whole["loss"]) < 1e-6 and parts["score"] == whole["score"]
    assert sum(count for count, _ in shapes) == 300 and all(count * length <= 150 for count, length in shapes)


def test_weights_of_a_hub_or_a_package_are_pretrained_weights_to_rewind_to():
    values = record.read_config(stage("one_shot_ticket", **{"run.steps": 2}))["settings"]
    values["task"].update(width=32, layers=2, heads=4)
    values["method"]["rewind"] = "pretrained"
    assert any("needs pretrained weights" in text for text in groups.complaints("protein", "one_shot_ticket", values))
    values["task"].update(model="antiberty")  # the package brings them
    assert not groups.complaints("protein", "one_shot_ticket", values)
    values["task"].update(model="esm", hub="facebook/esm2_t6_8M_UR50D")
    assert not groups.complaints("protein", "one_shot_ticket", values)


def test_more_residues_than_the_model_takes_are_refused(monkeypatch):
    monkeypatch.setattr(transformer.Encoder, "limit", 40)
    worker = run.trainer(record.read_config(stage(**{"task.length": 41})))
    assert "transformer takes 40 residues at most" in complaint(worker.build)
    worker, _ = begun()
    assert max(worker.tokens("test").lengths) == 40 and worker.cropped["test"] > 0


def test_the_small_transformer_reads_a_usual_length_where_none_is_asked_for(monkeypatch):
    worker, _ = begun()
    assert worker.length == 512
    monkeypatch.setattr(transformer.Encoder, "usual", 40)
    worker, _ = begun()
    assert max(worker.tokens("test").lengths) == 40 and worker.cropped["test"] > 0
    worker, _ = begun(**{"task.length": 50})  # it takes more on request
    assert max(worker.tokens("test").lengths) == 50


@pytest.mark.parametrize("limit, usual, asked, expected", [(8190, 25, 0, 25), (25, 1022, 0, 25), (8190, 25, 45, 45)])
def test_the_usual_length_is_within_what_the_model_takes_and_no_bound(monkeypatch, limit, usual, asked, expected):
    monkeypatch.setattr(transformer.Encoder, "limit", limit)
    monkeypatch.setattr(transformer.Encoder, "usual", usual)
    worker, state = begun(**{"task.length": asked})
    assert worker.length == max(worker.tokens("test").lengths) == expected
    cropped = worker.evaluate(state.model.eval(), "test")["measurements"]["cropped"]
    assert cropped == sum(len(sequence) > expected for sequence in worker.data.test.sequences) > 0


pretrained_paper = {"model": "esm", "hub": "facebook/esm1b_t33_650M_UR50S", "pretrained": "here"}


@pytest.mark.parametrize(
    "values, expected",
    [
        (pretrained_paper, "only one can be loaded; task.hub= empties the first"),
        ({"model": "tape", "pretrained": "here", "hub": "x/y"}, "task.model=tape is on no hub; task.hub= empties it"),
        ({"model": "antiberty", "width": 64}, "task.width is 64, but the pretrained weights of task.model=antiberty"),
        ({"model": "antiberty", "layers": 3}, "leave it at 2"),
        ({"model": "antiberty", "heads": 2}, "leave it at 4"),
        ({"hidden": 64}, "task.head=linear has no hidden layer"),
        ({"target": "temperature", "boundaries": [50.0]}, "task.target=temperature has no classes"),
        ({"dataset": "meltome", "boundaries": [50.0]}, "task.target=temperature has no classes"),
        ({"boundaries": [50.0, float("inf")]}, "task.boundaries must be finite, found inf"),
        ({"boundaries": [float("nan")]}, "task.boundaries must be finite, found nan"),
    ],
)
def test_settings_that_would_say_what_is_not_done_are_refused(values, expected):
    (found,) = groups.complaints_of_task("protein", Config(**values))
    assert expected in found


def test_settings_that_are_used_are_not():
    for values in (
        {**pretrained_paper, "pretrained": ""},
        {**pretrained_paper, "hub": ""},
        {"head": "hidden", "hidden": 64},
        {"width": 64, "layers": 3, "heads": 2},
        {"dataset": "meltome", "target": "class", "boundaries": [50.0]},
    ):
        assert not groups.complaints_of_task("protein", Config(**values)), values


def test_the_papers_preset_with_weights_of_ones_own_says_what_to_empty(tmp_path):
    asked = ["task=protein", "preset=paper", "task.dataset=generated", f"task.pretrained={tmp_path}"]
    assert "task.hub= empties" in complaint(planner.make, arguments.parse(asked))
    message = complaint(planner.make, arguments.parse([*asked, "task.hub="]))
    assert message.startswith(f"{tmp_path}: config.json is missing")
    assert "task.length" in complaint(planner.make, arguments.parse(["task=protein", "task.length="]))
    assert "task has no value" in complaint(arguments.parse, ["task="])


def test_results_of_another_reading_are_not_taken_for_those_of_this_one(structured, monkeypatch):
    """Of the models that now read otherwise, and of no other."""
    folder, weights = structured["task.data"], structured["task.pretrained"]
    chosen = Config(dataset="hp-s2c2", model="esm-if1", data=folder, pretrained=weights, validation=10)
    found = datasets.read(chosen)
    first = fingerprint.whole(chosen, found)
    assert fingerprint.whole(chosen, found) == first
    monkeypatch.setitem(fingerprint.reading, "esm-if1", 1)
    assert fingerprint.whole(chosen, found) != first
    found = datasets.read(Config())
    assert fingerprint.whole(Config(), found) == fingerprint.checksum(found)
    assert not {"transformer", "antiberty"} & fingerprint.reading.keys()


@pytest.mark.parametrize("method", ["synflow", "reshuffle"])
def test_synflow_is_refused_when_planned(method):
    values = {"method.of": "synflow", "method.settings": "{}"} if method == "reshuffle" else {}
    message = complaint(training.line, method, {**FAST, **values}, 0.8, "protein")
    assert "task protein cannot be pruned by synflow: its flow is not defined through attention" in message


def test_a_length_beyond_the_models_is_refused_when_planned_in_the_tasks_words(folders):
    stages = [SimpleNamespace(config=record.read_config(stage(**{"task.length": 41})))]
    code = (
        "from tasks.protein.encoders import transformer; transformer.Encoder.limit = 40; "
        "from launch.plan import fits_the_model; fits_the_model.main()"
    )
    questions = json.dumps([{name: one.config[name] for name in ("task", "method", "settings")} for one in stages])
    child = subprocess.run(
        [sys.executable, "-c", code], input=questions, capture_output=True, text=True, cwd=paths.root()
    )
    expected = "task.length is 41; transformer takes 40 residues at most"
    assert json.loads(child.stdout) == {"refused": expected}, child.stderr
    answered = SimpleNamespace(stdout=child.stdout, stderr="", returncode=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fits_the_model.subprocess, "run", lambda *a, **k: answered)
        assert complaint(fits_the_model._built, stages) == expected
