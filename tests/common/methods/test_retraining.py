"""What follows on pruning: Renda, Frankle and Carbin's policies step by step; distillation from the dense network."""

import math
import signal

import pytest
import torch
from torch import nn
from torch.nn.functional import log_softmax, softmax

from common import record
from common.errors import UserError
from tests.support import training
from tests.support.training import Death, begun, line, lines, trained, weights

SCHEDULES = {
    "linear": {"run.schedule": "linear", "run.warmup_steps": 6},
    "steps": {"run.schedule": "steps", "run.milestones": "[0.5,0.75]"},
    "cosine": {"run.schedule": "cosine"},
}
EVERY = {"run.log_every": 1, "run.checkpoint_every": 0}


def rates(folder) -> list[float]:
    return [entry["learning_rate"] for entry in lines(folder) if "learning_rate" in entry]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("method", ["omp_after", "random_after", "imp"])
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_rewinding_replays_exactly_the_recorded_rates(method, schedule, share):
    values = {**EVERY, **SCHEDULES[schedule]}
    dense = rates(trained("dense", values))
    part = dense[60 - round(share * 60) :]
    for policy in ("learning_rate", "weights"):
        folder = trained(method, {**values, "method.retrain": policy, "method.retrain_share": share}, 0.5)
        assert rates(folder) == part, policy
        assert training.summary(folder)["steps"] == len(part)


@pytest.mark.parametrize("method", ["omp_after", "imp"])
def test_fine_tuning_keeps_the_last_rate(method):
    values = {**EVERY, **SCHEDULES["steps"]}
    folder = trained(method, {**values, "method.retrain": "fine_tune", "method.retrain_share": 0.3}, 0.5)
    assert rates(folder) == [pytest.approx(1.2e-3 * 0.01)] * 18
    assert rates(trained("dense", values))[-1] == rates(folder)[0]


@pytest.mark.parametrize("method", ["omp_after", "random_after", "imp"])
def test_what_survivors_start_from(method):
    values = {**EVERY, "method.retrain_share": 0.5}
    worker, early = begun("dense", EVERY)
    while early.step < 30:
        worker.step(early)
    expected = {"learning_rate": weights(trained("dense", EVERY)), "weights": early.model.state_dict()}
    expected["fine_tune"] = expected["learning_rate"]
    chosen = []
    for policy, source in expected.items():
        state = begun(method, {**values, "method.retrain": policy}, 0.5)[1]
        for name, value in state.model.state_dict().items():
            mask = state.masks[name] if name in state.weights else torch.ones_like(value, dtype=torch.bool)
            assert torch.equal(value, source[name] * mask), (policy, name)
        chosen.append(state.masks.checksum())
    assert len(set(chosen)) == 1, "the policy does not choose the masks"


def test_later_rounds_start_from_the_round_before_or_from_the_dense_training_at_that_step():
    values = {**EVERY, "method.rounds": 2, "method.retrain_share": 0.5, "method.rate": 0.5}
    for policy in ("learning_rate", "weights"):
        folders = line("imp", {**values, "method.retrain": policy})
        training.train(folders)
        state = begun("imp", {**values, "method.retrain": policy})[1]
        worker, early = begun("dense", EVERY)
        while early.step < 30:
            worker.step(early)
        source = weights(folders[1]) if policy == "learning_rate" else early.model.state_dict()
        for name, weight in state.weights.items():
            assert torch.equal(weight, source[name] * state.masks[name])


def test_the_whole_schedule_again_is_what_it_was():
    """``full``, and learning-rate rewinding over the whole schedule, are one thing under two names."""
    first = trained("omp_after", EVERY)
    other = trained("omp_after", {**EVERY, "method.retrain": "learning_rate"})
    assert first != other and training.equal(weights(first), weights(other))
    assert "retrain" not in record.read_config(first)["variant"]


@pytest.mark.parametrize(
    "values, message",
    [
        ({"method.retrain": "rewind"}, "must be one of full, fine_tune, learning_rate, weights"),
        ({"method.retrain": "fine_tune", "method.retrain_share": 0}, r"must be in \(0, 1\]"),
        ({"method.retrain_share": 0.5}, "is for method.retrain=fine_tune"),
        ({"method.distill": -1}, "must not be negative"),
        ({"method.temperature": 0}, "must be above 0"),
    ],
)
def test_what_cannot_work_is_said_before_training(values, message):
    with pytest.raises(UserError, match=message):
        line("omp_after", values)


def test_policies_and_rewinding_do_not_contradict_each_other():
    with pytest.raises(UserError, match=r"method\.rewind is for method\.retrain=full"):
        line("imp", {"method.retrain": "weights", "method.rewind": "3"})
    with pytest.raises(UserError, match="a fresh initialisation has no weights to keep"):
        line("imp_reinit", {"method.retrain": "fine_tune"})


# --- distillation -----------------------------------------------------------------------------------------------------


def forward(state, worker, position=0):
    batch = worker.batch(worker.order(position), position)
    worker.loss(state.network, batch)
    return batch


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_loss_is_the_divergence_from_the_dense_networks_answers(temperature):
    values = {"method.distill": 0.5, "method.temperature": temperature}
    worker, state = begun("omp_after", values, 0.9)
    state.model.train()
    inputs = forward(state, worker)[0]
    found = worker.method.penalty(state)
    dense = worker.build_seeded("initialisation")
    dense.load_state_dict(weights(trained("dense")))
    with torch.no_grad():
        student, teacher = state.model(inputs) / temperature, dense(inputs) / temperature
        divergence = (softmax(teacher, -1) * (log_softmax(teacher, -1) - log_softmax(student, -1))).sum(-1).mean()
    assert found.item() == pytest.approx(0.5 * temperature**2 * divergence.item(), rel=1e-4)
    assert found.item() > 0


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    worker, state = begun("omp_after", {"method.distill": 1.0}, 0.0)
    state.model.train()
    forward(state, worker)
    loss = worker.method.penalty(state)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert all(parameter.grad is None for parameter in worker.method.teacher.model.parameters())
    assert all(p.grad.abs().max() < 1e-5 for p in state.model.parameters())


def test_it_changes_the_training_and_brings_the_student_nearer():
    def distance(folder):
        worker, state = begun("omp_after", {}, 0.97)
        state.load(weights(folder))
        dense = worker.build_seeded("initialisation")
        dense.load_state_dict(weights(trained("dense")))
        inputs = torch.stack([worker.batch(worker.order(0), 0)[0]]).flatten(0, 1)
        with torch.no_grad():
            return (softmax(state.model.eval()(inputs), -1) - softmax(dense.eval()(inputs), -1)).abs().mean().item()

    plain, taught = (trained("omp_after", {"method.distill": d}, 0.97) for d in (0.0, 5.0))
    assert distance(taught) < distance(plain)


def test_it_is_resumed_bit_for_bit():
    folders = line("omp_after", {"method.distill": 1.0, "run.seed": 8}, 0.9)
    training.train(folders[:-1])
    folder = folders[-1]
    for step in (5, 23, 15):
        assert training.attempt(folder, Death("step", call=step)) == -signal.SIGKILL
    assert training.attempt(folder) == 0
    killed = training.result(folder)
    for path in folder.iterdir():
        if path.name != "config.yaml":
            path.unlink()
    training.train([folder])
    assert training.result(folder) == killed


def test_a_network_without_logits_is_refused(monkeypatch):
    class Scalar(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 1)

        def forward(self, inputs):
            return self.layer(inputs.flatten(1))[:, 0]

    from tasks.classic.trainer import Trainer

    monkeypatch.setattr(Trainer, "build", lambda self: Scalar())
    monkeypatch.setattr(Trainer, "loss", lambda self, model, batch: model(batch[0]).square().mean())
    worker, state = begun_without_parent("omp_after", {"method.distill": 1.0})
    state.model.train()
    forward(state, worker)
    with pytest.raises(UserError, match="returns logits of two or more classes"):
        worker.method.penalty(state)


def begun_without_parent(method, values):
    """A stage whose dense parent has the initial weights."""
    from common.stage import run

    folders = line(method, {**values, "run.seed": 11})
    worker = run.trainer(record.read_config(folders[-1]))

    class Dense:
        def of_root(self):
            return {n: v.clone() for n, v in worker.build_seeded("initialisation").state_dict().items()}

    return worker, worker.begin(Dense())


def test_the_closed_form_on_two_classes():
    """Teacher 3:1, student 1:1: KL = 3/4 log(3/2) + 1/4 log(1/2), times T^2 = 1."""
    from common.training.distillation import Teacher

    class Fixed(nn.Module):
        def __init__(self, logits):
            super().__init__()
            self.logits = nn.Parameter(torch.tensor(logits))

        def forward(self, inputs):
            return self.logits.expand(len(inputs), 2)

    class State:
        model = Fixed([0.0, 0.0])
        build = staticmethod(lambda: Fixed([0.0, 0.0]))

        class parent:
            of_root = staticmethod(lambda: {"logits": torch.tensor([math.log(3.0), 0.0])})

    teacher = Teacher(State, 1.0)
    State.model(torch.zeros(4, 1))
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert teacher.loss().item() == pytest.approx(expected, rel=1e-5)
