"""The local executor with real processes: cap, order, crashes, Ctrl-C, SIGKILL of anyone, two sweeps at once."""

import json
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from common import paths, record
from common.errors import UserError
from launch.local import meeting
from launch.local.order import Order
from launch.local.progress import Event
from tests.support.local_sweep import PATIENCE, STANDIN, Stage, Sweep


@pytest.fixture
def sweep(folders, monkeypatch):
    site = folders / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(STANDIN)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("STANDIN_LOG", str(folders / "log.jsonl"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    sweep = Sweep(folders)
    yield sweep
    assert not sweep.processes(), "processes were left behind"


def test_every_stage_once_within_the_cap(sweep):
    sweep.stage("dense")
    for number in range(5):
        sweep.stage(f"leaf{number}", "dense")
        sweep.stage(f"round{number}", f"round{number - 1}" if number else "dense")
    events: list[Event] = []
    result = sweep.run(2, progress=events.append)
    assert result.code == 0 and len(result.done) == 11
    sweep.steps_once()
    begins = {entry[1]: entry[5] for entry in sweep.lines("begin")}
    ends = {entry[1]: entry[5] for entry in sweep.lines("end")}
    for name, parent, _ in sweep.listed:
        assert parent is None or begins[name] >= ends[parent]
        assert sum(begins[other] <= begins[name] < ends[other] for other in begins) <= 2
    assert 1 <= len(sweep.lines("warm")) <= 2, "once a worker, not once a stage"
    assert len({entry[3] for entry in sweep.lines("begin")}) == 11, "a process of its own for each"
    assert Counter(event.kind for event in events if event.stage) == {"started": 11, "done": 11}
    assert events[-1].kind == "end" and events[-1].ended == 11
    assert not list((sweep.home / "runs/.sweeps/local").iterdir()), "nothing went wrong: no logs are kept"


def test_longest_chain_comes_first():
    listed = [("a", None), ("leaf", "a"), ("b", None), ("r1", "b"), ("r2", "r1"), ("r3", "r2"), ("late", "elsewhere")]
    order = Order(Stage(digest, parent, Path(digest)) for digest, parent in listed)
    assert (order.width, order.chain()) == (3, 4)
    assert [order.pop().digest for _ in range(3)] == ["b", "a", "late"]
    order.end("b", "done")
    order.end("a", "done")
    assert [order.pop().digest for _ in range(2)] == ["r1", "leaf"]
    assert order.end("r1", "failed") == ["r2", "r3"] and order.outcome["r3"] == "blocked"
    assert not order.over() and order.chain() == 1


def test_a_crash_costs_its_stage_and_descendants_only(sweep):
    crashes = {"killed": signal.SIGKILL, "segfault": signal.SIGSEGV, "gone": "exit", "left": "leave", "bad": "raise"}
    for name, what in crashes.items():
        sweep.stage(name, at={"1": what})
    sweep.stage("child", "killed")
    sweep.stage("grandchild", "child")
    sweep.stage("disk")
    (paths.stage("toy", "disk") / "status.json").mkdir()  # stands for a disk that takes nothing more
    for number in range(4):
        sweep.stage(f"good{number}")
    result = sweep.run(2)
    assert result.code == 1 and not result.error
    assert {stage.digest for stage in result.done} == {f"good{number}" for number in range(4)}
    assert {stage.digest for stage in result.failed} == {*crashes, "disk"}
    assert {stage.digest for stage in result.blocked} == {"child", "grandchild"}
    assert "killed by signal 9" in result.reasons["killed"] and "memory" in result.reasons["killed"]
    assert "SIGSEGV" in result.reasons["segfault"]
    assert "exit code 0" in result.reasons["gone"]
    assert "user code left" in result.reasons["left"]
    assert "could not be written" in result.reasons["disk"]
    for name in crashes:
        status = record.read_json(paths.status(paths.stage("toy", name)))
        assert status["state"] == "failed" and status["reason"] == result.reasons[name]
    assert len(sweep.lines("warm")) <= 2, "no worker went down with them"


@pytest.mark.parametrize("how", ["group", "driver"])
def test_interrupted_sweep_resumes(sweep, how):
    """Ctrl-C goes to every process of the terminal; a scheduler or ``kill`` tells the driver only."""
    for number in range(3):
        sweep.stage(f"long{number}", steps=40, pause=0.03)
        sweep.stage(f"next{number}", f"long{number}")
    driver = sweep.driver()
    sweep.until(lambda: len(sweep.names("step")) >= 2)
    if how == "group":
        os.killpg(driver.pid, signal.SIGINT)
    else:
        driver.send_signal(signal.SIGTERM)
    driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130
    assert not sweep.processes()
    assert sum(sweep.names("stopped").values()) == 2
    assert sweep.run(2).code == 0
    sweep.steps_once()


def test_second_interrupt_kills_at_once(sweep):
    sweep.stage("stubborn", at={"1": "hang"})
    driver = sweep.driver()
    sweep.until(lambda: sweep.names("hanging"))
    began = time.monotonic()
    driver.send_signal(signal.SIGINT)
    time.sleep(0.5)
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130 and time.monotonic() - began < 12
    status = record.read_json(paths.status(paths.stage("toy", "stubborn")))
    assert status["state"] == "stopped", "the sweep was stopped; the stage did not fail"


def test_killed_driver_leaves_nobody_behind(sweep):
    for number in range(2):
        sweep.stage(f"long{number}", steps=60, pause=0.03)
    driver = sweep.driver()
    sweep.until(lambda: len(sweep.names("step")) == 2)
    driver.kill()
    driver.communicate(timeout=PATIENCE)
    sweep.until(lambda: not sweep.processes())
    assert sum(sweep.names("stopped").values()) == 2, "with a checkpoint each"
    assert sweep.run(2).code == 0
    sweep.steps_once()


def test_killed_worker_is_replaced(sweep):
    sweep.stage("victim", steps=6, at={"2": "worker"})
    for number in range(3):
        sweep.stage(f"good{number}")
    assert sweep.run(2).code == 0
    sweep.steps_once()
    assert sweep.names("begin")["victim"] == 2


def test_two_sweeps_share_the_work(sweep):
    sweep.stage("dense", steps=20)
    for number in range(6):
        sweep.stage(f"leaf{number}", "dense", steps=6)
    drivers = [sweep.driver(), sweep.driver()]
    for driver in drivers:
        output = driver.communicate(timeout=PATIENCE)[0]
        assert driver.returncode == 0 and json.loads(output)["done"] == 7
    assert set(sweep.names("begin").values()) == {1}
    sweep.steps_once()


def test_survivor_takes_over_from_a_killed_sweep(sweep):
    sweep.stage("shared", steps=80, pause=0.03)
    sweep.stage("child", "shared")
    first = sweep.driver(1)
    sweep.until(lambda: sweep.names("step"))
    second = sweep.driver(1)
    sweep.until(lambda: len(sweep.lines("warm")) == 2)
    first.kill()
    first.communicate(timeout=PATIENCE)
    second.communicate(timeout=PATIENCE)
    assert second.returncode == 0
    sweep.steps_once()


def test_our_packages_are_found_wherever_the_caller_stands(sweep, monkeypatch):
    elsewhere = sweep.home / "elsewhere"
    for package in ("common", "launch", "tasks"):
        (elsewhere / package).mkdir(parents=True)
        (elsewhere / package / "__init__.py").write_text("raise RuntimeError('not ours')")
    monkeypatch.chdir(elsewhere)
    before = dict(os.environ)
    sweep.stage("one")
    assert sweep.run(1).code == 0
    assert dict(os.environ) == before and Path.cwd() == elsewhere


def test_unwritable_folder(sweep, monkeypatch):
    sweep.stage("one")
    (sweep.home / "file").write_text("not a folder")
    monkeypatch.setenv("RUNS", str(sweep.home / "file"))
    with pytest.raises(UserError, match="RUNS="):
        sweep.run(1)


@pytest.mark.parametrize("fault", ["import", "raise", "die"])
def test_workers_that_cannot_start(sweep, monkeypatch, fault):
    monkeypatch.setenv("STANDIN_WARM", fault)
    for number in range(8):
        sweep.stage(f"stage{number}")
    result = sweep.run(2)
    assert result.code == 1 and len(result.left) == 8 and not sweep.lines("begin")
    said = {"import": "common.stage.run", "raise": "upside down", "die": "ends:\n(nothing: the system may have ended"}
    assert said[fault] in result.error and (fault != "die" or "for want of memory" in result.error)
    assert len(sweep.lines("warm")) <= 4, "no endless respawn"


@pytest.mark.parametrize("kind", ["started", "done", "tick"])
def test_a_reader_that_went_away_is_no_matter_of_the_folder(sweep, kind):
    def progress(event):
        if event.kind == kind:
            raise BrokenPipeError(32, "Broken pipe")

    for number in range(3):
        sweep.stage(f"stage{number}", pause=0.2)
    with pytest.raises(BrokenPipeError):
        sweep.run(2, progress=progress)


def test_a_long_folder_for_temporary_files(sweep, monkeypatch):
    folder = sweep.home / ("long" * 30)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    sweep.stage("one")
    assert sweep.run(1).code == 0


def test_the_next_sweep_removes_what_killed_ones_left(tmp_path_factory, monkeypatch):
    """Of this user, and with nothing in it but the socket; neither what is in use nor what another program made."""
    home = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    for name, file in (("0000abcd", ""), ("1111abcd", "driver"), ("2222abcd", "precious"), ("notes", "")):
        (home / f"sweep-{name}").mkdir()
        if file:
            (home / f"sweep-{name}" / file).touch()
    with meeting.place() as used, meeting.place() as other:
        assert used.is_dir() and other.is_dir() and used != other
    assert {path.name for path in home.iterdir()} == {"sweep-2222abcd", "sweep-notes"}
