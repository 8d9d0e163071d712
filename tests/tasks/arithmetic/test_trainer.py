"""The arithmetic task's loss, scores and protocols, and that all of both models moves and resumes."""

import pytest
import torch

from common import record, registry
from common.stage import run
from common.training.state import Parent
from tasks.arithmetic import expression
from tasks.arithmetic.data import Problems
from tasks.arithmetic.problem import Problem
from tasks.arithmetic.trainer import Trainer, marks
from tests.support import training

MODELS = ("gts", "graph2tree")
FAST = {
    "run.steps": 30, "run.evaluate_every": 15, "run.batch_size": 16,
    "task.width": 16, "task.embedding_width": 8, "task.beam": 2, "task.longest": 9,
}  # fmt: skip


def stage(method="dense", sparsity=0.8, **values):
    """The folder of a small stage, untrained, its parents trained."""
    folders = training.line(method, {**FAST, **values}, sparsity, "arithmetic")
    training.train(folders[:-1])
    return folders[-1]


def begun(method="dense", sparsity=0.8, **values):
    """(trainer, state) at the beginning of a stage without a parent."""
    worker = run.trainer(record.read_config(stage(method, sparsity, **values)))
    state = worker.begin(None)
    worker.method.start(state)
    return worker, state


def finished(folder):
    training.train([folder])
    return training.summary(folder)


# --- what is right ---------------------------------------------------------------------------------------------------


def problem(equation, numbers=(6.0, 2.0, 3.0), answer=None):
    tokens = equation.split()
    answer = expression.evaluate(tokens, list(numbers)) if answer is None else answer
    words = ["NUM"] * len(numbers)
    return Problem(words, list(numbers), tokens, answer, list(range(len(numbers))), [], "somewhere:1")


def marked(equation, tree, **values):
    return marks([tree.split()], Problems([problem(equation, **values)]))


@pytest.mark.parametrize(
    "answer, value, same",
    [
        ("- number0 number1", 100, 100),
        ("- number0 + number2 - number1 number2", 100, 0),  # another way to the same number
        ("+ number2 1.0", 100, 0),
        ("- number1 number0", 0, 0),
        ("+ number2 1.00009", 100, 0),  # within 1e-4 of it
        ("+ number2 1.0002", 0, 0),
    ],
)
def test_a_tree_is_right_when_its_value_is(answer, value, same):
    found = marked("- number0 number1", answer)
    assert (found["value_accuracy"], found["expression_accuracy"], found["unanswered"]) == (value, same, 0)


@pytest.mark.parametrize(
    "answer",
    ["", "-", "- number0", "number0 number1", "- number0 number9", "/ number0 - number1 number1", "nonsense"],
)
def test_a_tree_without_a_value_is_wrong_and_stops_nothing(answer):
    found = marked("- number0 number1", answer)
    assert (found["value_accuracy"], found["expression_accuracy"], found["stated_accuracy"]) == (0, 0, 0)
    assert found["unanswered"] == 100


def test_an_equation_without_a_value_is_never_answered_by_value():
    found = marked("/ number0 - number1 number1", "/ number0 - number1 number1", answer=0.0)
    assert (found["value_accuracy"], found["expression_accuracy"], found["unanswered"]) == (0, 100, 100)


@pytest.mark.parametrize(
    "equation, answer, same",
    [
        ("* number1 - number1 number0", "* number2 - number2 number0", 100),  # 5 is told twice: the same expression
        ("* number1 - number1 number0", "* number2 - number1 number0", 100),
        ("* number1 - number1 number0", "- * number1 number1 * number1 number0", 0),  # its value by another way
        ("+ number1 3.0", "+ number1 number0", 100),  # the quantity and the constant are one number
        ("* number1 - number1 number0", "* number9 - number1 number0", 0),
    ],
)
def test_an_expression_is_the_same_once_its_numbers_are_put_in(equation, answer, same):
    """As the published codes count equations."""
    assert marked(equation, answer, numbers=(3.0, 5.0, 5.0))["expression_accuracy"] == same


def test_the_stated_answer_is_counted_beside_the_equations():
    """MAWPS states some answers rounded: 83.33 of 500 / 6. Published evaluations compare with the equation's value."""
    found = marked("/ number0 number1", "/ number0 number1", numbers=(500.0, 6.0), answer=83.33)
    assert (found["value_accuracy"], found["stated_accuracy"]) == (100, 0)
    found = marked("/ number0 number1", "83.33", numbers=(500.0, 6.0), answer=83.33)
    assert (found["value_accuracy"], found["stated_accuracy"]) == (0, 100)


def test_shares_are_of_all_problems():
    rows = [problem("+ number0 number1"), problem("- number0 number1"), problem("/ number0 number1")]
    answers = [["+", "number1", "number0"], ["-", "number0", "number1"], ["*"]]
    found = marks(answers, Problems(rows))
    assert found["value_accuracy"] == pytest.approx(200 / 3) and found["expression_accuracy"] == pytest.approx(100 / 3)
    assert found["unanswered"] == pytest.approx(100 / 3) and found["problems"] == 3


def test_problems_whose_words_were_trained_on_are_told_apart():
    rows = [
        problem("+ number0 number1"),
        problem("- number0 number1", numbers=(6.0, 2.0)),
        problem("+ number0 number1"),
    ]
    answers = [["+", "number0", "number1"], ["+", "number0", "number1"], ["*"]]
    found = marks(answers, Problems(rows), {("NUM", "NUM", "NUM")})
    assert (found["new_problems"], found["new_value_accuracy"]) == (1, 0)
    found = marks(answers, Problems(rows), {("NUM", "NUM")})
    assert (found["new_problems"], found["new_value_accuracy"]) == (2, 50)
    worker, _ = begun()
    assert ("NUM",) not in worker.data.asked and tuple(worker.data.train.words[0]) in worker.data.asked


def test_the_baseline_is_the_equation_that_answers_most_training_problems():
    worker, _ = begun()
    rows = worker.data.train

    def right(equation, split):
        values = [expression.evaluate(equation, numbers) for numbers in split.numbers]
        return sum(expression.same(v, a) for v, a in zip(values, split.answers))

    best = max(right(list(one), rows) for one in set(map(tuple, rows.equations)))
    assert right(worker.constant, rows) == best > 0
    test = worker.data.test
    assert worker.baseline() == pytest.approx(100 * right(worker.constant, test) / len(test))


# --- what is learned -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_the_loss_is_that_of_each_tree_whatever_the_batch(model):
    """Mean over problems of -log p(tree): two halves of a batch give what the whole gives, as accumulation needs."""
    worker, state = begun(**{"task.model": model})
    state.model.eval()
    indices = torch.arange(8)
    whole = worker.loss(state.model, worker.batch(indices, 0))
    halves = [worker.loss(state.model, worker.batch(part, 0)) for part in indices.split(4)]
    assert torch.allclose(whole, sum(halves) / 2, atol=1e-5) and whole > 0
    batch = worker.batch(indices, 0)
    logits = state.model(*batch)
    vocabulary = worker.data.vocabulary
    assert logits.shape[-1] >= vocabulary.first_quantity + 1
    by_hand = 0.0
    for row, equation in enumerate(worker.data.train.equations[:8]):
        for node, token in enumerate(vocabulary.encode(equation)):
            by_hand -= logits[row, node].log_softmax(-1)[token].item()
    assert whole.item() == pytest.approx(by_hand / 8, rel=1e-5)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", ["dense", "rigl", "snip", "omp_before", "gmp"])
def test_every_tensor_moves_and_the_dead_stay_dead(model, method):
    worker, state = begun(method, 0.4, **{"task.model": model})  # more would empty whole layers of so small a model
    before, worker.start_sums = training.copy(dict(state.model.named_parameters())), state.sums()
    for _ in range(4):
        worker.step(state)
    for name, parameter in state.model.named_parameters():
        assert not torch.equal(parameter, before[name]), name
        if name in state.masks.weights:
            assert not parameter[~state.masks[name]].any(), name
    assert not worker.unmoved(state)


@pytest.mark.parametrize("model", MODELS)
def test_the_prunable_set_is_every_matrix_but_embeddings(model):
    _, state = begun(**{"task.model": model})
    tables = {"embedding.table.weight", "decoder.operators.weight", "decoder.constants.weight"}
    matrices = {name for name, parameter in state.model.named_parameters() if parameter.ndim > 1}
    assert set(state.weights) == matrices - tables and tables & matrices
    assert {"encoder.layers.0.onward.weight_ih_l0", "encoder.layers.0.back.weight_hh_l0"} <= set(state.weights)


@pytest.mark.parametrize(
    "method, cell",
    [(method, "lstm") for method in registry.methods() if method not in ("essential", "synflow", "reshuffle")]
    + [("grasp", "gru"), ("variational_dropout", "gru")],  # which treat recurrent layers apart
)
def test_every_method_trains_a_solver(method, cell, shared_runs, monkeypatch):
    monkeypatch.setenv("RUNS", str(shared_runs))
    short = {"task.beam": 1, "task.longest": 5}
    found = finished(stage(method, **{"task.model": "graph2tree", "task.cell": cell, **short}))
    assert found["metric"] == "value_accuracy" and 0 <= found["score"] <= 100
    if method not in ("dense", "instability"):
        assert found["sparsity"] > 0.2


def test_distillation_learns_from_the_dense_solver():
    found = finished(stage("omp_after", **{"method.distill": 0.5, "task.dropout": 0.0}))
    assert found["sparsity"] == pytest.approx(0.8, abs=1e-3)


def test_distillation_does_not_depend_on_how_far_equations_are_padded():
    folders = training.line("omp_after", {**FAST, "method.distill": 0.5, "task.dropout": 0.0}, 0.8, "arithmetic")
    training.train(folders[:-1])
    worker = run.trainer(record.read_config(folders[-1]))
    state = worker.begin(Parent(folders[-2], worker))
    worker.method.start(state)
    state.model.train()
    batch = worker.batch(torch.arange(8), 0)
    wider = batch._replace(equations=torch.nn.functional.pad(batch.equations, (0, 6), value=-1))
    found = []
    for one in (batch, wider):
        worker.loss(state.model, one)
        found.append(worker.method.penalty(state).item())
    assert found[0] > 0 and found[1] == pytest.approx(found[0], rel=1e-5)


def test_a_solver_learns_more_than_the_constant_answer():
    folder = stage(**{"run.steps": 250, "run.evaluate_every": 125, "task.width": 32, "task.embedding_width": 16})
    found = finished(folder)
    assert found["score"] > found["baseline"] + 10 and not found["collapsed"]
    assert found["measurements"]["expression_accuracy"] <= found["measurements"]["value_accuracy"] == found["score"]


# --- protocols -------------------------------------------------------------------------------------------------------


def test_the_default_protocol_reads_the_test_set_once_and_trains_on_nothing_of_validation(monkeypatch):
    seen, evaluate = [], Trainer.evaluate
    monkeypatch.setattr(Trainer, "evaluate", lambda self, m, split: seen.append(split) or evaluate(self, m, split))
    folder = stage(**{"run.seed": 3})
    finished(folder)
    assert seen == ["validation", "validation", "test"]
    data = run.trainer(record.read_config(folder)).data
    asked = {" ".join(words) for words in data.train.words}
    assert not any(" ".join(words) in asked for words in data.validation.words)
    assert data.test is not data.validation


def test_the_published_protocol_selects_on_the_evaluation_fold_and_reports_both_numbers(monkeypatch):
    told, evaluate = [], Trainer.evaluate

    def listening(self, network, split):
        found = evaluate(self, network, split)
        assert (self.tensors("validation") is self.tensors("test")) == (self.task.protocol == "published")
        told.append((split, found["score"]))
        return found

    monkeypatch.setattr(Trainer, "evaluate", listening)
    values = {"task.protocol": "published", "run.select": "best_score", "run.steps": 120, "run.evaluate_every": 20}
    folder = stage(**values, **{"run.learning_rate": 0.02})
    found = finished(folder)
    scores = [score for split, score in told if split == "validation"]
    assert len(scores) == 6 and max(scores) != scores[-1], "choose other settings: the last is the best"
    assert found["score"] == max(scores)
    assert found["measurements"]["value_accuracy_of_last_step"] == scores[-1]
    assert any("evaluation part" in warning for warning in found["warnings"])
    assert "task.protocol=published" in found["variant"]
    honest = finished(stage())
    assert "value_accuracy_of_last_step" not in honest["measurements"]
    assert not any("evaluation part" in warning for warning in honest["warnings"])


# --- resuming --------------------------------------------------------------------------------------------------------

NOISY = {"task.dropout": 0.2, "run.accumulate": 2, "run.batch_size": 8, "run.checkpoint_every": 10, "run.steps": 40}


@pytest.mark.parametrize("method, model", [("dense", "gts"), ("rigl", "graph2tree"), ("gmp", "gts")])
def test_a_stage_that_was_killed_ends_the_same_bit_for_bit(method, model, tmp_path, monkeypatch):
    values = {**NOISY, "task.model": model, "task.protocol": "published"}
    whole = stage(method, **values)
    training.train([whole])
    expected = training.result(whole)
    monkeypatch.setenv("RUNS", str(tmp_path / "again"))
    folder = stage(method, **values)
    assert folder != whole and folder.name == whole.name
    run.warm(folder)
    for call in (14, 9, 17):
        assert training.attempt(folder, training.Death("step", call=call)) == -9
    assert training.attempt(folder) == 0
    assert training.result(folder) == expected
