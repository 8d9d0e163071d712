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
from sklearn.linear_model import LogisticRegression, Ridge
from torch.nn.functional import cross_entropy

from common import paths, record
from common.settings import groups
from common.stage import run
from common.training.optimization import Order, OrderByLength
from launch.plan import fits_the_model, planner
from launch.request import arguments
from tasks.protein import composition, data, model
from tasks.protein.alphabet import RESIDUES, Alphabet
from tasks.protein.config import Config
from tasks.protein.encoders import esm_if1, geometry, proteinmpnn, transformer
from tasks.protein.files import datasets, fingerprint, structures
from tasks.protein.trainer import balanced_accuracy, ranks, spearman
from tests.support import training
from tests.support.protein_files import complaint, csv_files, flip, made, write

THREE = "ALA CYS ASP GLU PHE GLY HIS ILE LYS LEU MET ASN PRO GLN ARG SER THR VAL TRP TYR"
NAMES = dict(zip(RESIDUES, THREE.split()))
FAST = {"run.steps": 30, "run.evaluate_every": 15, "task.width": 16, "task.layers": 1, "task.heads": 2}


def stage(method="dense", **values):
    """The folder of a small stage, untrained, its parents trained."""
    own = values.get("task.model", "transformer") == "transformer"
    fast = {key: value for key, value in FAST.items() if own or not key.startswith("task.")}  # others have their sizes
    folders = training.line(method, {**fast, **values}, task="protein")
    training.train(folders[:-1])
    return folders[-1]


def begun(method="dense", **values):
    """(trainer, state) at the beginning of a stage without a parent."""
    worker = run.trainer(record.read_config(stage(method, **values)))
    state = worker.begin(None)
    worker.method.start(state)
    return worker, state


def finished(folder):
    training.train([folder])
    return training.summary(folder)


def real_values(folder, **values):
    return {"task.data": str(folder), "task.validation": 10, "run.batch_size": 8, **values}


# --- the model -------------------------------------------------------------------------------------------------------


def network(**values):
    torch.manual_seed(0)
    built = model.build(Config(**{"width": 16, "layers": 2, "heads": 2, **values}))
    noise = torch.Generator().manual_seed(1)
    for parameter in built.parameters():  # biases and norms too, so that nothing hides behind a zero
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=noise)
    return built.eval()


def outputs(built, sequences):
    split = data.Split(sequences, sequences, sequences, torch.zeros(len(sequences)))
    return built(*data.Tokens(split, built.backbone.alphabet).batch(torch.arange(len(sequences))))


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


class Echo(torch.nn.Module):
    """An encoder with special tokens around the sequence, that says of each token its number."""

    width, limit = 2, None
    alphabet = Alphabet({letter: 5 + i for i, letter in enumerate(RESIDUES)}, padding=1, first=0, last=2)

    def forward(self, tokens, mask):
        return torch.stack([tokens.float(), mask.float()], dim=2)


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


# --- temperatures ----------------------------------------------------------------------------------------------------

values = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.5, -1.0, 7.0]), min_size=2, max_size=30)


@given(values, st.randoms())
def test_rank_correlation_is_spearmans_with_ties(first, chance):
    second = chance.choices([0.0, 1.0, 2.0, 3.0], k=len(first))
    found = spearman(torch.tensor(first), torch.tensor(second))
    assert torch.equal(ranks(torch.tensor(first)), torch.tensor(stats.rankdata(first)))
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found == 0.0
    else:
        assert abs(found - stats.spearmanr(first, second).statistic) < 1e-9


def test_balanced_accuracy_weighs_classes_not_sequences():
    targets = torch.tensor([0] * 8 + [2] * 2)
    assert balanced_accuracy(torch.zeros(10, dtype=torch.long), targets) == 50.0
    assert balanced_accuracy(targets, targets) == 100.0


def test_a_regression_reports_correlation_and_degrees(folders):
    rows = made(80)
    write(folders / "data", {"mixed_split.csv": flip(rows, marked=12)})
    chosen = real_values(folders / "data", **{"task.dataset": "meltome", "task.validation": -1, "task.length": 15})
    folder = stage(**chosen, **{"run.select": "last"})
    found = finished(folder)
    worker = run.trainer(record.read_config(folder))
    built = worker.build()
    built.load_state_dict(training.weights(folder))
    # by hand: no batches, degrees instead of standardised ones
    test = [(sequence, value) for at, (_, sequence, value) in enumerate(rows) if at % 5 == 0]
    train = torch.tensor([v for at, (_, _, v) in enumerate(rows) if at % 5 and at > 12], dtype=torch.float32).double()
    with torch.no_grad():
        predicted = outputs(built.eval(), [sequence[:15] for sequence, _ in test])[:, 0].double()
    predicted = predicted * train.std() + train.mean()
    actual = torch.tensor([value for _, value in test], dtype=torch.float64)
    measured = found["measurements"]
    assert found["metric"] == "spearman" and abs(found["score"] - 100 * measured["spearman"]) < 1e-9
    assert abs(measured["spearman"] - stats.spearmanr(predicted, actual).statistic) < 1e-6
    assert abs(measured["mae"] - (predicted - actual).abs().mean().item()) < 1e-3
    assert measured["mae_of_median"] > 0 and found["baseline"] == 0.0
    assert measured["cropped"] == sum(len(sequence) > 15 for sequence, _ in test) > 0


def test_a_constant_prediction_of_temperatures_is_a_collapse():
    worker, state = begun(**{"task.target": "temperature"})
    state.model.eval()
    assert not worker.evaluate(state.model, "validation")["constant"]
    torch.nn.init.zeros_(state.model.head[1].weight)
    found = worker.evaluate(state.model, "validation")
    assert found["constant"] and found["score"] == 0.0


@pytest.mark.parametrize("kind", ["class", "temperature"])
@pytest.mark.parametrize("broken", ["all", "one"])
def test_outputs_that_are_not_finite_are_no_answers_but_a_collapse(kind, broken, monkeypatch):
    """NaN orders nothing and is of no class, whatever ranks and argmax make of it."""
    worker, state = begun(**{"task.target": kind})
    state.model.eval()
    whole, given = worker.evaluate(state.model, "test"), worker._outputs(state.model, "test")
    place = 0 if kind == "temperature" else int((given.argmax(1) == worker.targets("test")).nonzero()[0])
    given[slice(None) if broken == "all" else place] = torch.nan
    monkeypatch.setattr(worker, "_outputs", lambda *arguments: given)
    found = worker.evaluate(state.model, "test")
    assert found["constant"] and not whole["constant"] and found["loss"] != found["loss"]
    one_fewer = whole["score"] - 100 / len(given)
    assert abs(found["score"] - (one_fewer if kind == "class" and broken == "one" else 0.0)) < 1e-9


def test_targets_are_standardised_by_the_training_set_alone():
    worker, _ = begun(**{"task.target": "temperature"})
    train, test = worker.targets("train"), worker.targets("test")
    assert train.dtype == torch.float32 and abs(train.mean()) < 1e-6 and abs(train.std() - 1) < 1e-6
    mean, deviation = worker.scale
    assert torch.allclose(test.double() * deviation + mean, worker.data.test.targets.double(), atol=1e-4)


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
    (warning,) = found["warnings"]
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


# --- structures ------------------------------------------------------------------------------------------------------


class Atoms(torch.nn.Module):
    """A model of structures: of each residue, where its CA is."""

    width, limit, alphabet = 3, None, Echo.alphabet

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.eye(3))

    def forward(self, tokens, mask, coordinates, numbers):
        return coordinates[:, :, 1].nan_to_num(0.0) @ self.scale


def line_of_atoms(sequence):
    """A PDB file whose residue i has its atoms around (i, 0, 0)."""
    found = []
    for place, letter in enumerate(sequence):
        for atom, offset in (("N", -0.3), ("CA", 0.0), ("C", 0.3)):
            words = f"ATOM  {len(found) + 1:>5}  {atom:<3} {NAMES[letter]} A{place + 1:>4}    "
            found.append(f"{words}{place + offset:8.3f}{0:8.3f}{0:8.3f}{1:6.2f}{0:6.2f}          {atom[0]:>2}\n")
    return "".join(found) + "END\n"


@pytest.fixture
def structured(folders, monkeypatch):
    """Settings of a stage whose model reads structures, all of them there."""
    pytest.importorskip("Bio", reason="needs: pip install biopython")
    rows = made(80)
    files = {f"structures/{name}.pdb": line_of_atoms(sequence) for name, sequence, _ in rows}
    write(folders / "data", {**csv_files(rows), **files, "weights.pt": "any"})
    monkeypatch.setattr(esm_if1, "build", lambda config: Atoms())
    chosen = {"task.dataset": "hp-s2c2", "task.model": "esm-if1", "task.length": 15, "task.crop": "ends"}
    return real_values(folders / "data", **chosen, **{"task.pretrained": str(folders / "data" / "weights.pt")})


def test_structures_reach_the_model_cropped_as_the_letters_are(structured):
    worker, state = begun(**structured)
    longest = max(range(60), key=lambda i: len(worker.data.train.sequences[i]))
    size = len(worker.data.train.sequences[longest])
    (tokens, _, residues, atoms, numbers), _ = worker.batch(torch.tensor([longest, 0]), 0)
    assert atoms.shape == (*tokens.shape, 3, 3) and atoms.dtype == torch.float32
    assert atoms[0, residues[0], 1, 0].tolist() == [*range(8), *range(size - 7, size)]
    assert (numbers[0, residues[0]] - numbers[0, residues[0]][0]).tolist() == [*range(8), *range(size - 7, size)]
    assert atoms[~residues].isnan().all() and not atoms[residues].isnan().any()
    before = training.copy(dict(state.model.named_parameters()))
    worker.step(state)
    assert all(not torch.equal(p, before[n]) for n, p in state.model.named_parameters())


def test_residues_without_coordinates_are_counted(structured, folders):
    worker, state = begun(**structured)
    assert worker.evaluate(state.model.eval(), "test")["measurements"]["unresolved"] == 0.0
    places = folders / "data" / "structures"
    test = dict(zip(worker.data.test.names, worker.data.test.sequences))
    for number, (name, sequence) in enumerate(test.items()):
        if number < 3:  # the last two residues, of those that cropping keeps
            lines = line_of_atoms(sequence).splitlines(keepends=True)
            (places / f"{name}.pdb").write_text("".join([*lines[:-7], "END\n"]))
    worker, state = begun(**structured)
    found = worker.evaluate(state.model.eval(), "test")["measurements"]["unresolved"]
    assert abs(found - 100 * 6 / sum(min(15, len(s)) for s in test.values())) < 1e-9


def test_a_structure_that_training_could_not_read_is_refused_before_anything_is_queued(structured, folders):
    """Cut, empty, of another protein: of whichever part, with its line, and with that of its sequence."""
    names, sequences, _ = zip(*made(80))
    places = [folders / "data" / "structures" / f"{name}.pdb" for name in names]
    line = f"{folders / 'data' / 's2c2_0_test.csv'}:2"  # of the first sequence
    whole, own = places[0].read_text(), sequences[0][0]
    stage(**structured)
    cases = {
        "".join(whole.splitlines(keepends=True)[:12]) + "END\n": "residue 4; expected those of two thirds at least",
        "".join(whole.splitlines(keepends=True)[:-5]): "the file ends within its atoms",
        whole[: whole.index("0.000")]: ".pdb:1: expected a PDB or mmCIF file, whole",
        "": ".pdb: expected a PDB or mmCIF file, whole (ValueError: Empty file.)",
        line_of_atoms("W" + sequences[0][1:]): f".pdb:1: residue 1 is W, where residue 1 of the sequence is {own}",
    }
    for content, expected in cases.items():
        places[0].write_text(content)
        message = complaint(lambda: stage(**structured))
        assert str(places[0]) in message and expected in message and f"(its sequence: {line})" in message
    places[7].write_text("")
    assert "; 1 more of 80 structures cannot be used either" in complaint(lambda: stage(**structured))
    for place, sequence in ((places[0], sequences[0]), (places[7], sequences[7])):
        place.write_text(line_of_atoms(sequence))
    stage(**structured)


def test_a_structure_is_parsed_once_whoever_asks_until_its_file_changes(structured, folders, monkeypatch):
    asked, read = [], structures.read
    monkeypatch.setattr(structures, "read", lambda path, sequence: asked.append(path.name) or read(path, sequence))
    stage(**structured)
    assert len(asked) == 80
    worker = begun(**{**structured, "run.seed": 3})[0]
    assert len(asked) == 80 and worker.atoms["test"]
    place = folders / "data" / "structures" / "P00003.pdb"
    place.write_text(place.read_text() + "REMARK\n")
    stage(**structured)
    assert asked[80:] == ["P00003.pdb"]


def test_without_biopython_the_plan_names_the_command(structured, monkeypatch):
    monkeypatch.setitem(sys.modules, "Bio", None)
    assert complaint(lambda: stage(**structured)).endswith("-m pip install biopython")


def test_a_sequence_without_a_name_has_no_structure(structured, folders):
    path = folders / "data" / "s2c2_0_train.csv"
    path.write_text(path.read_text().replace("P00003,", ",", 1))
    at = next(at for at, line in enumerate(path.read_text().split("\n"), 1) if line.startswith(","))
    assert f"{path}:{at}: has no name" in complaint(lambda: stage(**structured))


@torch.no_grad()
def test_residues_of_which_nothing_is_said_are_not_in_the_mean():
    torch.manual_seed(0)
    built = model.Network(proteinmpnn.Encoder(4), Config(model="proteinmpnn")).eval()
    built.head = torch.nn.Identity()
    tokens, atoms = torch.ones(3, 9, dtype=torch.long), 3 * torch.randn(3, 9, 3, 3)
    mask = torch.arange(9) < torch.tensor([[9], [7], [9]])
    atoms[0, 2:6], atoms[1, 4, 1], atoms[2], atoms[1, 7:] = torch.nan, torch.nan, torch.nan, torch.nan
    found, hidden = built(tokens, mask, mask, atoms), built.backbone(tokens, mask, atoms)
    assert torch.allclose(found[0], hidden[0, [0, 1, 6, 7, 8]].mean(0), atol=1e-6)
    assert torch.allclose(found[1], hidden[1, [0, 1, 2, 3, 5, 6]].mean(0), atol=1e-6)
    assert not found[2].any() and hidden[0, 0].std() > 0.1, "a part that is nowhere resolved is 0, not 0 / 0"


@torch.no_grad()
def test_the_first_messages_lack_only_columns_that_multiply_zeros(tmp_path):
    """The published layer, with all of its columns, says the same."""
    torch.manual_seed(0)
    encoder, atoms = proteinmpnn.Encoder(6).eval(), 4 * torch.randn(2, 12, 3, 3)
    whole = proteinmpnn.Layer(0.1, False, False).eval()
    assert whole.W1.weight.shape == (128, 384) and encoder.encoder_layers[0].W1.weight.shape == (128, 128)
    before = "encoder_layers.0."
    state = {**encoder.state_dict(), **{before + name: value for name, value in whole.state_dict().items()}}
    torch.save({"num_edges": 6, "model_state_dict": state}, tmp_path / "v.pt")
    loaded = proteinmpnn.load(tmp_path / "v.pt").eval()
    encoder.encoder_layers[0] = whole
    encoder.load_state_dict(state)
    inputs = torch.ones(2, 12, dtype=torch.long), torch.ones(2, 12, dtype=torch.bool), atoms
    assert torch.allclose(loaded(*inputs), encoder(*inputs), atol=1e-5)


def cut_chain(length=24, kept=11):
    """Coordinates of a chain and the places that task.crop=ends keeps of it: [1, n, 3, 3], int64[1, kept]."""
    generator = torch.Generator().manual_seed(0)
    chain = torch.cumsum(2 * torch.randn(1, length, 3, 3, generator=generator), 1)
    full = data.Split(["P"], ["A" * length], [""], torch.zeros(1))
    numbers = data.numbers(full, torch.tensor([0]), kept, kept, "ends", proteinmpnn.Encoder(4).alphabet)
    assert numbers.tolist() == [[*range(6), *range(length - 5, length)]]
    start = data.numbers(full, torch.tensor([0]), kept, kept, "start", proteinmpnn.Encoder(4).alphabet)
    assert start.tolist() == [[*range(kept)]]
    return chain, numbers


def test_a_cut_is_no_bond_to_proteinmpnn():
    """Oxygens and pairs are those of the whole chain; only the residue before the cut is an end, as any last one."""
    chain, numbers = cut_chain()
    cropped, known = chain[:, numbers[0]], torch.ones(1, 24, dtype=torch.bool)
    found = proteinmpnn.atoms_of(cropped, known[:, :11], numbers)
    expected = proteinmpnn.atoms_of(chain, known)
    others = torch.arange(11) != 5
    for atom, values in found.items():
        assert torch.allclose(values[:, others], expected[atom][:, numbers[0, others]], atol=1e-5), atom
    last = proteinmpnn.atoms_of(chain[:, :6], known[:, :6])["O"][:, 5]
    assert torch.allclose(found["O"][:, 5], last, atol=1e-5)
    features = proteinmpnn.Features(24)
    ours, at = features(found, known[:, :11], numbers)
    theirs, there = features(expected, known)
    ours = torch.zeros(11, 11, 128).scatter(1, at[0, :, :, None].expand(-1, -1, 128), ours[0])
    theirs = torch.zeros(24, 24, 128).scatter(1, there[0, :, :, None].expand(-1, -1, 128), theirs[0])
    theirs = theirs[numbers[0]][:, numbers[0]]
    assert torch.allclose(ours[others][:, others], theirs[others][:, others], atol=1e-4) and theirs.std() > 0.1


def test_a_cut_is_no_bond_to_esm_if1():
    """Angles and directions are those of the whole chain, or of an end where they would reach over the cut."""
    chain, numbers = cut_chain()
    cropped = chain[:, numbers[0]]
    bonded = geometry.followed(torch.ones(1, 11, dtype=torch.bool), numbers)
    assert bonded.logical_not().nonzero().tolist() == [[0, 5]]
    found = geometry.torsions(cropped, bonded=bonded).view(11, 2, 3)
    expected = geometry.torsions(chain).view(24, 2, 3)[numbers[0]].clone()
    for place, angle in ((5, 1), (5, 2), (6, 0)):
        expected[place, :, angle] = torch.tensor([1.0, 0.0])
    assert torch.allclose(found, expected, atol=1e-5)
    found = geometry.directions(cropped, bonded)[0]
    expected = geometry.directions(chain)[0, numbers[0]].clone()
    expected[5, 0], expected[6, 1] = 0.0, 0.0
    assert torch.allclose(found, expected, atol=1e-5)
    ends, distance = torch.tensor([[5, 6], [6, 7]]), torch.ones(2)
    waves, _ = geometry.edge_features(cropped[:, :, 1], ends, distance, numbers)
    over = [(numbers[0, one] - numbers[0, other]).item() for one, other in ((5, 6), (6, 7))]
    assert torch.allclose(waves[:, 16], torch.tensor(over).float().cos(), atol=1e-6) and over == [-14, -1]
    torch.manual_seed(0)
    encoder = esm_if1.Encoder(esm_if1.Shape(16, 24, 2, 2, 0.1, 0.1, 4, 8, 4, 4, 1, 1, 0.1)).eval()
    whole = torch.full((1, 11), True)
    seen = []
    for part in (encoder.embed_dihedrals.node_embedding, encoder.embed_gvp_input_features):
        part.register_forward_hook(lambda part, inputs, output: seen.append(inputs[0][0, :, :6].view(11, 2, 3)))
    with torch.no_grad():
        here, there = (encoder(torch.ones(1, 11).long(), whole, cropped, given) for given in (numbers, None))
        plain = encoder(torch.ones(1, 11).long(), whole, cropped, torch.arange(11)[None])
    for number, angles in enumerate(seen):  # two of each pass; the first pass knows of the cut
        ends = [torch.equal(angles[5, :, 1], torch.tensor([1.0, 0.0])), torch.equal(angles[6, :, 0], angles[5, :, 2])]
        assert all(ends) if number < 2 else not any(ends)
    assert (here - there).abs().max() > 1e-3 and torch.equal(plain, there)


@pytest.mark.parametrize("excluded", ["[]", "[head.*]"])
@pytest.mark.parametrize("name", ["proteinmpnn", "esm-if1"])
def test_geometry_and_embeddings_stay_dense_whatever_is_excluded(structured, monkeypatch, name, excluded):
    """In training and in the plan's look at the model alike."""
    shape = esm_if1.Shape(16, 24, 2, 2, 0.1, 0.1, 4, 8, 4, 4, 1, 1, 0.1)
    monkeypatch.setattr(proteinmpnn, "build", lambda config: proteinmpnn.Encoder(4))
    monkeypatch.setattr(esm_if1, "build", lambda config: esm_if1.Encoder(shape))
    values = {**structured, "task.model": name, "run.exclude": excluded}
    _, state = begun(**values)
    chosen = set(state.weights)
    assert ("head.1.weight" in chosen) == (excluded == "[]")
    layers = "backbone.encoder_layers." if name == "proteinmpnn" else "backbone.layers."
    assert all(weight.startswith((layers, "head.")) for weight in chosen)
    assert len(chosen - {"head.1.weight"}) == (3 * 5 + 2 * 3 if name == "proteinmpnn" else 2 * 6)
    settings = record.read_config(stage(**values))["settings"]
    answer = fits_the_model._answer({"task": "protein", "method": "dense", "settings": settings}, {})
    assert {weight for weight, _ in answer["shapes"]} == chosen


def test_a_missing_or_changed_structure_is_noticed_before_anything_is_queued(structured, folders):
    first = stage(**structured).name
    place = folders / "data" / "structures" / "P00003.pdb"
    place.write_text(place.read_text() + "REMARK\n")
    assert stage(**structured).name != first
    place.unlink()
    assert "1 of 80 structures are missing: P00003" in complaint(lambda: stage(**structured))


# --- composition -----------------------------------------------------------------------------------------------------


def problem(classes=3):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(120, 5, dtype=torch.float64, generator=generator)
    labels = (inputs @ torch.randn(5, classes, dtype=torch.float64, generator=generator)).argmax(1)
    flip = torch.rand(120, generator=generator) < 0.2
    return inputs, torch.where(flip, (labels + 1) % classes, labels)


@pytest.mark.parametrize("classes, penalty", [(2, 0.1), (3, 0.01)])
def test_logistic_regression_is_the_convex_optimum(classes, penalty):
    inputs, labels = problem(classes)
    weights, bias = composition.logistic(inputs, labels, classes, penalty)
    # scikit-learn minimises the sum of losses plus |w|^2 / (2 C); with two classes it has one vector, ours two halves
    strength = 1 / (2 * penalty * len(inputs)) * (2 if classes == 2 else 1)
    other = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(inputs, labels)
    expected = torch.tensor(other.predict_proba(inputs))
    assert torch.allclose((inputs @ weights + bias).softmax(1), expected, atol=1e-4)


def test_ridge_regression_is_the_convex_optimum():
    inputs, labels = problem()
    targets = labels.double() * 10 + 40
    weights, bias = composition.ridge(inputs, targets, 0.3)
    other = Ridge(alpha=0.3 * len(inputs)).fit(inputs, targets)
    assert torch.allclose(inputs @ weights + bias, torch.tensor(other.predict(inputs)), atol=1e-8)


def test_composition_of_what_an_encoder_reads(capsys):
    """With ``length`` the letters beyond it are not counted: the score is another."""
    told = []
    for words in ([], ["length=10"], ["length=10", "crop=ends"]):
        assert composition.main(["dataset=generated", *words]) == 0
        told.append(capsys.readouterr().out)
    assert len(set(told)) == 3


def test_composition_counts_the_twenty():
    split = data.Split(["a"], ["AACX"], ["x:1"], torch.zeros(1))
    found = composition.shares(split)[0]
    assert found.shape == (20,) and found[RESIDUES.index("A")] == 0.5 and found.sum() == 0.75


def test_the_baseline_command_prints_folds_and_their_mean(folders, capsys):
    write(folders / "data", csv_files(made(200)))
    words = ["dataset=hp-s2c2", f"data={folders / 'data'}", "fold=0,1"]
    assert composition.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    scores = [float(line.split("accuracy ")[1].split(",")[0]) for line in lines[:2]]
    assert lines[0].startswith("hp-s2c2 fold 0: accuracy ") and "of a constant" in lines[1]
    mean = f"score: {sum(scores) / 2:.1f}"
    assert any(line.startswith(mean[:-1]) for line in lines[2:])
    assert composition.main(["dataset=hp-s2c2", f"data={folders / 'data'}", "target=temperature"]) == 0
    assert "spearman" in capsys.readouterr().out
    for wrong in (["datset=x"], ["fold=a"], ["fold=11"], ["dataset=hp-s2c2", "data=nowhere"]):
        assert composition.main(wrong) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_composition_alone_does_not_solve_the_embedded_data():
    found = composition.measure(data.load(Config(), 0), True)
    assert found.constant + 10 < found.score < 65
