"""One stage from its folder: what it refuses, what it writes, in which order, and what its summary says."""

import errno
import fcntl
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.nn.utils import parametrizations

from common import paths, record, registry
from common import sparsity as sp
from common.stage import identity, run, summary
from common.training.resume import checkpoint, rewinding
from tests.support import training
from tests.support.training import Noisy, Toy


def status(folder) -> dict:
    return record.read_json(paths.status(folder))


def edit(folder, change) -> None:
    content = record.read_config(folder)
    change(content)
    record.write_text(paths.config(folder), yaml.safe_dump(content, sort_keys=False))


# --- what it refuses --------------------------------------------------------------------------------------------------


def test_blocked_until_its_parent_is_done():
    parent, folder = training.line("omp_after")
    assert run.execute(folder) == "blocked"
    assert status(folder)["state"] == "blocked"
    assert f"the stage it starts from, {parent.name}, is not finished" in status(folder)["reason"]
    assert not paths.metrics(folder).exists()
    training.train([parent, folder])


@pytest.mark.parametrize("content", ["0123456789abcdef\n", ""])
def test_blocked_when_the_parents_mark_is_not_its_own(content):
    parent, folder = training.line("omp_after")
    training.train([parent])
    paths.done(parent).write_text(content)
    assert run.execute(folder) == "blocked"


@pytest.mark.parametrize("group, key, value", [("run", "learning_rate", 0.5), ("method", "sparsity", 0.9)])
def test_settings_changed_after_planning_are_refused(group, key, value):
    """The folder's name would claim another training than the one that ran."""
    folder = training.line("gmp")[-1]
    edit(folder, lambda content: content["settings"][group].update({key: value}))
    assert run.execute(folder) == "failed"
    assert "was changed after planning" in status(folder)["reason"] and folder.name in status(folder)["reason"]


def test_settings_that_determine_nothing_may_change():
    folder = training.line("gmp")[-1]
    edit(folder, lambda content: content["settings"]["run"].update({"log_every": 30}))
    assert run.execute(folder) == "done"
    assert [line["step"] for line in training.lines(folder) if "loss" in line] == [30, 60]


def test_a_stage_of_another_parent_is_refused():
    folder = training.line("omp_after")[-1]
    edit(folder, lambda content: content.update(parent="0123456789abcdef"))
    assert run.execute(folder) == "failed"


def test_a_moved_folder_is_refused(tmp_path):
    folder = training.line("gmp")[-1]
    folder.rename(folder.with_name("0123456789abcdef"))
    assert run.execute(folder.with_name("0123456789abcdef")) == "failed"


def test_data_that_changed_since_planning_is_refused(monkeypatch):
    folder = training.line("gmp")[-1]
    monkeypatch.setattr(identity, "fingerprint", lambda task, settings: "ffff")
    assert run.execute(folder) == "failed"
    assert "the data changed since planning" in status(folder)["reason"] and "ffff" in status(folder)["reason"]


def test_weights_replaced_after_they_were_checked_are_not_trained_from(tmp_path, monkeypatch):
    file = tmp_path / "weights.pt"
    torch.save(torch.nn.Linear(1, 1).state_dict(), file)
    folder = training.line("dense", {"task.pretrained": file})[-1]
    real = identity.fingerprint

    def replace(task, settings):
        found = real(task, settings)
        torch.save(torch.nn.Linear(2, 2).state_dict(), file)
        return found

    with monkeypatch.context() as context:
        context.setattr(identity, "fingerprint", replace)
        assert run.execute(folder) == "failed"
    assert "the data changed since planning" in status(folder)["reason"]
    assert run.execute(folder) == "failed", "a later attempt in this process must not trust the first one's answer"
    assert "the data changed since planning" in status(folder)["reason"]


def test_the_weights_of_a_stage_are_pretrained_weights(tmp_path):
    done = training.line("dense")[-1]
    assert run.execute(done) == "done"
    model = checkpoint.load(paths.weights(done))["model"]
    torch.save(model, tmp_path / "plain.pt")
    for file in (paths.weights(done).absolute(), tmp_path / "plain.pt"):
        built = run.trainer(record.read_config(training.line("dense", {"task.pretrained": file})[-1])).build()
        assert all(torch.equal(value, model[name]) for name, value in built.state_dict().items())


def test_weights_that_do_not_fit_are_one_sentence(tmp_path):
    torch.save(torch.nn.Linear(1, 1).state_dict(), tmp_path / "weights.pt")
    folder = training.line("dense", {"task.pretrained": tmp_path / "weights.pt"})[-1]
    assert run.execute(folder) == "failed"
    assert "does not fit task.model=lenet-300-100" in status(folder)["reason"]


def test_code_of_another_version_is_refused(monkeypatch):
    folder = training.line("gmp")[-1]
    monkeypatch.setattr(registry.method("gmp"), "version", 99)
    assert run.execute(folder) == "failed"
    assert "this code is" in status(folder)["reason"] and "99" in status(folder)["reason"]


HOLD = (
    "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('held', flush=True); time.sleep(600)"
)


def test_busy_while_another_process_holds_the_lock_and_free_when_it_dies():
    folder = training.line("gmp")[-1]
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(paths.lock(folder))], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        assert run.execute(folder) == "busy"
        assert not paths.status(folder).exists(), "the other process's files are not touched"
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert run.execute(folder) == "done"
    assert run.execute(folder) == "done", "and done is done"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_trained_on_with_a_warning(number, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder = training.line("gmp")[-1]
    assert run.execute(folder, training.answers({9: "asked to stop"})) == "stopped"
    assert run.execute(folder) == "done"
    warnings = training.summary(folder)["warnings"]
    assert len(warnings) == 1 and "cannot be locked" in warnings[0] and os.strerror(number) in warnings[0]


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_a_lock_that_is_held_is_no_file_system_without_locks(number, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert run.execute(training.line("gmp")[-1]) == "busy"


def test_marks_of_an_attempt_are_in_its_status_and_in_no_other():
    folder = training.line("gmp")[-1]
    seen = []
    stop = training.answers({9: lambda: seen.append(status(folder)), 10: "asked to stop"})
    assert run.execute(folder, stop, {"job": "12_3", "node": "n1", "state": "queued"}) == "stopped"
    assert (seen[0]["job"], seen[0]["node"], seen[0]["state"]) == ("12_3", "n1", "running")
    assert (status(folder)["job"], status(folder)["state"], status(folder)["step"]) == ("12_3", "stopped", 10)
    stop = training.answers({0: lambda: seen.append(status(folder)), 1: "asked to stop"})
    assert run.execute(folder, stop, {"job": "13_0"}) == "stopped"
    assert (seen[1]["job"], seen[1]["attempt"], seen[1]["step"]) == ("13_0", 2, 10)
    assert "node" not in status(folder)
    assert run.execute(folder) == "done"
    assert not {"job", "node"} & set(status(folder))


@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_a_mark_without_a_whole_summary_is_no_end(content):
    """The same question as the planner's, so that no stage is done for one and not for the other."""
    parent, folder = training.line("omp_after")
    training.train([parent])
    expected = training.result(parent)
    paths.summary(parent).unlink()
    if content is not None:
        paths.summary(parent).write_text(content)
    assert run.execute(folder) == "blocked"
    seen = []
    assert run.execute(parent, lambda: seen.append(paths.done(parent).exists())) == "done"
    assert len(seen) == 60 and not any(seen), "while it is trained it has no mark"
    assert training.result(parent) == expected


def test_a_summary_that_cannot_be_read_now_does_not_undo_the_stage(monkeypatch):
    folder = training.trained("gmp")
    read = record.read_json

    def failing(path, default=None):
        if Path(path).name == "summary.json":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return read(path, default)

    with monkeypatch.context() as context:
        context.setattr(record, "read_json", failing)
        assert run.execute(folder) == "failed"
    assert "Input/output error" in status(folder)["reason"]
    assert paths.done(folder).exists()
    assert run.execute(folder) == "done"


def test_what_is_raised_inside_is_recorded(monkeypatch):
    def wrong(self, state):
        raise KeyError("no such thing")

    folder = training.line("gmp")[-1]
    with monkeypatch.context() as context:
        context.setattr(registry.method("gmp"), "on_step", wrong)
        assert run.execute(folder) == "failed"
    assert status(folder)["state"] == "failed" and "no such thing" in status(folder)["reason"]
    assert status(folder)["seconds"] > 0
    assert "Traceback" in paths.error(folder).read_text()
    assert run.execute(folder) == "done"
    assert status(folder)["reason"] is None and status(folder)["attempt"] == 2
    assert not paths.error(folder).exists()


# --- what it writes ---------------------------------------------------------------------------------------------------

FIELDS = {
    "task": str, "dataset": str, "model": str, "method": str, "sparsity_target": float, "sparsity": float,
    "sparsity_all": float, "seed": int, "metric": str, "score": float, "score_validation": float, "steps": int,
    "epochs": float, "collapsed": bool, "digest": str, "parent": (str, type(None)), "variant": str,
    "replicate": str, "data": str, "collapse": list,
    "zeros": float, "target_met": bool, "selection": str, "scored_step": int, "best_step": int, "baseline": float,
    "test_loss": float,
    "measurements": dict, "unmoved": list, "layers": dict, "masks": str, "weights": str, "seconds": float,
    "device": str, "torch": str,
    "threads": int, "processes": int, "commit": str, "warnings": list,
}  # fmt: skip


@pytest.mark.parametrize("method", ["dense", "omp_after", "imp"])
def test_the_summary_has_every_field(method):
    folder = training.trained(method)
    found = training.summary(folder)
    assert list(found) == list(FIELDS), "the first sixteen are a contract, in this order"
    for name, kind in FIELDS.items():
        assert isinstance(found[name], kind), name
    assert (found["task"], found["dataset"], found["model"]) == ("classic", "digits", "lenet-300-100")
    assert (found["method"], found["seed"], found["digest"]) == (method, 0, folder.name)
    assert found["sparsity_target"] == (0.0 if method == "dense" else 0.8)
    assert found["epochs"] == pytest.approx(60 * 20 / 1257)
    assert found["unmoved"] == [] and not found["collapsed"] and found["target_met"]
    assert 8 < found["baseline"] < 12
    name, *sums = paths.done(folder).read_text().splitlines()
    files = [paths.summary(folder), paths.config(folder), paths.weights(folder)]
    assert name == folder.name
    assert sums == [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in files]


def test_a_sparsity_that_is_not_the_one_asked_for_is_no_target_met(monkeypatch):
    """Half an atom is rounding; a method may declare that its target is a wish."""
    snip = registry.method("snip")
    monkeypatch.setattr(snip, "target", property(lambda self: 0.5))
    for tolerance, met in ((None, False), (0.29, False), (0.31, True)):
        monkeypatch.setattr(snip, "tolerance", tolerance)
        found = training.summary(training.trained("snip", {"run.seed": round(100 * (tolerance or 0)), "run.steps": 3}))
        assert (found["sparsity_target"], found["sparsity"], found["target_met"]) == (0.8, 0.5, met)


def test_a_method_without_a_target_is_filed_under_what_it_arrives_at():
    """Nobody asked for a sparsity: there is none to miss."""
    folder = training.line("dense", {"run.steps": 3})[-1]
    stage = record.read_config(folder)
    worker = run.trainer(stage)
    assert summary.target({**stage, "sparsity": None}, worker, worker.begin(None)) is None


def test_the_status_has_every_field():
    folder = training.trained("gmp")
    found = status(folder)
    expected = ("state", "step", "steps", "updated", "started", "attempt", "reason", "host", "pid", "committed")
    assert set(expected) <= set(found)
    assert (found["state"], found["steps"], found["attempt"], found["pid"]) == ("done", 60, 1, os.getpid())


@pytest.mark.parametrize("select", ["last", "best_loss", "best_score"])
def test_what_is_scored_is_what_was_selected(select):
    folder = training.trained("gmp", {"run.select": select, "run.learning_rate": 0.02})
    found, lines = training.summary(folder), training.lines(folder)
    validated = {line["step"]: line for line in lines if "validation_loss" in line}
    settled = {step: line for step, line in validated.items() if step >= 48}
    best = {
        "last": 60,
        "best_loss": min(settled, key=lambda step: settled[step]["validation_loss"]),
        "best_score": max(settled, key=lambda step: (settled[step]["validation_score"], -step)),
    }[select]
    assert (found["selection"], found["scored_step"]) == (select, best)
    assert found["score_validation"] == validated[best]["validation_score"]
    scored = paths.selected(folder) if paths.selected(folder).exists() else paths.weights(folder)
    assert paths.selected(folder).exists() == (best != 60)
    worker = run.trainer(record.read_config(folder))
    model = worker.build_seeded("any")
    sp.restore(model, checkpoint.load(scored)["model"])
    assert worker.evaluate(model.eval(), "test")["score"] == found["score"]
    assert worker.evaluate(model.eval(), "validation")["score"] == found["score_validation"]


def test_files_appear_in_their_order_and_the_mark_last(monkeypatch):
    folder, seen, replace = training.line("dense")[-1], [], os.replace
    monkeypatch.setattr(
        os, "replace", lambda a, b: seen.append((Path(b).name, paths.done(folder).exists())) or replace(a, b)
    )
    assert run.execute(folder) == "done"
    names = list(dict.fromkeys(name for name, _ in seen))
    order = ["status.json", "snapshot-0.pt", "snapshot-1.pt", "snapshot-3.pt", "checkpoint.next.pt", "checkpoint.pt"]
    assert names == [*order, "checkpoint.previous.pt", "weights.pt", "summary.json", "DONE"]
    assert [name for name, done in seen if done] == ["status.json"], "after the mark, only the status"
    left = sorted(path.name for path in folder.iterdir())
    assert left == sorted(["config.yaml", "lock", "metrics.jsonl", "weights.pt", "summary.json", "DONE", *order[:4]])


def test_resume_points_follow_the_clock_too(monkeypatch):
    folder = training.line("gmp", {"run.checkpoint_every": 0, "run.checkpoint_seconds": 5})[-1]
    clock, saved = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    save = checkpoint.save_resume_point
    monkeypatch.setattr(checkpoint, "save_resume_point", lambda f, c: saved.append(c["step"]) or save(f, c))

    def tick():
        clock[0] += 1.0

    assert run.execute(folder, tick) == "done"
    assert saved == [6, 13, 20, 27, 34, 41, 48, 55]  # looked at before stop(), which is when this clock ticks


def test_warming_up_reads_the_data_and_draws_nothing():
    folder = training.line("gmp")[-1]
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    run.warm(folder)
    assert torch.equal(torch.rand(3), expected)
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]


# --- what the summary tells -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, best", [("weights.pt", False), ("weights.pt", True), ("selected.pt", True)])
def test_a_weight_alive_outside_its_mask_is_found_in_the_saved_file(monkeypatch, name, best):
    """The sparsity that is reported is that of the numbers on disk, not of what the masks claim.

    Of both files where the best step is scored: later stages start from the last.
    """
    save, losses = checkpoint.save, itertools.count()

    def tampered(path, content):
        if path.name == name:
            weight, bits = content["model"]["fc2.weight"], content["masks"]["bits"]["fc2.weight"]
            dead = (~sp.unpack(bits, weight.shape)).nonzero()[0]
            weight[tuple(dead)] = 1e-30
        save(path, content)

    def worse(self, model, split):
        return {"score": 0.0, "loss": float(next(losses)), "constant": False}

    folder = training.line("random_before", {"run.select": "best_loss" if best else "last"})[-1]
    with monkeypatch.context() as context:
        context.setattr(checkpoint, "save", tampered)
        context.setattr("tasks.classic.trainer.Trainer.evaluate", worse)
        assert run.execute(folder) == "failed"
    assert "fc2.weight has living weights outside its mask" in status(folder)["reason"]
    assert not paths.done(folder).exists() and not paths.summary(folder).exists()


def test_zeros_are_counted_whatever_the_masks_say(monkeypatch):
    """A network may have more zeros than were pruned; both numbers are told."""

    class Dead(Toy):
        def build(self):
            model = super().build()
            with torch.no_grad():
                model[0].weight[:10] = 0
            return model

        def parameter_groups(self, model):
            return [{"params": model[2].parameters()}]

    monkeypatch.setattr("tasks.classic.trainer.Trainer", Dead)
    found = training.summary(training.trained("dense"))
    assert found["sparsity"] == 0
    assert found["zeros"] == 10 * 12 / (20 * 12 + 3 * 20)


@pytest.mark.parametrize("method", ["rigl", "set", "granet", "snip", "grasp", "gmp"])
def test_frozen_weights_stay_as_they_are_and_are_named(monkeypatch, method):
    """Weights that grow in a frozen layer would stay zero, and scores by gradient have none there."""

    class Frozen(Toy):
        def build(self):
            model = super().build()
            model[0].weight.requires_grad_(False)
            return model

    monkeypatch.setattr("tasks.classic.trainer.Trainer", Frozen)
    more = {"method.every": 2} if method in ("rigl", "set", "granet", "gmp") else {}
    folder = training.trained(method, {"run.steps": 20, "method.sparsity": 0.5, **more})
    found = training.summary(folder)
    weights = checkpoint.load(paths.weights(folder))["model"]
    assert (weights["0.weight"] != 0).all() and int((weights["2.weight"] == 0).sum()) == 30
    assert "frozen weights are dense and in no count of the prunable set: 0.weight" in found["warnings"]


def test_an_output_left_to_nothing_under_weight_normalisation_is_the_masks_fault(monkeypatch):
    class Normalised(Toy):
        def build(self):
            model = super().build()
            with torch.no_grad():
                model[0].weight[3] = 1e-6
            return nn.Sequential(parametrizations.weight_norm(model[0]), *model[1:])

    monkeypatch.setattr("tasks.classic.trainer.Trainer", Normalised)
    folder = training.line("omp_before", {"run.steps": 5})[-1]
    assert run.execute(folder) == "failed"
    assert "0.parametrizations.weight.original1 is divided by the norm" in status(folder)["reason"]
    rows = {"run.steps": 5, "method.allocation": "rows"}
    assert run.execute(training.line("omp_before", rows)[-1]) == "done"


def test_a_constant_answer_is_a_collapse():
    folder = training.trained(
        "dense", {"run.learning_rate": 50.0, "run.optimizer": "sgd", "run.momentum": 0, "run.steps": 3}
    )
    found = training.summary(folder)
    assert found["collapsed"] and found["collapse"] == ["constant prediction"]
    assert found["score"] < 15


def test_a_layer_of_living_zeros_is_a_collapse_too(monkeypatch):
    def emptied(self, state):
        with torch.no_grad():
            state.weights["fc2.weight"].zero_()

    folder = training.line("gmp", {"run.select": "last"})[-1]
    with monkeypatch.context() as context:
        context.setattr(registry.method("gmp"), "on_step", emptied)
        assert run.execute(folder) == "done"
    found = training.summary(folder)
    assert "empty layer fc2.weight" in found["collapse"] and found["zeros"] > 0.5 and found["sparsity"] == 0


def test_an_empty_layer_is_a_collapse():
    found = training.summary(training.trained("snip", {"run.steps": 10}, 0.9998))
    empty = [name for name, layer in found["layers"].items() if layer["kept"] == 0]
    assert empty
    assert found["collapsed"] and set(found["collapse"]) >= {f"empty layer {name}" for name in empty}
    assert not set(empty) & set(found["unmoved"]), "what has no living weight cannot move: it is told once"


def test_a_frozen_head_is_reported(monkeypatch):
    """SMC-Bench's protein scripts never step the optimizer of their head, in dense training as well."""

    class Frozen(Toy):
        def parameter_groups(self, model):
            return [{"params": model[0].parameters()}]

    monkeypatch.setattr("tasks.classic.trainer.Trainer", Frozen)
    assert training.summary(training.trained("gmp"))["unmoved"] == ["2.bias"], "its weight was pruned, which is a move"
    assert training.summary(training.trained("dense"))["unmoved"] == ["2.weight", "2.bias"]


# --- early weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [None, Noisy])
@pytest.mark.parametrize("step", [7, 60])
def test_early_weights_that_were_not_kept_are_trained_again_bit_for_bit(task, step, monkeypatch):
    if task:
        monkeypatch.setattr("tasks.classic.trainer.Trainer", task)
    dense = training.trained("dense")
    worker, state = training.begun("dense")
    while state.step < step:
        worker.step(state)
    assert not paths.snapshot(dense, step).exists()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    again = rewinding.snapshot_of(worker, dense, step)
    assert torch.equal(torch.rand(2), expected), "the stage that asks goes on with its own random numbers"
    assert training.equal(again, sp.snapshot(state.model))
    assert training.equal(checkpoint.load(paths.snapshot(dense, step)), again), "and are kept for the next"
    if step == 60:
        assert training.equal(again, training.weights(dense))


@pytest.mark.parametrize("task", [None, Noisy])
def test_a_ticket_is_the_same_whether_its_early_weights_were_kept_or_not(task, monkeypatch):
    """Training them again must not shift the random numbers of the ticket's own training."""
    if task:
        monkeypatch.setattr("tasks.classic.trainer.Trainer", task)
    folders = training.line("imp", {"method.rewind": 7, "method.rounds": 1})
    training.train(folders)
    first = training.result(folders[-1])
    assert paths.snapshot(folders[0], 7).exists()
    for path in folders[-1].iterdir():
        if path.name != "config.yaml":
            path.unlink()
    training.train(folders[-1:])
    assert training.result(folders[-1]) == first


@pytest.mark.parametrize("rewind, wrong", [(7, 5), (7, 10), (58, 60)])
def test_early_weights_that_cannot_be_made_again_faithfully_are_refused(rewind, wrong):
    """The losses that were logged to the first one after the step asked for must come again."""
    folders = training.line("imp", {"method.rewind": rewind, "method.rounds": 1})
    training.train(folders[:1])
    lines = [json.loads(line) for line in paths.metrics(folders[0]).read_text().splitlines()]
    for line in lines:
        if line["step"] == wrong and "loss" in line:
            line["loss"] *= 1.001
    paths.metrics(folders[0]).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run.execute(folders[-1]) == "failed"
    reason = status(folders[-1])["reason"]
    assert f"rewinding to step {rewind} would not be faithful" in reason and f"at step {wrong}" in reason
    assert not paths.snapshot(folders[0], rewind).exists()


def test_a_step_beyond_the_dense_training_is_refused():
    folder = training.trained("dense")
    worker = run.trainer(record.read_config(folder))
    with pytest.raises(ValueError, match=r"method\.rewind=61 is beyond the 60 steps"):
        rewinding.snapshot_of(worker, folder, 61)
