"""A stage that was killed, stopped or damaged on the way ends as if nothing had happened, bit for bit."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from common import paths, record, registry
from common.stage import run
from common.training.interruption import SAVE
from common.training.resume import checkpoint
from launch.runs import state
from tests.support import training
from tests.support.places import ROOT
from tests.support.training import Death

# A rate at which the best step on validation is not the last one, so that selected weights are resumed too.
NOISY = {"run.learning_rate": 0.02}
# In every family an optimizer with momentum of the other kind, and accumulation, clipping and schedules, somewhere.
SETTINGS = {
    "dense": {**NOISY, "run.optimizer": "sgd", "run.weight_decay": 0.001, "run.select": "last"},
    "rigl": {**NOISY, "run.optimizer": "sgd", "run.schedule": "cosine", "run.accumulate": 2, "run.batch_size": 10},
    "gmp": {**NOISY, "run.clip_norm": 0.5, "run.schedule": "linear", "run.warmup_steps": 13},
    "snip": {**NOISY, "run.optimizer": "adamw", "run.weight_decay": 0.01, "run.precision": "bfloat16"},
}


def settings_of(method):
    return SETTINGS.get(method, NOISY)


def fresh(method, values=None):
    """The folder of an untrained stage whose parents are done."""
    folders = training.line(method, values or settings_of(method))
    training.train(folders[:-1])
    run.warm(folders[-1])  # as workers do: the processes forked from this one need not read the data again
    return folders[-1]


def empty_again(folder):
    for path in folder.iterdir():
        if path.name != "config.yaml":
            path.unlink()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a stage of a method leaves when nothing happens to it; trained once for this file."""
    found = {}

    def of(method, values=None):
        key = method, str(values)
        if key not in found:
            before = os.environ["RUNS"]
            os.environ["RUNS"] = str(tmp_path_factory.mktemp("undisturbed"))
            found[key] = training.result(training.trained(method, values or settings_of(method)))
            os.environ["RUNS"] = before
        return found[key]

    return of


# One life: every attempt goes on where the one before was killed. Resume points are due every ten steps.
DEATHS = [
    Death("writing", "status.json"),  # before anything is trained
    Death("step", call=4),  # before the first resume point
    Death("writing", "checkpoint.next.pt"),
    Death("before", "checkpoint.next.pt"),
    Death("step", call=18),  # after the resume point at step 10
    Death("after", "checkpoint.previous.pt", call=2),  # the older one moved aside, the newer one not yet in its place
    Death("writing", "checkpoint.next.pt", call=2),
    Death("after", "checkpoint.pt", call=2),
    Death("writing", "weights.pt"),
    Death("after", "weights.pt"),  # no summary
    Death("before", "summary.json"),
    Death("after", "summary.json"),  # no DONE
    Death("writing", "DONE"),
]


# Of these, what can happen to a stage without a step to train.
BRIEF = [death for death in DEATHS if death.when != "step" and "checkpoint" not in death.name]


@pytest.mark.parametrize("method", registry.methods())
def test_killed_again_and_again_a_stage_ends_as_if_never_disturbed(method, undisturbed):
    folder = fresh(method)
    deaths = DEATHS if undisturbed(method)["summary"]["steps"] else BRIEF
    assert (deaths is BRIEF) == (method == "omp_no_retraining")
    for death in deaths:
        assert training.attempt(folder, death) == -signal.SIGKILL, f"the trap {death} was not met"
        assert not paths.done(folder).exists()
    assert training.attempt(folder) == 0
    assert training.result(folder) == undisturbed(method)
    status = record.read_json(paths.status(folder))
    assert (status["state"], status["attempt"]) == ("done", len(deaths))  # the first died before it could count itself
    assert not training.summary(folder)["warnings"]  # a kill damages nothing


def test_some_of_these_stages_score_selected_weights(undisturbed):
    """Otherwise the tests above would say nothing about them."""
    assert any("selected.pt" in undisturbed(method)["files"] for method in registry.methods())


SHORT = {**NOISY, "run.steps": 9, "run.checkpoint_every": 4, "run.evaluate_every": 3, "run.log_every": 1}


def test_there_is_no_wrong_moment_to_be_killed(undisturbed):
    """At every write (halfway, before and after its renaming) and every flush to disk, one after another."""
    method = "dense"  # writes the most: snapshots too
    folder, moment, met = fresh(method, SHORT), 0, True
    while met:
        moment += 1
        met = training.attempt(folder, Death("event", call=moment)) == -signal.SIGKILL
        assert training.attempt(folder) == 0, f"killed at moment {moment}"
        assert training.result(folder) == undisturbed(method, SHORT), f"killed at moment {moment}"
        empty_again(folder)
    assert moment > 40


def test_killed_during_a_snapshot(undisturbed):
    folder = fresh("dense")
    for death in (
        Death("writing", "snapshot-0.pt"),
        Death("after", "snapshot-1.pt"),
        Death("writing", "snapshot-3.pt"),
    ):
        assert training.attempt(folder, death) == -signal.SIGKILL
    assert training.attempt(folder) == 0
    assert training.result(folder) == undisturbed("dense")


def test_killed_right_after_done_the_stage_is_done_and_the_next_call_tidies_up(undisturbed):
    folder = fresh("gmp")
    assert training.attempt(folder, Death("after", "DONE")) == -signal.SIGKILL
    assert paths.done(folder).exists() and paths.checkpoint(folder).exists()
    assert run.execute(folder) == "done"
    assert training.result(folder) == undisturbed("gmp")


COMMAND = "import sys; from pathlib import Path; from common.stage import run; print(run.execute(Path(sys.argv[1])))"


def test_a_process_started_afresh_is_killed_from_outside_and_another_one_finishes(undisturbed):
    """Nothing of what resuming needs lives in the process; and the kill comes when it comes."""
    values = {**settings_of("rigl"), "run.steps": 400}
    folder = fresh("rigl", values)
    process = subprocess.Popen([sys.executable, "-c", COMMAND, str(folder)], cwd=ROOT)
    end = time.monotonic() + 60
    while (record.read_json(paths.status(folder), {}).get("step") or 0) < 20:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not paths.done(folder).exists()
    assert run.execute(folder) == "done"
    assert training.result(folder) == undisturbed("rigl", values)


@pytest.mark.parametrize("method", ["dense", "snip", "rigl", "imp"])
def test_random_numbers_and_running_averages_are_resumed(method, monkeypatch, undisturbed):
    """Dropout goes on where it was; so do batch normalisation's buffers."""
    monkeypatch.setattr("tasks.classic.trainer.Trainer", training.Noisy)
    values = {**SETTINGS["gmp"], "method.rewind": 7} if method == "imp" else SETTINGS["gmp"]
    expected = undisturbed(method, {**values, "run.seed": 8})
    folder = fresh(method, {**values, "run.seed": 8})
    for death in (Death("step", call=7), Death("step", call=18), Death("before", "summary.json")):
        assert training.attempt(folder, death) == -signal.SIGKILL
    assert training.attempt(folder) == 0
    assert training.result(folder) == expected


def test_a_method_with_a_memory_of_its_own_gets_it_back(monkeypatch):
    """``state_dict`` and ``load_state_dict`` are all such a method needs."""
    method = registry.method("gmp")

    def on_step(self, state, original=method.on_step):
        original(self, state)
        self.memory = [*getattr(self, "memory", []), state.step]
        if state.step == 60:
            record.write_json(folder / "memory.json", self.memory)

    monkeypatch.setattr(method, "on_step", on_step)
    monkeypatch.setattr(method, "state_dict", lambda self: {"memory": self.memory})
    monkeypatch.setattr(method, "load_state_dict", lambda self, state: setattr(self, "memory", state["memory"]))
    folder = fresh("gmp")
    for call in (15, 22):
        assert training.attempt(folder, Death("step", call=call)) == -signal.SIGKILL
    assert training.attempt(folder) == 0
    assert json.loads((folder / "memory.json").read_text()) == list(range(1, 61))


def test_a_memory_that_nobody_takes_back_is_an_error(monkeypatch):
    folder = fresh("gmp")
    with monkeypatch.context() as context:
        context.setattr(registry.method("gmp"), "state_dict", lambda self: {"memory": 1})
        assert training.attempt(folder, Death("step", call=15)) == -signal.SIGKILL
    assert run.execute(folder) == "failed"
    assert "keeps no state" in record.read_json(paths.status(folder))["reason"]


@pytest.mark.parametrize("method", ["dense", "gmp", "imp", "rigl"])
def test_stopped_at_any_steps_and_resumed(method, undisturbed):
    """What Ctrl-C and a preempted job do: save at once, leave, go on later."""
    values = {**settings_of(method), "run.checkpoint_every": 0}
    folder = fresh(method, values)

    @settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.integers(0, 60), min_size=1, max_size=4))
    @example([0, 0, 1, 59])
    def check(pauses):
        for pause in pauses:
            left = [pause]

            def stop(left=left):
                left[0] -= 1
                return "asked to stop" if left[0] < 0 else None

            outcome = run.execute(folder, stop)
            assert outcome in ("stopped", "done")
            if outcome == "stopped":
                status = record.read_json(paths.status(folder))
                assert (status["state"], status["reason"]) == ("stopped", "asked to stop")
                assert status["committed"] == paths.metrics(folder).stat().st_size
        assert run.execute(folder) == "done"
        assert training.result(folder) == undisturbed(method, values)
        empty_again(folder)

    check()


@pytest.mark.parametrize("method", ["dense", "gmp", "imp", "rigl"])
def test_saved_on_request_a_stage_trains_on_and_ends_as_if_nobody_had_asked(method, undisturbed, monkeypatch):
    """What a job does that is told it may be killed soon: it is not killed yet."""
    values = {**settings_of(method), "run.checkpoint_every": 0}
    folder, saved, save = fresh(method, values), [], checkpoint.save_resume_point
    monkeypatch.setattr(checkpoint, "save_resume_point", lambda f, c: saved.append(c["step"]) or save(f, c))
    ask, during = training.answers({0: SAVE, 7: SAVE, 8: SAVE, 31: SAVE}), []

    def stop():
        status = record.read_json(paths.status(folder))
        during.append((status["state"], status["step"], paths.checkpoint(folder).exists()))
        return ask()

    assert run.execute(folder, stop) == "done"
    assert saved == [0, 7, 8, 31]
    assert [there for _, _, there in during] == [False] + [True] * 59
    assert {state for state, _, _ in during} == {"running"} and during[8][1] == 7
    assert training.result(folder) == undisturbed(method, values)


def test_killed_after_a_save_on_request_it_goes_on_from_there(undisturbed):
    values = {**settings_of("gmp"), "run.checkpoint_every": 0}
    folder = fresh("gmp", values)
    child = os.fork()
    if child == 0:
        run.execute(folder, training.answers({20: SAVE, 43: training.die}))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    steps = []
    assert run.execute(folder, lambda: steps.append(1)) == "done"
    assert len(steps) == 40
    assert training.result(folder) == undisturbed("gmp", values)


def test_asked_to_save_and_then_to_leave(undisturbed):
    values = {**settings_of("gmp"), "run.checkpoint_every": 0}
    folder = fresh("gmp", values)
    assert run.execute(folder, training.answers({5: SAVE, 6: "the time limit is near"})) == "stopped"
    assert checkpoint.load(paths.checkpoint(folder))["step"] == 6
    assert checkpoint.load(paths.previous_checkpoint(folder))["step"] == 5
    assert run.execute(folder) == "done"
    assert training.result(folder) == undisturbed("gmp", values)


def test_a_resume_point_of_before_stages_had_processes_is_resumed(undisturbed):
    folder = fresh("gmp")
    assert training.attempt(folder, Death("step", call=35)) == -signal.SIGKILL
    config = record.read_config(folder)
    del config["settings"]["run"]["processes"]
    record.write_text(paths.config(folder), yaml.safe_dump(config, sort_keys=False))
    for path in (paths.checkpoint(folder), paths.previous_checkpoint(folder)):
        content = checkpoint.load(path)
        checkpoint.save(path, {key: value for key, value in content.items() if key != "random_ranks"})
    steps = []
    assert run.execute(folder, lambda: steps.append(1)) == "done"
    assert len(steps) == 30
    assert training.result(folder) == undisturbed("gmp")


# --- damaged files ----------------------------------------------------------------------------------------------------


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def other_file(path):
    path.write_text("this is no checkpoint")


def foreign(path):
    content = checkpoint.load(path)
    checkpoint.save(path, {**content, "digest": "0123456789abcdef"})


def nameless(path):
    checkpoint.save(path, {"model": {}})


def maskless(path):
    content = checkpoint.load(path)
    del content["masks"]
    checkpoint.save(path, content)


DAMAGES = [cut, flip, empty, other_file, foreign, nameless, maskless]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("files", [1, 2])
def test_a_bad_resume_point_is_passed_over_with_a_warning(damage, files, undisturbed):
    """Back to the resume point before it; if that is bad too, to the start. The result is the same."""
    folder = fresh("gmp")
    assert training.attempt(folder, Death("step", call=35)) == -signal.SIGKILL
    bad = [paths.checkpoint(folder), paths.previous_checkpoint(folder)][:files]
    for path in bad:
        damage(path)
    steps = []
    assert run.execute(folder, lambda: steps.append(1)) == "done"
    assert len(steps) == (40 if files == 1 else 60)  # resume points stood at 20 and 30
    assert training.result(folder) == undisturbed("gmp")
    warnings = training.summary(folder)["warnings"]
    assert [str(path) in warning for path, warning in zip(bad, warnings, strict=True)] == [True] * files


def test_warnings_outlive_the_attempt_that_gave_them():
    folder = fresh("gmp")
    assert training.attempt(folder, Death("step", call=35)) == -signal.SIGKILL
    cut(paths.checkpoint(folder))
    assert training.attempt(folder, Death("step", call=15)) == -signal.SIGKILL
    assert run.execute(folder) == "done"
    assert len(training.summary(folder)["warnings"]) == 1


def test_lines_taken_back_are_no_longer_said_to_be_safe_to_read():
    folder = fresh("gmp")
    assert training.attempt(folder, Death("step", call=35)) == -signal.SIGKILL
    for path in (paths.checkpoint(folder), paths.previous_checkpoint(folder)):
        empty(path)
    assert record.read_json(paths.status(folder))["committed"] > 0
    assert training.attempt(folder, Death("step", call=5)) == -signal.SIGKILL
    assert record.read_json(paths.status(folder))["committed"] == 0


@pytest.fixture(scope="module")
def tensor_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "some.pt"
    checkpoint.save(path, {"model": {"weight": torch.arange(300.0)}, "step": 7, "text": "x" * 50})
    return path


@settings(max_examples=150)
@given(st.data())
def test_a_tensor_file_is_read_as_written_or_not_at_all(tensor_file, data):
    """One flipped bit anywhere, or a cut anywhere: never other numbers than were saved."""
    whole, content = checkpoint.load(tensor_file), bytearray(tensor_file.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    else:
        content = content[:position]
    damaged = tensor_file.with_name("damaged.pt")
    damaged.write_bytes(content)
    try:
        found = checkpoint.load(damaged)
    except checkpoint.DamagedFile as error:
        assert str(damaged) in str(error)
    else:
        assert torch.equal(found["model"]["weight"], whole["model"]["weight"])
        assert (found["step"], found["text"]) == (whole["step"], whole["text"])


def test_a_file_that_may_not_be_read_is_not_taken_for_damaged(tensor_file, monkeypatch):
    """Falling back would throw good work away."""

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(checkpoint.zipfile, "ZipFile", refuse)
    with pytest.raises(PermissionError):
        checkpoint.load(tensor_file)


def test_a_damaged_status_file_costs_nothing(undisturbed):
    folder = fresh("gmp")
    assert training.attempt(folder, Death("step", call=35)) == -signal.SIGKILL
    paths.status(folder).write_text('{"state": "runn')
    steps = []
    assert run.execute(folder, lambda: steps.append(1)) == "done"
    assert len(steps) == 30
    assert training.result(folder) == undisturbed("gmp")


@pytest.mark.parametrize("damage", [{"updated": "q"}, {"started": None}, {"seconds": []}, {"attempt": "many"}, [1]])
def test_a_status_of_wrong_types_costs_nothing(damage, undisturbed):
    folder = fresh("gmp")
    assert training.attempt(folder, Death("step", call=35)) == -signal.SIGKILL
    found = record.read_json(paths.status(folder))
    record.write_json(paths.status(folder), {**found, **damage} if isinstance(damage, dict) else damage)
    assert run.execute(folder) == "done"
    assert training.result(folder) == undisturbed("gmp")


def test_metric_lines_removed_by_hand_are_noticed():
    folder = fresh("gmp")
    assert training.attempt(folder, Death("step", call=35)) == -signal.SIGKILL
    paths.metrics(folder).write_text("")
    assert run.execute(folder) == "failed"
    assert "metric lines were removed by hand" in record.read_json(paths.status(folder))["reason"]


# --- the stage it starts from -----------------------------------------------------------------------------------------


def gone(path):
    path.unlink()


@pytest.mark.parametrize("method", ["omp_after", "imp"])
@pytest.mark.parametrize("damage", [cut, flip, foreign, gone])
def test_damaged_weights_of_the_parent_name_the_file_and_the_remedy_and_the_remedy_works(method, damage, undisturbed):
    folder = fresh(method)
    parent = folder.parent / record.read_config(folder)["parent"]
    damage(paths.weights(parent))
    assert run.execute(folder) == "failed"
    reason = record.read_json(paths.status(folder))["reason"]
    assert str(paths.weights(parent)) in reason
    assert "repeat 'make sweep': it trains that stage again" in reason
    if damage is gone:  # which plans see by themselves
        paths.done(parent).unlink()
    else:
        assert state.of_plan(parent) == (state.DAMAGED, f"{record.fault(parent)}; it is trained again")
        assert str(paths.weights(parent)) in record.fault(parent) and not record.finished(parent)
    assert run.execute(parent) == "done"
    assert run.execute(folder) == "done"
    assert training.result(folder) == undisturbed(method)  # and no error.txt of what is mended


def test_a_damaged_snapshot_is_made_again(undisturbed):
    values = {**NOISY, "method.rewind": 3}
    folder = fresh("imp", values)
    snapshot = paths.snapshot(training.line("dense", NOISY)[0], 3)
    flip(snapshot)
    assert run.execute(folder) == "done"
    assert training.result(folder) == undisturbed("imp", values)
    checkpoint.load(snapshot)


# --- a full disk ------------------------------------------------------------------------------------------------------


class Disk:
    """A disk that is full for tensor files from the ``fills``-th write on, or for everything."""

    def __init__(self, monkeypatch, fills: int, everything: bool = False):
        self.left, self.everything = fills, everything
        self.fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self.full)

    def full(self, file):
        name = os.readlink(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}")
        if self.everything or "checkpoint" in name:
            self.left -= 1
        if self.left < 0 and (self.everything or "checkpoint" in name):
            raise OSError(errno.ENOSPC, "No space left on device")
        self.fsync(file)


@pytest.mark.skipif(sys.platform != "linux", reason="finds a file's name in /proc")
def test_a_disk_that_fills_up_while_saving_fails_the_stage_and_costs_no_earlier_resume_point(monkeypatch, undisturbed):
    folder = fresh("rigl")
    with monkeypatch.context() as context:
        Disk(context, fills=2)
        assert run.execute(folder) == "failed"
    assert "No space left on device" in record.read_json(paths.status(folder))["reason"]
    assert checkpoint.load(paths.checkpoint(folder))["step"] == 20
    assert not list(folder.glob(".*.tmp")), "half a file on a full disk"
    steps = []
    assert run.execute(folder, lambda: steps.append(1)) == "done"
    assert len(steps) == 40
    assert training.result(folder) == undisturbed("rigl")


class Filling:
    """A file on a disk that takes ``left`` more writes."""

    def __init__(self, left: int):
        self.left = left

    def flush(self):
        pass

    def write(self, data) -> int:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)


@pytest.mark.parametrize("left", range(10))
def test_a_full_disk_is_named_and_not_torchs_archive(tmp_path, monkeypatch, left):
    monkeypatch.setattr(record, "write_bytes", lambda path, write: write(Filling(left)))
    with pytest.raises(OSError, match=r"No space left on device.*weights\.pt"):
        checkpoint.save(tmp_path / "weights.pt", {"model": torch.ones(100_000), "bias": torch.ones(7)})


@pytest.mark.skipif(sys.platform != "linux", reason="finds a file's name in /proc")
def test_a_disk_too_full_even_for_the_reason_says_so_to_the_caller(monkeypatch, undisturbed):
    folder = fresh("rigl")
    with monkeypatch.context() as context:
        Disk(context, fills=5, everything=True)
        with pytest.raises(OSError, match="No space left on device"):
            run.execute(folder)
    assert run.execute(folder) == "done"
    assert training.result(folder) == undisturbed("rigl")


def test_what_a_killed_write_left_behind_is_removed(undisturbed):
    folder = fresh("gmp")
    assert training.attempt(folder, Death("writing", "checkpoint.next.pt")) == -signal.SIGKILL
    assert list(folder.glob(".*.tmp"))
    assert training.attempt(folder, Death("step", call=5)) == -signal.SIGKILL
    assert not list(folder.glob(".*.tmp"))


def test_time_spent_adds_up_over_attempts(monkeypatch):
    folder = fresh("gmp")
    start, clock = time.monotonic, [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "time", lambda: 1e9 - clock[0])  # which is being set back all the while

    def pass_by(seconds, steps):
        left = [steps]

        def stop():
            clock[0] += seconds
            left[0] -= 1
            return "asked to stop" if left[0] < 0 else None

        return stop

    assert run.execute(folder, pass_by(2.0, 9)) == "stopped"
    assert record.read_json(paths.status(folder))["seconds"] == 20.0
    clock[0] += 5000.0  # waiting costs nothing
    assert run.execute(folder, pass_by(1.0, 100)) == "done"
    monkeypatch.setattr(time, "monotonic", start)
    assert training.summary(folder)["seconds"] == 20.0 + 51.0


def test_random_kills(undisturbed):
    """Anywhere, several times over, in any order: the sum of the tests above."""
    draw = random.Random(0)
    folder = fresh("rigl")
    for _ in range(6):
        assert training.attempt(folder, Death("event", call=draw.randrange(3, 60))) in (0, -signal.SIGKILL)
    assert training.attempt(folder) == 0
    assert training.result(folder) == undisturbed("rigl")


def test_the_lines_of_a_finished_stage_are_whole_and_in_order():
    folder = fresh("gmp")
    for call in (7, 16, 23):
        training.attempt(folder, Death("step", call=call))
    assert run.execute(folder) == "done"
    logged = [entry["step"] for entry in training.lines(folder) if "loss" in entry]
    validated = [entry["step"] for entry in training.lines(folder) if "validation_loss" in entry]
    assert logged == list(range(5, 61, 5))
    assert validated == list(range(10, 61, 10))
    assert all(json.loads(line)["time"] > 0 for line in paths.metrics(folder).read_text().splitlines())


def test_a_copy_of_the_folder_elsewhere_resumes_too(tmp_path, undisturbed):
    """Nothing in it names where it was."""
    folder = fresh("imp")
    assert training.attempt(folder, Death("step", call=35)) == -signal.SIGKILL
    shutil.copytree(folder.parent, tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / folder.name
    steps = []
    assert run.execute(moved, lambda: steps.append(1)) == "done"
    assert len(steps) == 30
    assert training.result(moved) == undisturbed("imp")
