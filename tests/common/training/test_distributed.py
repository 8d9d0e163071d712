"""Several processes train one stage: the same batches, masks and resume points as one, and no rank waits for ever."""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from common import paths, record, registry, seeds
from common import sparsity as sp
from common.settings.run import Run, complaints_of_run
from common.stage import run
from common.training import optimization
from common.training.interruption import SAVE
from common.training.processes import rendezvous, team, watchdog
from common.training.resume import checkpoint
from common.training.trainer import Trainer
from tests.support import ranks, training
from tests.support.training import Death, Noisy, Toy

TWO = {"run.processes": 2}
SHORT = {"run.steps": 30, "run.evaluate_every": 10, "run.checkpoint_every": 0, "method.every": 4}


def values(method, **more):
    found = {**TWO, **SHORT, **more}
    return found if method in ("rigl", "gmp") else {k: v for k, v in found.items() if k != "method.every"}


def status(folder) -> dict:
    return record.read_json(paths.status(folder))


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Double(Toy):
    """In float64, so that the order of additions does not show."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.inputs, self.targets = self.inputs.double(), self.targets.double()

    def build(self):
        return super().build().double()


class Telling(Toy):
    """Writes down which batches each rank is asked for."""

    given: Path

    def batch(self, indices, position):
        with open(self.given / f"batches-{self.team.rank}", "a") as file:
            file.write(f"[{position}, {indices.tolist()}]\n")
        return super().batch(indices, position)


# --- the same training ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dense", "gmp", "rigl"])
def test_two_processes_take_the_steps_that_one_takes(method, monkeypatch):
    monkeypatch.setattr("tasks.classic.trainer.Trainer", Double)
    steps = {"run.accumulate": 2, "run.batch_size": 8, "run.log_every": 1, "run.clip_norm": 0.5}
    two = training.trained(method, values(method, **steps))
    one = training.trained(method, {**values(method, **steps), "run.processes": 1})
    assert (training.summary(one)["processes"], training.summary(two)["processes"]) == (1, 2)
    first, second = training.weights(one), training.weights(two)
    assert first["0.weight"].dtype == torch.float64
    for name, weight in first.items():
        assert torch.allclose(weight, second[name], rtol=1e-9, atol=1e-12), name
    assert training.equal(training.masks(one), training.masks(two))
    for line, other in zip(training.lines(one), training.lines(two), strict=True):
        assert line == pytest.approx(other, rel=1e-9)
    assert files(one) == files(two), "the second process leaves nothing"


def test_the_penalty_counts_once(monkeypatch):
    """Every process adds it to its own share's loss, and the shares are averaged."""
    monkeypatch.setattr("tasks.classic.trainer.Trainer", Double)
    gmp = registry.method("gmp")
    monkeypatch.setattr(gmp, "penalty", lambda self, state: 0.1 * state.model[0].weight.square().sum())
    one, two = (training.trained("gmp", {**values("gmp"), "run.processes": n}) for n in (1, 2))
    assert torch.allclose(training.weights(one)["0.weight"], training.weights(two)["0.weight"], rtol=1e-9, atol=1e-12)


def test_a_parameter_that_the_loss_does_not_reach_is_no_error(monkeypatch):
    class Spare(Double):
        def build(self):
            model = super().build()
            model.spare = torch.nn.Linear(2, 2).double()
            return model

    class Skipping(torch.nn.Sequential):
        def forward(self, inputs):
            return self[2](self[1](self[0](inputs)))

    monkeypatch.setattr("tests.support.training.nn.Sequential", Skipping)
    monkeypatch.setattr("tasks.classic.trainer.Trainer", Spare)
    one, two = (training.trained("rigl", {**values("rigl"), "run.processes": n}) for n in (1, 2))
    assert training.equal(training.masks(one), training.masks(two))
    assert torch.allclose(training.weights(one)["0.weight"], training.weights(two)["0.weight"], rtol=1e-9, atol=1e-12)


def test_each_example_of_a_micro_batch_is_in_one_share_and_noise_of_the_data_differs(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.classic.trainer.Trainer", Telling)
    monkeypatch.setattr(Telling, "given", tmp_path, raising=False)
    training.trained("dense", values("dense", **{"run.accumulate": 2, "run.batch_size": 8, "run.steps": 6}))
    found = [(tmp_path / f"batches-{rank}").read_text().splitlines() for rank in (0, 1)]
    found = [[json.loads(line) for line in lines] for lines in found]
    order = optimization.Order(seeds.derive(0, "data"), Toy.size, 8)
    assert len(found[0]) == len(found[1]) == 12
    for micro, ((first, mine), (second, other)) in enumerate(zip(*found, strict=True)):
        assert (first, second) == (2 * micro, 2 * micro + 1)
        assert mine + other == order(micro).tolist()


@pytest.mark.parametrize("method, sparsity", [("gmp", 0.8), ("rigl", 0.9), ("snip", 0.8), ("imp", 0.75)])
def test_masks_are_the_same_on_both_ranks_and_the_sparsity_is_exact(method, sparsity, monkeypatch, tmp_path):
    fit = Trainer.fit

    def told(self, folder, *arguments):
        state = fit(self, folder, *arguments)
        found = [state.masks.checksum(), sp.checksum(sp.snapshot(state.model)), os.getpid()]
        record.write_json(tmp_path / f"{folder.name}-{self.team.rank}", found)
        return state

    monkeypatch.setattr(Trainer, "fit", told)
    more = {"method.rewind": 7} if method == "imp" else {}  # no snapshot stands there: both train to it again
    folders = training.line(method, values(method, **more), sparsity)
    training.train(folders)
    for folder in folders:
        found = [record.read_json(tmp_path / f"{folder.name}-{rank}") for rank in (0, 1)]
        assert found[0][:2] == found[1][:2] and found[0][2] != found[1][2]
        assert found[0][0] == training.summary(folder)["masks"]
    kept = sum(int(mask.sum()) for mask in training.masks(folders[-1]).values())
    total = sum(mask.numel() for mask in training.masks(folders[-1]).values())
    assert kept == round((1 - sparsity) * total)
    if method == "imp":
        assert paths.snapshot(folders[0], 7).exists()


# --- stopping, saving, resuming ---------------------------------------------------------------------------------------


@pytest.fixture(params=[Toy, Noisy], ids=["plain", "noisy"])
def noise(request, monkeypatch):
    monkeypatch.setattr("tasks.classic.trainer.Trainer", request.param)
    return request.param


def again(folder) -> None:
    for path in folder.iterdir():
        if path.name != "config.yaml":
            path.unlink()


def test_a_wish_of_one_rank_moves_all_at_the_same_step_and_nothing_shows_in_the_end(noise, monkeypatch):
    folder = training.line("gmp", values("gmp"))[-1]
    assert run.execute(folder) == "done"
    expected = training.result(folder)
    again(folder)

    saved, save = [], checkpoint.save_resume_point
    monkeypatch.setattr(checkpoint, "save_resume_point", lambda f, c: saved.append(c["step"]) or save(f, c))
    assert ranks.together(folder, {1: training.answers({7: "the time limit is near"})}) == ["stopped", "stopped"]
    found = status(folder)
    assert (found["state"], found["reason"], found["step"]) == ("stopped", "the time limit is near", 7)
    content = checkpoint.load(paths.checkpoint(folder))
    assert content["step"] == 7 and len(content["random_ranks"]) == 1
    assert torch.equal(content["random_ranks"][0]["cpu"], content["random"]) is False, "each rank has its own noise"

    stops = {1: training.answers({2: SAVE}), 0: training.answers({11: "asked to stop"})}
    assert ranks.together(folder, stops, "1_0-1") == ["stopped", "stopped"]
    assert checkpoint.load(paths.previous_checkpoint(folder))["step"] == 9, "saved for rank 1, and trained on"
    assert checkpoint.load(paths.checkpoint(folder))["step"] == 18

    assert ranks.together(folder, token="1_0-2") == ["done", "done"]
    assert training.result(folder) == expected
    assert (status(folder)["attempt"], status(folder)["job"]) == (3, "1_0-2")
    assert ranks.together(folder, token="1_0-3") == ["done", "done"], "and done is done"


def test_killed_as_a_whole_a_stage_of_two_processes_ends_as_if_nothing_had_happened(noise, monkeypatch, tmp_path):
    settings = {**values("rigl"), "run.checkpoint_every": 5}
    folder = training.line("rigl", settings)[-1]
    assert run.execute(folder) == "done"
    expected = training.result(folder)
    again(folder)
    begin = Trainer.begin

    def told(self, parent):
        record.write_text(tmp_path / f"process-{self.team.rank}", str(os.getpid()))
        return begin(self, parent)

    monkeypatch.setattr(Trainer, "begin", told)
    for death in (Death("step", call=8), Death("writing", "checkpoint.next.pt"), Death("before", "summary.json")):
        assert training.attempt(folder, death) == -signal.SIGKILL
        assert ranks.gone(int((tmp_path / "process-1").read_text())), "no process outlives the first"
    assert training.attempt(folder) == 0
    assert training.result(folder) == expected


def test_with_four_processes_too_nothing_of_an_interruption_shows(monkeypatch):
    """Sums of more than two numbers depend on their order: it must not depend on how often training was resumed."""
    monkeypatch.setattr("tasks.classic.trainer.Trainer", Noisy)
    folder = training.line("gmp", {**values("gmp"), "run.processes": 4, "run.steps": 8})[-1]
    assert run.execute(folder) == "done"
    expected = training.result(folder)
    again(folder)
    assert run.execute(folder, training.answers({3: "asked to stop"})) == "stopped"
    assert run.execute(folder) == "done"
    assert training.result(folder) == expected


def test_a_resume_point_that_one_rank_cannot_see_is_not_trained_past(monkeypatch):
    """As on nodes that do not share their file system."""
    folder = training.line("gmp", values("gmp"))[-1]
    assert run.execute(folder, training.answers({7: "asked to stop"})) == "stopped"
    monkeypatch.setattr("common.training.resume.restore.PATIENCE", 0.2)
    load, own = checkpoint.load_resume_point, os.getpid()
    monkeypatch.setattr(checkpoint, "load_resume_point", lambda *a: load(*a) if os.getpid() == own else (None, []))
    assert run.execute(folder) == "failed"
    reason = status(folder)["reason"]
    assert reason.startswith("rank 1: ") and "cannot read the resume point of step 7" in reason and "share" in reason


# --- what goes wrong --------------------------------------------------------------------------------------------------


def on_step(monkeypatch, action, step=5):
    """``action(rank)`` in every process after so many steps."""
    original = registry.method("gmp").on_step

    def call(self, state):
        original(self, state)
        if state.step == step:
            action(state._trainer.team.rank)

    monkeypatch.setattr(registry.method("gmp"), "on_step", call)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_raises_fails_the_stage_with_its_reason(rank, monkeypatch):
    def wrong(found):
        if found == rank:
            raise KeyError(f"no such thing in rank {rank}")

    on_step(monkeypatch, wrong)
    folder, began = training.line("gmp", values("gmp"))[-1], time.monotonic()
    assert run.execute(folder) == "failed"
    assert ranks.together(folder) == ["failed", "failed"]
    assert time.monotonic() - began < 15
    assert f"no such thing in rank {rank}" in status(folder)["reason"]
    assert f"no such thing in rank {rank}" in paths.error(folder).read_text()
    assert ("rank 1: KeyError" in status(folder)["reason"]) == (rank == 1)
    assert not [name for name in files(folder) if "rendezvous" in name]


def test_a_rank_that_is_killed_ends_the_others(monkeypatch):
    on_step(monkeypatch, lambda rank: training.die() if rank == 1 else None)
    folder, began = training.line("gmp", values("gmp"))[-1], time.monotonic()
    assert run.execute(folder) == "failed"
    assert "rank 1 was killed by signal 9, SIGKILL" in status(folder)["reason"]
    assert ranks.together(folder) == ["failed", "killed"]
    assert "lost contact with another process" in status(folder)["reason"]
    assert time.monotonic() - began < 20


def test_the_first_rank_killed_ends_the_others(monkeypatch):
    on_step(monkeypatch, lambda rank: training.die() if rank == 0 else None)
    folder, began = training.line("gmp", values("gmp"))[-1], time.monotonic()
    assert ranks.together(folder) == ["killed", "failed"]
    assert time.monotonic() - began < 15
    assert status(folder)["state"] == "running", "nobody else writes: what is seen is a killed stage"


def test_a_rank_that_hangs_is_noticed_by_its_silence(monkeypatch):
    """As where a node lost its power: connections do not break."""
    for name, value in {"BEAT": 0.05, "SILENT": 20, "GRACE": 0.5}.items():
        monkeypatch.setattr(watchdog, name, value)
    on_step(monkeypatch, lambda rank: os.kill(os.getpid(), signal.SIGSTOP) if rank == 1 else None)
    folder = training.line("gmp", values("gmp"))[-1]
    monkeypatch.setattr(ranks, "REST", 0.5)
    assert ranks.together(folder) == ["left", "hung"]
    assert status(folder)["state"] == "failed"
    assert "rank 1 gave no sign of life" in status(folder)["reason"]


def test_masks_that_differ_between_ranks_are_caught(monkeypatch):
    def method(self, state):
        pools = sp.allocate("global", state.weights, 0.5)
        score = sp.random_score(state.weights, state._trainer.team.rank)
        state.set_masks(sp.select(score, pools))

    folder = training.line("gmp", values("gmp"))[-1]
    with monkeypatch.context() as context:
        context.setattr(registry.method("gmp"), "start", method)
        assert run.execute(folder) == "failed"
    assert "masks at the start differ between the processes" in status(folder)["reason"]
    assert "rank 1 not as rank 0" in status(folder)["reason"]
    with monkeypatch.context() as context:
        context.setattr(registry.method("gmp"), "on_step", lambda self, state: state.step == 9 and method(self, state))
        assert run.execute(folder) == "failed"
    assert "masks after step 9 differ" in status(folder)["reason"]
    assert not paths.weights(folder).exists()


def test_masks_that_move_on_one_rank_alone_are_caught(monkeypatch):
    """No rank waits in an exchange that the other does not take part in."""

    def on_step(self, state):
        if state._trainer.team.rank and state.step == 9:
            state.set_masks({name: bits.logical_not() for name, bits in state.masks.bits.items()})

    monkeypatch.setattr(registry.method("gmp"), "on_step", on_step)
    folder = training.line("gmp", values("gmp"))[-1]
    assert run.execute(folder) == "failed"
    assert "masks after step 9 differ" in status(folder)["reason"]


def test_weights_that_differ_between_ranks_are_caught(monkeypatch):
    def begin(self, parent, original=Trainer.begin):
        state = original(self, parent)
        with torch.no_grad():
            next(state.model.parameters()).add_(self.team.rank)
        return state

    monkeypatch.setattr(Trainer, "begin", begin)
    folder = training.line("gmp", values("gmp"))[-1]
    assert run.execute(folder) == "failed"
    assert "weights at the start differ" in status(folder)["reason"]


def test_a_loss_that_is_not_finite_in_one_share_fails_all_alike(monkeypatch):
    class Breaking(Toy):
        def loss(self, model, batch):
            return super().loss(model, batch) * (float("nan") if self.team.rank and model.training else 1)

    monkeypatch.setattr("tasks.classic.trainer.Trainer", Breaking)
    folder = training.line("gmp", values("gmp"))[-1]
    assert run.execute(folder) == "failed"
    assert status(folder)["reason"].startswith("NotFinite: the loss is not finite at step 0")


# --- meeting ----------------------------------------------------------------------------------------------------------


def test_a_rank_that_never_comes_is_named():
    folder = training.line("gmp", values("gmp"))[-1]
    with pytest.raises(RuntimeError, match=r"rank 1 of 2 did not come within 0 seconds"):
        rendezvous.join(folder, 0, 2, "token", patience=0.3)
    with pytest.raises(RuntimeError, match=r"rank 1 did not meet rank 0 within 0 seconds"):
        rendezvous.join(folder, 1, 2, "token", patience=0.3)
    assert files(folder) == ["config.yaml"]


def test_a_rank_that_dies_before_it_comes_is_not_waited_for(monkeypatch):
    join = rendezvous.join
    monkeypatch.setattr(rendezvous, "join", lambda f, rank, *a, **k: training.die() if rank else join(f, rank, *a, **k))
    folder = training.line("gmp", values("gmp"))[-1]
    assert run.execute(folder) == "failed"
    assert "rank 1 was killed by signal 9" in status(folder)["reason"]


def test_an_address_of_an_earlier_attempt_is_not_used_and_is_cleaned_up():
    folder = training.line("gmp", values("gmp", **{"run.steps": 5}))[-1]
    old = folder / ".rendezvous.1_0-0.tmp"
    record.write_json(old, {"host": "elsewhere", "addresses": ["192.0.2.1"], "port": 9})
    assert ranks.together(folder, token="1_0-1") == ["done", "done"]
    assert not old.exists()


@pytest.mark.parametrize("token", ["1_0-0", "1_0-1"])
def test_the_first_rank_is_found_under_any_of_its_addresses_and_only_the_right_one(token, tmp_path):
    file, end = tmp_path / "meeting", time.monotonic() + 5
    store = rendezvous._open(file, token)
    told = record.read_json(file)
    record.write_json(file, {**told, "host": "elsewhere", "addresses": ["255.255.255.255", "127.0.0.1"]})
    if token == "1_0-0":
        assert rendezvous._find(file, "1_0-0", 1, end, 5).get("token") == b"1_0-0"
        assert store.get("address") == b"127.0.0.1"
    else:  # the port of an attempt that is over was given to another
        with pytest.raises(RuntimeError, match=r"cannot reach rank 0 on elsewhere.*127\.0\.0\.1 is another process"):
            rendezvous._find(file, "1_0-0", 1, end, 5)


def test_all_ranks_hear_that_another_process_has_the_stage():
    folder = training.line("gmp", values("gmp"))[-1]
    with open(paths.lock(folder), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ranks.together(folder) == ["busy", "busy"]


def test_blocked_is_blocked_in_all_ranks():
    folder = training.line("omp_after", values("omp_after"))[-1]
    assert ranks.together(folder) == ["blocked", "blocked"]
    assert status(folder)["state"] == "blocked"


def test_as_many_processes_as_the_stage_asks_for():
    folder = training.line("gmp", values("gmp", **{"run.processes": 1}))[-1]
    assert ranks.together(folder) == ["failed", "failed"]
    assert "run.processes=1, and 2 processes were started" in status(folder)["reason"]


H100 = ["a", "b"]
PLACES = [  # host and GPUs of each rank; backend, place on its node and GPU of each
    ([("n1", []), ("n1", [])], [("gloo", 0, None), ("gloo", 1, None)]),
    ([("n1", H100), ("n1", H100)], [("cpu:gloo,cuda:nccl", 0, 0), ("cpu:gloo,cuda:nccl", 1, 1)]),
    ([("n1", ["a"]), ("n1", ["b"])], [("cpu:gloo,cuda:nccl", 0, 0), ("cpu:gloo,cuda:nccl", 1, 0)]),
    ([("n1", ["a"]), ("n2", ["a"])], [("cpu:gloo,cuda:nccl", 0, 0), ("cpu:gloo,cuda:nccl", 0, 0)]),
    ([("n1", ["a"]), ("n1", ["a"])], [("gloo", 0, 0), ("gloo", 1, 0)]),
    ([("n1", H100)] * 3, [("gloo", 0, 0), ("gloo", 1, 1), ("gloo", 2, 0)]),
    ([("n1", ["a"]), ("n2", [])], [("gloo", 0, None), ("gloo", 0, None)]),
]


@pytest.mark.parametrize("here, expected", PLACES)
def test_every_rank_gets_a_gpu_of_its_own_where_there_are_enough(here, expected):
    assert rendezvous.places([{"host": host, "gpus": gpus} for host, gpus in here]) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_the_interface_that_leads_to_an_address():
    assert rendezvous._interface("127.0.0.1") == "lo"


def test_one_process_needs_no_meeting(tmp_path):
    assert rendezvous.join(tmp_path, 0, 1, "token") is team.ALONE


def test_a_batch_that_cannot_be_split_evenly_is_refused_before_anything_starts():
    assert complaints_of_run(Run(batch_size=60, processes=4)) == []
    found = complaints_of_run(Run(batch_size=60, processes=8))
    assert len(found) == 1 and "run.processes=8 must divide run.batch_size=60" in found[0]
    assert complaints_of_run(Run(processes=0)) == ["run.processes must be above 0, found 0"]
