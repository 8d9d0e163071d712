"""Reading a runs tree: quick, tolerant of anything half-written, and without a trace."""

import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from common import paths, record
from launch.__main__ import main
from launch.monitor.status import status, text, watch
from launch.runs import records
from launch.runs.jobs import Job
from launch.runs.state import DAMAGED, of_plan
from launch.slurm import live_records
from tests.support.fake_slurm import Slurm, job, make, row, snapshot, submitted
from tests.support.places import ROOT
from tests.support.stages import stage


def one(folder):
    return records.read_one(folder)


def document(runs):
    return status(records.read(where=runs))


def set_status(folder, **changes):
    path = paths.status(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_states_follow_from_the_files(tmp_path):
    for state in ("done", "failed", "queued"):
        assert one(stage(tmp_path, state, state=state)).state == state
    assert one(stage(tmp_path, "stopped", state="stopped")).state == "interrupted"
    unknown = stage(tmp_path, "strange", state="dancing")
    assert one(unknown).state == "unknown"
    paths.status(unknown).unlink()
    assert one(unknown).state == "new"


def test_done_file_decides(tmp_path):
    folder = stage(tmp_path, "a", state="done")
    set_status(folder, state="running")
    assert one(folder).state == "done"
    paths.done(folder).unlink()
    assert one(folder).summary is None and one(folder).state != "done"


def test_running_without_a_lock_is_shown_as_interrupted_and_never_written(tmp_path):
    folder = stage(tmp_path, "a", state="running")
    before = paths.status(folder).read_bytes()
    assert one(folder).state == "interrupted"  # no lock file at all
    with open(paths.lock(folder), "w") as lock:
        assert one(folder).state == "interrupted"
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert one(folder).state == "running"
    set_status(folder, updated=time.time())  # heard of just now: its process may be between two states
    assert one(folder).state == "running"
    set_status(folder, updated=time.time() - 60, host="another-machine")  # its locks may not be visible here
    assert one(folder).state == "running"
    set_status(folder, updated=time.time() - 3600)
    assert one(folder).state == "interrupted"
    assert json.loads(paths.status(folder).read_text())["state"] == json.loads(before)["state"] == "running"


def test_a_word_from_the_future_asks_the_lock(tmp_path):
    """A clock that was set back: a dead stage would count as running until the clock is there again."""
    folder = stage(tmp_path, "a", state="running")
    set_status(folder, updated=time.time() + 3600)
    assert one(folder).state == "interrupted"
    with open(paths.lock(folder), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert one(folder).state == "running"


def test_a_folder_that_cannot_be_read_is_broken_and_the_rest_is_shown(tmp_path, monkeypatch, capsys):
    """Another user's, or a loop of links."""
    runs = tmp_path / "runs"
    stage(runs, "0123456789abcdef", task="classic", state="done")
    (runs / "classic" / "fedcba9876543210").symlink_to("fedcba9876543210")
    monkeypatch.setenv("RUNS", str(runs))
    monkeypatch.setenv("REPORTS", str(tmp_path / "reports"))
    broken, whole = records.read()[::-1]
    assert (broken.state, whole.state) == ("broken", "done") and "cannot be read now" in broken.problem
    for verb in ("status", "report", "plan", "sync"):
        assert main([verb]) == 0, verb
    assert "1 broken" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "another name", "a\nno checksum"])
def test_a_stage_whose_mark_or_files_are_not_what_training_wrote_is_broken(tmp_path, content):
    folder = stage(tmp_path, "a", state="done")
    assert one(folder).state == "done"
    paths.done(folder).write_text(content)
    assert one(folder).state == "broken" and one(folder).problem == "DONE is damaged"
    assert of_plan(folder) == (DAMAGED, "DONE is damaged; it is trained again")
    record.seal(folder, "a")
    assert one(folder).state == "done"
    paths.summary(folder).write_text(paths.summary(folder).read_text().replace("9", "8"))
    assert one(folder).state == "broken" and "summary.json is not what training wrote" in one(folder).problem


def test_a_file_system_without_locks_says_unknown(tmp_path, monkeypatch):
    folder = stage(tmp_path, "a", state="running")
    paths.lock(folder).touch()

    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert one(folder).state == "unknown"


@pytest.mark.parametrize(
    "content", [None, b"", b"a: [1, 2", b"\xff\xfe\x00", b"- only\n- a list\n", b"a: !!python/none x"]
)
def test_a_broken_configuration_is_reported_not_fatal(tmp_path, content):
    stage(tmp_path, "good")
    folder = stage(tmp_path, "bad")
    paths.config(folder).unlink() if content is None else paths.config(folder).write_bytes(content)
    found = document(tmp_path)
    assert found["counts"] == {"done": 1, "broken": 1}
    assert "config.yaml" in found["problems"][0]["problem"] and found["problems"][0]["folder"].endswith("toy/bad")
    assert "toy/bad" in text(found)


@pytest.mark.parametrize("name", ["status.json", "summary.json"])
@pytest.mark.parametrize("content", [b"", b'{"state": "do', b"\xff", b"[1]"])
def test_half_written_json_is_reported_not_fatal(tmp_path, name, content):
    folder = stage(tmp_path, "a", state="done" if name == "summary.json" else "running")
    (folder / name).write_bytes(content)
    assert one(folder).state == "broken" and name in one(folder).problem
    json.dumps(document(tmp_path))


def test_a_broken_status_does_not_undo_what_is_done(tmp_path):
    folder = stage(tmp_path, "a")
    (folder / "status.json").write_bytes(b"x")
    assert one(folder).state == "done"


def test_numbers_that_are_none_do_not_stop_a_reader(tmp_path):
    folder = stage(tmp_path, "a", state="running", sparsity=None)
    set_status(folder, updated=None, steps=None, step=None, started=None)
    assert "1 stage: 1 interrupted" in text(document(tmp_path))


def test_other_things_in_the_tree_are_not_stages(tmp_path):
    stage(tmp_path, "a")
    (tmp_path / ".sweeps" / "x").mkdir(parents=True)
    (tmp_path / "mlartifacts" / "1" / "2").mkdir(parents=True)
    (tmp_path / "mlflow.db").touch()
    (tmp_path / "toy" / "note.txt").touch()
    (tmp_path / "toy" / ".aside").mkdir()
    assert [r.digest for r in records.read(where=tmp_path)] == ["a"]
    assert records.read(where=tmp_path / "nowhere") == [] and "no stages yet" in text(status([]))


def test_one_task_or_all(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS", str(tmp_path))
    stage(tmp_path, "a")
    stage(tmp_path, "b", task="other")
    assert [r.digest for r in records.read()] == ["b", "a"] and [r.digest for r in records.read("toy")] == ["a"]


def test_lines_per_method_and_sparsity(tmp_path):
    for seed, score in enumerate((90.0, 92.0)):
        stage(tmp_path, f"a{seed}", "imp", 0.5, seed, score)
    stage(tmp_path, "b", "imp", 0.5, 2, state="failed")
    stage(tmp_path, "c", "imp", 0.9, 0, 10.0, collapsed=True)
    stage(tmp_path, "d", "dense", 0.0, 0, 99.0)
    found = json.loads(json.dumps(document(tmp_path)))
    assert [(line["method"], line["sparsity"]) for line in found["lines"]] == [
        ("dense", 0.0),
        ("imp", 0.5),
        ("imp", 0.9),
    ]
    assert found["lines"][1]["counts"] == {"done": 2, "failed": 1} and found["lines"][1]["score"] == 91.0
    assert found["failures"][0]["reason"] == "the loss is not finite"
    shown = text(found)
    assert "2/3" in shown and "91.00" in shown and "1 collapsed" in shown and "the loss is not finite" in shown


def test_scores_on_two_metrics_have_no_mean(tmp_path):
    stage(tmp_path, "a", metric="accuracy")
    stage(tmp_path, "b", metric="f1")
    assert document(tmp_path)["lines"][0]["score"] is None


def test_text_fits_one_screen(tmp_path):
    for i in range(9):
        for k in range(10):
            stage(tmp_path, f"{i}-{k}", f"method_{i}", 1 - 0.8**k, state="failed" if k == 3 else "done")
    lines = text(document(tmp_path)).splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 120 and any("and 1 more" in line for line in lines)


def test_reading_changes_nothing(tmp_path):
    for i, state in enumerate(("done", "running", "failed", "queued")):
        paths.lock(stage(tmp_path, str(i), state=state)).touch()
    before = snapshot(tmp_path)
    text(document(tmp_path))
    assert snapshot(tmp_path) == before


def test_a_thousand_stages_without_torch(tmp_path, monkeypatch):
    """Half of them in Slurm's hands; below a second on a quiet machine, the bound leaves room for a busy one."""
    runs = tmp_path / "runs"
    template = stage(runs, "template")
    contents = {path.name: path.read_bytes() for path in template.iterdir()}
    names = [f"{i:012x}" for i in range(999)]
    for i, name in enumerate(names):
        folder = runs / "toy" / name
        folder.mkdir()
        for file, content in contents.items():
            if i % 2 or file not in ("DONE", "summary.json", "status.json"):
                (folder / file).write_bytes(name.encode() if file == "DONE" else content)
    waiting = [f"toy/{name}" for i, name in enumerate(names) if not i % 2]
    for i in range(10):
        submitted(runs, *[[name] for name in waiting[i::10]], job=str(100 + i), array=f"array-{i}")
    rows = [row(f"{100 + i}_{k}", "PENDING", "Priority", name=f"array-{i}") for i in range(10) for k in range(50)]
    slurm = Slurm(tmp_path / "bin", monkeypatch)
    slurm.squeue(*rows)
    code = (
        "import sys, time; start = time.process_time();"
        "from launch.monitor import status; from launch.slurm import live_records;"
        "found = status.status(live_records.read()); status.text(found);"
        "print(found['counts']['done'], found['counts']['queued'], time.process_time() - start);"
        "print({'torch', 'mlflow', 'submitit', 'numpy'} & set(sys.modules))"
    )
    monkeypatch.setenv("RUNS", str(runs))
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    done, queued, seconds = out.splitlines()[0].split()
    assert (done, queued) == ("500", "500") and float(seconds) < 3 and out.splitlines()[1] == "set()"
    assert len(slurm.calls) == 1


def on_slurm(runs, words):
    return status(live_records.read(where=runs, asks=lambda wanted, users: {name: words[name] for name in wanted}))


def test_what_waits_in_the_queue_and_why(tmp_path):
    words = {}
    for i, (word, reason) in enumerate([("PENDING", "Priority")] * 3 + [("PENDING", "Dependency"), ("RUNNING", "")]):
        make(tmp_path, f"s{i}", "running" if word == "RUNNING" else "new")
        words[f"12_{i}"] = job(word, reason)
    submitted(tmp_path, *[[f"toy/s{i}"] for i in range(5)])
    found = json.loads(json.dumps(on_slurm(tmp_path, words)))
    assert found["pending"] == {"Priority": 3, "Dependency": 1} and found["counts"] == {"running": 1, "queued": 4}
    assert found["running"][0]["job"] == "12_4" and found["running"][0]["node"] == "n1"
    shown = text(found)
    assert "queued: 3 Priority, 1 Dependency" in shown and "job 12_4 on n1" in shown


def test_failures_cancellations_and_silence(tmp_path):
    make(tmp_path, "a", "running")
    make(tmp_path, "b", parent="a")
    make(tmp_path, "c")
    submitted(tmp_path, ["toy/a"], ["toy/b"], ["toy/c"])
    words = {"12_0": job("OUT_OF_MEMORY"), "12_1": job("CANCELLED"), "12_2": job("CANCELLED")}
    found = on_slurm(tmp_path, words)
    assert found["counts"] == {"blocked": 1, "cancelled": 1, "failed": 1}
    shown = text(found)
    assert "its job ran out of memory" in shown and "1 because imp a, on which it stands" in shown
    assert "cancelled (the next" in shown
    words = dict.fromkeys(words, Job("UNKNOWN", "squeue did not answer within 10 s"))
    found = on_slurm(tmp_path, words)
    assert found["scheduler"] and "no answer (squeue did not answer within 10 s)" in text(found)


def test_everything_at_once_fits_one_screen(tmp_path):
    words = {}
    for i in range(200):
        make(tmp_path, f"s{i:03}", "running" if i % 2 else "new", method=f"method_{i % 40}", sparsity=i / 200)
        words[f"12_{i}"] = job(("RUNNING", "GONE", "CANCELLED", "FAILED", "PENDING")[i % 5], "Priority")
    submitted(tmp_path, *[[f"toy/s{i:03}"] for i in range(200)])
    lines = text(on_slurm(tmp_path, words)).splitlines()
    assert len(lines) <= 52 and max(map(len, lines)) <= 130
    assert any("more lines (FORMAT=json has all)" in line for line in lines)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_watching_ends_by_itself(tmp_path):
    """A new stage does not keep it going: nobody is about to train it."""
    make(tmp_path, "a", "running")
    make(tmp_path, "b")
    submitted(tmp_path, ["toy/a"])
    words = [{"12_0": job(word)} for word in ("PENDING", "PENDING", "RUNNING", "UNKNOWN", "CANCELLED")]
    for out in (io.StringIO(), Terminal()):
        left = iter(words)
        read = lambda: live_records.read(where=tmp_path, asks=lambda wanted, users: next(left))  # noqa: E731, B023
        assert watch(read, every=0.01, out=out) == 1, "one was cancelled"
        shown = out.getvalue()
        assert shown.count("2 stages: ") == (5 if out.isatty() else 4)  # elsewhere only when a count changes
        assert ("\x1b[2J" in shown) == out.isatty()
        assert "2 stages: 1 new, 1 cancelled" in shown
        assert next(left, None) is None


def sweep_that_lives(runs, *keys):
    """A sweep on this machine that is to train these stages; its lock."""
    own = runs / ".sweeps" / "one" / "local-x"
    own.mkdir(parents=True)
    lines = [json.dumps(dict(zip(("task", "digest"), key.split("/")))) for key in keys]
    (own.parent / "plan.jsonl").write_text("\n".join(lines))
    lock = open(paths.lock(own), "w")  # noqa: SIM115 - closed by who ends the sweep
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def test_watching_waits_for_stages_whose_turn_comes(tmp_path, monkeypatch):
    """Between two stages of a sweep on this machine nothing runs."""
    monkeypatch.setenv("RUNS", str(tmp_path))
    make(tmp_path, "a", "done")
    make(tmp_path, "b")
    lock, looks = sweep_that_lives(tmp_path, "toy/a", "toy/b"), []

    def read():
        looks.append(1)
        if len(looks) == 3:
            make(tmp_path, "b", "done")
            lock.close()
        return live_records.read()

    out = io.StringIO()
    assert watch(read, every=0.01, out=out) == 0
    assert len(looks) == 3 and "2 stages: 2 done" in out.getvalue()


def test_watching_does_not_wait_for_a_sweep_of_other_stages(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS", str(tmp_path))
    make(tmp_path, "b")
    with sweep_that_lives(tmp_path, "toy/elsewhere"):
        assert watch(live_records.read, every=60, out=io.StringIO()) == 0


def test_control_c_ends_watching(tmp_path):
    make(tmp_path, "a", "running", ago=0)
    code = (
        "from launch.monitor import status; from launch.slurm import live_records; "
        "import sys; sys.exit(status.watch(live_records.read, every=60))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "RUNS": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert "1 running" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and "what runs goes on" in out and "Traceback" not in out


def test_watching_some_methods_watches_no_others(tmp_path, monkeypatch, capsys):
    """Another method that still runs does not keep it going, and is not counted."""
    from launch.__main__ import main

    monkeypatch.setenv("RUNS", str(tmp_path))
    make(tmp_path, "a", "running", ago=0, method="imp")
    stage(tmp_path, "b", "rigl", 0.5)
    assert main(["status", "method=rigl", "watch=1"]) == 0
    assert "1 stage: 1 done" in capsys.readouterr().out


def test_rows_show_the_settings_in_which_they_differ(tmp_path):
    """What all rows of a task share is told once; what sets two of them apart is never cut off."""
    long = "run.epochs=5, run.learning_rate=0.0012, run.momentum=0.9"
    stage(tmp_path, "a", "dense", 0.0, variant=long)
    for name, own in (("b", "method.allocation=uniform"), ("c", "method.allocation=global")):
        stage(tmp_path, name, "gmp", 0.5, variant=f"{long}, {own}")
    stage(tmp_path, "d", "rigl", 0.5, variant=f"{long}, method.topology=" + 40 * "x" + "1", state="failed")
    stage(tmp_path, "e", "rigl", 0.5, variant=f"{long}, method.topology=" + 40 * "x" + "2")
    stage(tmp_path, "f", "rigl", 0.5, task="other", variant="run.epochs=7")
    found = document(tmp_path)
    shown = text(found)
    assert {line["variant"] for line in found["lines"] if line["method"] == "dense"} == {long}, "programs get it all"
    assert f"all of toy: {long}" in shown and "all of other: run.epochs=7" in shown and shown.count("epochs=5") == 1
    assert "gmp allocation=uniform " in shown and "gmp allocation=global " in shown
    assert all(f"rigl topology={40 * 'x'}{number}" in shown for number in "12")
    assert " dense  " in shown and "  d  toy rigl 50.00% seed 0 (topology=" in shown


def test_rows_of_several_presets_and_tasks_stay_readable(tmp_path):
    """Settings of a preset are told once below the table, and a mark stands for them in each of its rows."""
    presets = [[f"run.{preset}_{name}=0.00{name}" for name in range(12)] for preset in ("laptop", "paper")]
    for task in ("toy", "other"):
        for number, own in enumerate(presets):
            for name in ("dense", "gmp", "rigl"):
                method = ["method.allocation=uniform"] * (name == "gmp")
                for level in (0.0,) if name == "dense" else (0.5, 0.9):
                    variant = ", ".join(own + method)
                    state = "failed" if name == "rigl" else "done"
                    stage(
                        tmp_path, f"{task}{number}{name}{level}", name, level, task=task, variant=variant, state=state
                    )
    found = document(tmp_path)
    shown = text(found)
    assert max(map(len, shown.splitlines())) <= 120 and len(shown.splitlines()) <= 52
    assert {len(line["variant"]) > 200 for line in found["lines"]} == {True}, "programs get it all"
    rows = [line.split() for line in shown.splitlines() if line.startswith(("toy ", "other "))]
    assert len(rows) == 20 and Counter(row[3] for row in rows) == {"#1": 10, "#2": 10}
    assert sum(row[2:5] == ["gmp", "#2", "allocation=uniform"] for row in rows) == 4
    told = " ".join(shown.split())
    for number, own in enumerate(presets, 1):
        assert told.count(f"#{number}: {', '.join(own)}") == 1
    assert "rigl 50.00% seed 0 (#1)" in shown


def test_a_setting_that_the_dense_line_lacks_is_not_told_of_all(tmp_path):
    stage(tmp_path, "a", "dense", 0.0)
    stage(tmp_path, "b", "gmp", 0.5, variant="run.epochs=5, method.allocation=uniform")
    shown = text(document(tmp_path))
    assert "gmp epochs=5 " in shown and "all of toy: method.allocation=uniform" in shown


def test_a_stage_that_was_stopped_is_interrupted_everywhere_and_named(tmp_path, monkeypatch, capsys):
    from launch.__main__ import main
    from launch.runs.state import of_plan

    monkeypatch.setenv("RUNS", str(tmp_path))
    for name, state in (("abcd", "stopped"), ("ef01", "new"), ("ef02", "done")):
        stage(tmp_path, name, "rigl", 0.5, state=state)
    shown = text(document(tmp_path), 1000)
    assert shown.startswith("3 stages: 1 done, 1 new, 1 interrupted") and "stopped" not in shown
    (row,) = [line.split() for line in shown.splitlines() if line.startswith("toy ")]
    assert row[4:] == ["1/3", "1", "1", "90.00"]
    head = shown.splitlines()[2].split()
    assert head == ["task", "data", "method", "sparsity", "done", "new", "interrupted", "score"], "as the headline"
    assert "interrupted (the next" in shown and "  abcd  toy rigl" in shown and "new:\n  ef01  toy rigl" in shown
    assert of_plan(tmp_path / "toy" / "abcd")[0] == "interrupted"
    assert main(["why", "run=abcd"]) == 0
    shown = capsys.readouterr().out.replace(str(tmp_path), "")
    assert "state     interrupted" in shown and "stopped" not in shown
