"""The loop: what happens in one step and in which order, what stops it, what it reports."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from common import paths, record
from common.errors import UserError
from common.methods import gmp
from common.settings.run import Run
from common.stage import run
from common.training import optimization
from common.training.trainer import NotFinite
from tests.support import training
from tests.support.training import Toy, toy

# --- the order --------------------------------------------------------------------------------------------------------

STEP = [
    "train mode", "batch", "loss", "penalty", "batch", "loss", "penalty", "on_gradients", "mask gradients", "clip",
    "optimizer", "mask weights", "on_step",
]  # fmt: skip


def spied(monkeypatch, worker, state) -> list[str]:
    """Names of calls, as they come."""
    seen: list[str] = []

    def spy(owner, attribute, name):
        original = getattr(owner, attribute)

        def call(*arguments, **named):
            if not (name == "train mode" and arguments == (False,)):
                seen.append(name)
            return original(*arguments, **named)

        monkeypatch.setattr(owner, attribute, call)

    spy(state.model, "train", "train mode")
    spy(worker, "batch", "batch")
    spy(worker, "loss", "loss")
    spy(worker.method, "penalty", "penalty")
    spy(worker.method, "on_gradients", "on_gradients")
    spy(worker.method, "on_step", "on_step")
    spy(state.masks, "apply_to_gradients", "mask gradients")
    spy(nn.utils, "clip_grad_norm_", "clip")
    spy(state.optimizer, "step", "optimizer")
    spy(state.masks, "apply", "mask weights")
    return seen


def test_one_step_goes_in_the_documented_order(monkeypatch):
    worker, state = toy(method="random_before", values={"run.accumulate": 2, "run.clip_norm": 1})
    seen = spied(monkeypatch, worker, state)
    worker.step(state)
    assert seen == STEP


def test_a_topology_update_replaces_the_step(monkeypatch):
    values = {"run.accumulate": 2, "run.clip_norm": 1, "method.every": 3}
    worker, state = toy(method="rigl", values=values)
    for _ in range(3):
        worker.step(state)
    before, seen = state.masks.checksum(), spied(monkeypatch, worker, state)
    worker.step(state)
    masked = ["mask weights"]  # those that the update drops
    assert seen == STEP[: STEP.index("on_gradients") + 1] + masked + ["on_step"]
    assert state.masks.checksum() != before
    assert state.step == 4


def test_attach_comes_before_the_optimizer_and_start_once_on_a_fresh_stage_only(monkeypatch):
    seen = []
    monkeypatch.setattr(gmp.Method, "attach", lambda self, state: seen.append(("attach", hasattr(state, "optimizer"))))
    monkeypatch.setattr(gmp.Method, "start", lambda self, state: seen.append(("start", hasattr(state, "optimizer"))))
    folder = training.line("gmp")[-1]
    left = [15]

    def stop():
        left[0] -= 1
        return "asked to stop" if left[0] < 0 else None

    assert run.execute(folder, stop) == "stopped"
    assert seen == [("attach", False), ("start", True)]
    assert run.execute(folder) == "done"
    assert seen == [("attach", False), ("start", True), ("attach", False)]


def test_every_loss_of_training_is_taken_in_training_mode():
    """A mid-epoch evaluation must not leave the model in evaluation mode (a fault of SMC-Bench's protein scripts)."""
    modes = []

    class Watching(Toy):
        def loss(self, model, batch):
            if torch.is_grad_enabled():
                modes.append(model.training)
            return super().loss(model, batch)

    worker, _ = toy(Watching, values={"run.evaluate_every": 1})
    folder = training.line("dense")[-1]
    worker.fit(folder, "digest", None, lambda: None)
    assert len(worker.evaluated) == 60
    assert modes == [True] * 60


@pytest.mark.parametrize("micro, parts", [(250, 1), (125, 2), (700, 1), (1000, 1)])
def test_validation_can_be_looked_at_once_an_epoch(micro, parts):
    folder = training.trained("dense", {"run.evaluate_every": 0, "run.batch_size": micro, "run.accumulate": parts})
    examples = run.trainer(record.read_config(folder)).examples()
    epochs = [step * micro * parts // examples for step in range(61)]
    ends = [step for step in range(1, 61) if epochs[step] > epochs[step - 1]]
    looks = [line["step"] for line in training.lines(folder) if "validation_score" in line]
    assert looks == sorted({*ends, 60}) and len(ends) == epochs[-1] > 8


def test_the_penalty_is_part_of_the_loss_and_counts_once_however_batches_are_split():
    class Penalised(Toy):
        def loss(self, model, batch):
            return super().loss(model, batch) * 0

    for micro, parts in ((8, 1), (2, 4)):
        worker, state = toy(Penalised, values={"run.batch_size": micro, "run.accumulate": parts})
        weight = state.model[0].weight
        worker.method.penalty = lambda state: 3 * state.model[0].weight.sum()
        expected = 3 * weight.sum().item()
        seen = []
        worker.method.on_gradients = lambda state, seen=seen: seen.append(state.model[0].weight.grad.clone())
        assert worker.step(state) == pytest.approx(expected)
        assert torch.allclose(seen[0], torch.full_like(weight, 3.0))


# --- accumulation -----------------------------------------------------------------------------------------------------


def runs_of(method, split, values=None):
    micro, parts = split
    worker, state = toy(method=method, values={"run.batch_size": micro, "run.accumulate": parts, **(values or {})})
    history = []
    while state.step < state.steps:
        worker.step(state)
        history.append(state.masks.checksum())
    return history, training.copy(state.model.state_dict())


@pytest.mark.parametrize("method", ["rigl", "gmp", "snip", "random_before"])
def test_eight_micro_batches_of_one_move_the_same_weights_as_one_batch_of_eight(method):
    """SMC-Bench counts micro-batches and grows from a gradient that is partly accumulated and not yet averaged."""
    values = {"run.steps": 30, "run.optimizer": "sgd"}
    if method == "snip":
        values["method.batches"] = 8  # the score itself is over batches of the micro-batch size
    whole, together = runs_of(method, (8, 1), values)
    split, apart = runs_of(method, (1, 8), {**values, **({"method.batches": 64} if method == "snip" else {})})
    assert whole == split
    moved = [step for step in range(2, 31) if whole[step - 1] != whole[step - 2]]
    assert moved == {"rigl": [8, 15], "gmp": [10, 17, 24]}.get(method, [])  # every 7 optimizer steps, from 0 and from 3
    for name, value in together.items():
        assert torch.allclose(value, apart[name], atol=1e-5), name


def test_the_method_sees_the_dense_average_over_all_micro_batches():
    worker, state = toy(method="random_before", values={"run.batch_size": 4, "run.accumulate": 5})
    seen = []
    worker.method.on_gradients = lambda state: seen.append(training.copy(state.gradients()))
    indices = torch.cat([worker.order(position) for position in range(5)])
    loss = Toy.loss(worker, state.model, worker.batch(indices, 0))
    expected = dict(zip(state.weights, torch.autograd.grad(loss, list(state.weights.values())), strict=True))
    worker.step(state)
    for name, gradient in expected.items():
        assert torch.allclose(seen[0][name], gradient, atol=1e-6)
        assert torch.count_nonzero(seen[0][name][~state.masks[name]]) > 0, "growth needs gradients where nothing lives"


# --- masks, momentum, decay and clipping ------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("method", ["gmp", "rigl", "random_before"])
def test_dead_weights_and_their_momentum_are_zero_after_every_step(method, optimizer):
    values = {"run.optimizer": optimizer, "run.weight_decay": 0.1, "run.momentum": 0.9, "run.steps": 40}
    worker, state = toy(method=method, values=values)
    while state.step < state.steps:
        worker.step(state)
        for name, weight in state.weights.items():
            dead = ~state.masks[name]
            assert torch.count_nonzero(weight[dead]) == 0
            for key, value in state.optimizer.state.get(weight, {}).items():
                if torch.is_tensor(value) and value.shape == weight.shape:
                    assert torch.count_nonzero(value[dead]) == 0, key


@pytest.mark.parametrize("method", ["gmp", "granet", "rigl", "random_before"])
def test_no_evaluation_sees_a_dead_weight_and_what_is_selected_is_as_sparse_as_the_end(method):
    """Whatever weight decay moves is zero again by then; the best weights from before the target would be denser."""

    class Looking(Toy):
        seen = 0

        def begin(self, parent):
            self.state = super().begin(parent)
            return self.state

        def evaluate(self, model, split):
            self.seen += 1
            for name, weight in self.state.weights.items():
                assert torch.count_nonzero(weight[~self.state.masks[name]]) == 0
            return {**super().evaluate(model, split), "loss": float(self.seen)}  # the earlier the better

    values = {"run.evaluate_every": 1, "run.weight_decay": 0.1, "run.optimizer": "sgd", "run.momentum": 0.9}
    worker, _ = toy(Looking, method=method, values=values)
    state = worker.fit(training.line(method)[-1], "digest", None, lambda: None)
    assert worker.seen == 60 and worker.best["step"] < 60
    assert state.masks.kept == round(0.2 * state.masks.total)
    for name in state.weights:
        assert torch.count_nonzero(worker.best["model"][name][~state.masks[name]]) == 0


def test_the_norm_that_is_clipped_is_that_of_living_weights():
    """SMC-Bench clips by the dense norm, so that pruned coordinates shrink the step of the living ones."""
    values = {"run.optimizer": "sgd", "run.momentum": 0, "run.clip_norm": 0.001, "run.learning_rate": 1}
    worker, state = toy(method="random_before", values=values, sparsity=0.9)
    before = training.copy(state.model.state_dict())
    worker.step(state)
    moved = torch.cat([(before[n] - v).reshape(-1) for n, v in state.model.state_dict().items()])
    assert moved.norm().item() == pytest.approx(0.001, rel=1e-3)


def test_bfloat16_keeps_float32_weights_and_trains(monkeypatch):
    """SMC-Bench masks working copies only, so that a stale master value comes back; here weights are the masters."""
    kinds = set()

    class Watching(Toy):
        def loss(self, model, batch):
            kinds.add(model(batch[0]).dtype)
            return super().loss(model, batch)

    worker, state = toy(Watching, method="rigl", values={"run.precision": "bfloat16"})
    losses = [worker.step(state) for _ in range(state.steps)]
    assert kinds == {torch.bfloat16}
    assert {value.dtype for value in state.model.state_dict().values()} == {torch.float32}
    assert min(losses[-10:]) < losses[0]
    assert all(torch.count_nonzero(w[~state.masks[n]]) == 0 for n, w in state.weights.items())


def test_groups_scale_the_learning_rate():
    class Grouped(Toy):
        def parameter_groups(self, model):
            return [{"params": model[0].parameters(), "scale": 0.0}, {"params": model[2].parameters(), "scale": 0.5}]

    values = {"run.optimizer": "sgd", "run.momentum": 0, "run.learning_rate": 0.1, "run.schedule": "linear"}
    worker, state = toy(Grouped, values=values)
    plain, plain_state = toy(values=values)
    before = training.copy(state.model.state_dict())
    worker.step(state)
    plain.step(plain_state)
    after, full = state.model.state_dict(), plain_state.model.state_dict()
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert torch.allclose(
        after["2.weight"] - before["2.weight"], (full["2.weight"] - before["2.weight"]) / 2, atol=1e-7
    )
    worker.step(state)
    assert [group["lr"] for group in state.optimizer.param_groups] == [0.0, pytest.approx(0.05 * (1 - 1 / 60))]


# --- what is not finite -----------------------------------------------------------------------------------------------


class Breaking(Toy):
    """Goes wrong in the second micro-batch of a step."""

    at, how = -1, "loss"

    def loss(self, model, batch):
        loss = super().loss(model, batch)
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls != 2 * self.at:
            return loss
        if self.how == "loss":
            return loss * float("nan")
        return loss + (model[0].weight * 0).abs().sqrt().sum()  # a finite loss; its gradient is NaN


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("method", ["rigl", "gmp"])
def test_what_is_not_finite_stops_the_stage_and_moves_nothing(method, how):
    """At a step on which the topology is due, so that nothing could hide behind it (SMC-Bench drops the mask there)."""
    values = {"run.accumulate": 2, "run.batch_size": 10, "method.every": 10 if method == "rigl" else 2}
    worker, state = toy(Breaking, method=method, values=values)
    worker.at, worker.how = 11, how
    for _ in range(10):
        worker.step(state)
    weights, masks = training.copy(state.model.state_dict()), state.masks.checksum()
    moments = {k: training.copy(v) for k, v in state.optimizer.state_dict()["state"].items()}
    with pytest.raises(NotFinite, match=f"the {how} is not finite at step 10 "):
        worker.step(state)
    assert training.equal(weights, state.model.state_dict())
    assert (state.masks.checksum(), state.step) == (masks, 10)
    now = state.optimizer.state_dict()["state"]
    assert all(training.equal(values, now[key]) for key, values in moments.items())
    assert all(parameter.grad is None for parameter in state.model.parameters())


def test_a_stage_that_diverges_fails_with_the_step_and_keeps_its_lines(monkeypatch):
    folder = training.line("gmp", {"run.learning_rate": 1e30})[-1]
    assert run.execute(folder) == "failed"
    status = record.read_json(paths.status(folder))
    assert "is not finite at step" in status["reason"] and "smaller run.learning_rate" in status["reason"]
    assert "NotFinite" in paths.error(folder).read_text()
    assert not paths.done(folder).exists()


@pytest.mark.parametrize(
    "answer, said",
    [
        ({"score": 1.0, "los": 2.0, "constant": False}, "found no loss among score, los, constant"),
        ({"score": 1.0}, "found no loss, no constant among score"),
        (1.0, "must return a dictionary with score, loss, constant (docs/task.md), found 1.0"),
        ({"score": torch.ones(()), "loss": 2.0, "constant": False}, "score must be a number, found Tensor"),
    ],
)
def test_what_a_task_must_say_of_an_evaluation_and_does_not_is_named(answer, said):
    worker, _ = toy()
    worker.evaluate = lambda model, split: answer
    with pytest.raises(UserError, match=r"^tasks/classic/trainer.py: evaluate\(model, 'validation'\)") as refused:
        worker.fit(training.line("dense")[-1], "digest", None, lambda: None)
    assert said in str(refused.value)


class Own(Toy):
    """Keeps its data in an attribute of its own: the loop reads none."""

    planned_data = "planned"


def test_the_loop_compares_the_data_wherever_a_task_keeps_them_or_says_that_it_could_not():
    def fitted(worker):
        worker.fit(training.line("dense")[-1], "digest", None, lambda: None)
        return [text for text in worker.warnings if "not compared with those planned" in text]

    assert len(fitted(toy(Own)[0])) == 1 and not fitted(toy()[0])
    for kind, checksum in (("attribute", "planned"), ("property", "planned"), ("attribute", ""), ("property", "other")):
        found = SimpleNamespace(**({"checksum": checksum} if checksum else {}))
        cls = type("Mine", (Own,), {"data": property(lambda self, found=found: found)} if kind == "property" else {})
        worker, _ = toy(cls)
        if kind == "attribute":
            worker.data = found
        for path in training.line("dense")[-1].glob("checkpoint*"):
            path.unlink()
        if checksum == "other":
            with pytest.raises(UserError, match="the data changed since planning"):
                fitted(worker)
        else:
            assert len(fitted(worker)) == (not checksum)


def test_a_validation_loss_that_is_not_a_number_is_never_the_best():
    """Nothing is larger than NaN: taken for the best once, it would stay so."""

    class Odd(Toy):
        def evaluate(self, model, split):
            found = super().evaluate(model, split)
            return {**found, "loss": math.nan if len(self.evaluated) < 3 else found["loss"]}

    worker, _ = toy(Odd)
    worker.fit(training.line("dense")[-1], "digest", None, lambda: None)
    assert worker.best["step"] >= 30


def test_a_batch_larger_than_the_training_set_is_refused():
    """It would hold examples twice; with a slip of the pen it is filled until the memory is."""
    worker, _ = toy(values={"run.batch_size": 100_000})
    with pytest.raises(UserError, match=r"run\.batch_size is 100000 and there are \d+ training examples"):
        worker.fit(training.line("dense")[-1], "digest", None, lambda: None)


# --- learning rate ----------------------------------------------------------------------------------------------------

BASE = Run(learning_rate=0.4)
RATES = {
    "constant": lambda x: 0.4,
    "linear": lambda x: 0.4 * (1 - x),
    "cosine": lambda x: 0.2 * (1 + math.cos(math.pi * x)),
    "steps": lambda x: 0.4 if x < 0.5 else 0.04 if x < 0.75 else 0.004,
}


def test_every_schedule_is_compared_with_something():
    assert {*RATES, "one_cycle"} == set(Run.__dataclass_fields__["schedule"].metadata["choices"])


@pytest.mark.parametrize("schedule", RATES)
@given(steps=st.integers(1, 1000), step=st.integers(0, 999))
def test_learning_rates_are_closed_forms(schedule, steps, step):
    step = min(step, steps - 1)
    found = optimization.learning_rate(replace(BASE, schedule=schedule), step, steps)
    assert found == pytest.approx(RATES[schedule](step / steps), rel=1e-9)


@given(warmup=st.integers(1, 50), step=st.integers(0, 99))
def test_warm_up_is_linear_reaches_the_peak_and_the_schedule_follows(warmup, step):
    run = replace(BASE, schedule="linear", warmup_steps=warmup)
    found = optimization.learning_rate(run, step, 100)
    expected = 0.4 * (step + 1) / warmup if step < warmup else 0.4 * (1 - (step - warmup) / (100 - warmup))
    assert found == pytest.approx(expected)
    assert 0 < found <= 0.4 + 1e-12


@given(steps=st.integers(3, 300), share=st.floats(0, 1))
def test_one_cycle_is_what_torch_s_scheduler_gives_by_default(steps, share):
    rising = 2 + round(share * (steps - 3))  # torch divides by nothing for a rise of one step, or a fall of none
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.4, steps, pct_start=rising / steps)
    run, expected = replace(BASE, schedule="one_cycle", warmup_steps=rising), []
    for _ in range(steps):
        expected += scheduler.get_last_lr()
        optimizer.step()
        if len(expected) < steps:
            scheduler.step()
    found = [optimization.learning_rate(run, step, steps) for step in range(steps)]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert max(found) == found[rising - 1] == 0.4 and min(found) == found[-1]
    short = replace(run, warmup_steps=1)  # no step to rise in: from the peak down
    assert optimization.learning_rate(short, 0, steps) == 0.4


def test_the_rate_that_is_logged_is_the_one_that_was_used():
    values = {"run.schedule": "linear", "run.learning_rate": 0.06, "run.log_every": 1}
    folder = training.trained("random_before", values)
    rates = [line["learning_rate"] for line in training.lines(folder) if "loss" in line]
    assert rates == pytest.approx([0.06 * (1 - step / 60) for step in range(60)])


# --- data order -------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**63 - 1), examples=st.integers(1, 60), size=st.integers(1, 70), epochs=st.integers(1, 4))
def test_every_pass_sees_each_example_once(seed, examples, size, epochs):
    order = optimization.Order(seed, examples, size)
    batches = -(-examples * epochs // size)
    stream = torch.cat([order(position) for position in range(batches)])
    assert len(stream) == batches * size
    for epoch in range(epochs):
        passed = stream[epoch * examples : (epoch + 1) * examples]
        assert sorted(passed.tolist()) == list(range(examples))


@given(positions=st.lists(st.integers(0, 40), max_size=20))
def test_a_batch_depends_on_seed_and_position_alone(positions):
    reference = [optimization.Order(3, 50, 7)(position).tolist() for position in range(41)]
    order = optimization.Order(3, 50, 7)
    assert [order(position).tolist() for position in positions] == [reference[position] for position in positions]
    assert optimization.Order(4, 50, 7)(0).tolist() != reference[0]


def test_methods_at_one_seed_see_the_same_batches_and_start_from_the_same_weights():
    seen = {}
    for method in ("dense", "snip", "rigl"):
        worker, state = training.begun(method, start=False)
        start = training.copy(state.model.state_dict())
        worker.method.start(state)
        seen[method] = start, [worker.order(position).tolist() for position in range(70)]
    for start, batches in seen.values():
        assert training.equal(start, seen["dense"][0])
        assert batches == seen["dense"][1]


def test_other_seeds_differ_in_everything():
    first, second = (training.begun("random_before", {"run.seed": seed}) for seed in (0, 1))
    assert first[0].order(0).tolist() != second[0].order(0).tolist()
    assert not torch.equal(first[1].weights["fc1.weight"], second[1].weights["fc1.weight"])
    assert first[1].masks.checksum() != second[1].masks.checksum()


# --- reports ----------------------------------------------------------------------------------------------------------


class Frozen(Toy):
    """Its head is trainable, but no optimizer has it (a fault of SMC-Bench's protein scripts)."""

    def parameter_groups(self, model):
        return [{"params": model[0].parameters()}]


def test_parameters_that_never_move_are_reported():
    folder = training.line("dense")[-1]
    worker, state = toy(Frozen)
    state = worker.fit(folder, "digest", None, lambda: None)
    assert worker.unmoved(state) == ["2.weight", "2.bias"]
    worker, state = toy()
    assert worker.unmoved(worker.fit(training.line("dense", {"run.seed": 9})[-1], "digest", None, lambda: None)) == []


def test_an_empty_tensor_has_nothing_to_move():
    """Such as the embeddings of constants, of a data set that has none."""

    class Empty(Toy):
        def build(self):
            model = super().build()
            model.register_parameter("constants", torch.nn.Parameter(torch.empty(0, 32)))
            return model

    worker, state = toy(Empty)
    assert "constants" in dict(state.model.named_parameters())
    assert worker.unmoved(worker.fit(training.line("dense", {"run.seed": 8})[-1], "digest", None, lambda: None)) == []


@pytest.mark.parametrize("method, final", [("gmp", 48), ("rigl", 45)])  # shares 0.8 and 0.75 of 60 steps
def test_selection_starts_when_the_masks_are_final(method, final):
    """Earlier weights, denser or of another topology, score better and are not the method's result."""

    class Ageing(Toy):
        def evaluate(self, model, split):
            self.evaluated.append(split)
            return {"score": -len(self.evaluated), "loss": float(len(self.evaluated)), "constant": False}

    worker, _ = toy(Ageing, method=method, values={"run.evaluate_every": 1})
    worker.fit(training.line(method)[-1], "digest", None, lambda: None)
    assert worker.best["step"] == final


def test_steps_from_epochs_count_examples_once_whatever_the_split():
    for split in ((8, 1), (2, 4), (1, 8)):
        values = {"run.steps": 0, "run.epochs": 2.5, "run.batch_size": split[0], "run.accumulate": split[1]}
        assert toy(values=values)[1].steps == 20


def test_a_gpu_that_is_asked_for_and_not_there_is_an_error():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    folder = training.line("dense", {"run.device": "cuda"})[-1]
    assert run.execute(folder) == "failed"
    assert "torch sees no GPU here" in record.read_json(paths.status(folder))["reason"]


def test_random_numbers_outside_a_stream_go_on_as_if_it_had_not_been():
    worker, _ = toy()
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    with worker.random_stream("some", "stream"):
        inside = torch.rand(4)
    assert torch.equal(torch.rand(4), expected)
    with worker.random_stream("some", "stream"):
        assert torch.equal(torch.rand(4), inside)
    assert not torch.equal(inside, expected)
