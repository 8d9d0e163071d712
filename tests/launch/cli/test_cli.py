"""The whole way, through ``python -m launch`` in a process of its own: exit codes, files, resuming, two at once."""

import csv
import json
import os
import resource
import signal
import subprocess
import time

import pytest

from common import paths
from tests.support.cli import COMMAND, ROOT, environment, error, launch

SMALL = ("run.steps=40", "run.evaluate_every=20", "run.log_every=10", "workers=2")
TINY = ("method=omp_after", "method.sparsity=0.5,0.8", "run.seed=0,1", *SMALL)
COLUMNS = (
    "task,dataset,model,method,sparsity_target,sparsity,sparsity_all,seed,metric,score,score_validation,steps,"
    "steps_of_line,epochs,collapsed,digest,parent,variant,zeros,replicate,data"
)
PATIENCE = 600  # seconds; only ever waited for in full when something is broken


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """RUNS and REPORTS of all tests here: an MLflow database takes seconds to make."""
    folder = tmp_path_factory.mktemp("place")
    return {"RUNS": folder / "runs", "REPORTS": folder / "reports"}


@pytest.fixture(scope="module")
def first(place):
    """One sweep of six stages, done."""
    done = launch("sweep", *TINY, **place)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def start(place, *words: str, verb: str = "sweep") -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, verb, *words],
        cwd=ROOT,
        env=environment(**place),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A test run in the background hands on an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def planned(place, *words: str) -> list[dict]:
    done = launch("plan", "format=json", *words, **place)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["stages"]


def processor_seconds() -> float:
    """What the processes took that this one started and that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def until(condition) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def status(stage: dict) -> dict:
    try:
        return json.loads(paths.status(stage["folder"]).read_text())
    except FileNotFoundError:
        return {}


def logged(stage: dict) -> list[tuple]:
    lines = [json.loads(line) for line in paths.metrics(stage["folder"]).read_text().splitlines()]
    return [(line["step"], "loss" in line) for line in lines]


def test_sweep_shows_what_it_did(place, first):
    out = first.stdout
    assert "6 stages (6 new)" in out and "2 dense shared by 2 each" in out  # the plan
    assert "6/6 stages" in out  # the progress
    assert "±" in out and "dense:" in out  # the table
    assert str(place["REPORTS"] / "classic" / "results.csv") in out and ".png" in out and "make ui" in out


def test_sweep_leaves_the_files_others_rely_on(place, first):
    stages = planned(place, *TINY)
    assert {stage["state"] for stage in stages} == {"done"} and len(stages) == 6
    for stage in stages:
        folder = place["RUNS"] / "classic" / stage["digest"]
        assert stage["folder"] == str(folder)
        for name in ("config.yaml", "status.json", "metrics.jsonl", "summary.json", "DONE"):
            assert (folder / name).stat().st_size, name
        summary = json.loads((folder / "summary.json").read_text())
        assert set(COLUMNS.split(",")) - {"steps_of_line"} <= set(summary)
        assert summary["sparsity_target"] == (stage["sparsity"] or 0.0) and summary["steps"] == 40
        steps = [step for step, training in logged(stage) if training]
        assert steps == [10, 20, 30, 40]


def test_results_csv(place, first):
    with open(place["REPORTS"] / "classic" / "results.csv") as file:
        assert file.readline().strip() == COLUMNS
        file.seek(0)
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and {row["method"] for row in rows} == {"dense", "omp_after"}
    assert {row["sparsity_target"] for row in rows} == {"0.0", "0.5", "0.8"}
    assert {(row["method"], row["steps_of_line"]) for row in rows} == {("dense", "40"), ("omp_after", "80")}
    assert {row["variant"] for row in rows} == {"run.steps=40, run.evaluate_every=20"}
    assert all(float(row["score"]) > 0 and row["metric"] == "accuracy" for row in rows)


def test_repeating_trains_nothing(place, first):
    before = {path: path.stat().st_mtime_ns for path in place["RUNS"].glob("classic/*/*")}
    sweeps = set((place["RUNS"] / ".sweeps").iterdir())
    began = processor_seconds()
    done = launch("sweep", *TINY, **place)
    assert done.returncode == 0 and "everything asked for is done" in done.stdout and "±" in done.stdout
    assert processor_seconds() - began < 20  # it takes two
    assert {path: path.stat().st_mtime_ns for path in place["RUNS"].glob("classic/*/*")} == before
    assert set((place["RUNS"] / ".sweeps").iterdir()) == sweeps


def test_views(place, first):
    for verb, key in (("status", "lines"), ("plan", "stages")):
        done = launch(verb, "task=classic", "format=json", **place)
        assert done.returncode == 0 and not done.stderr
        assert json.loads(done.stdout)[key]
    assert "6 done" in launch("status", **place).stdout
    done = launch("report", **place)
    assert done.returncode == 0 and "dense:" in done.stdout and "results.csv" in done.stdout
    done = launch("sync", **place)
    assert done.returncode == 0 and "0 new runs" in done.stdout


def test_a_closed_pipe_is_no_error(place, first):
    command = ["bash", "-c", f"set -o pipefail; {' '.join(COMMAND)} status | true"]
    done = subprocess.run(command, cwd=ROOT, env=environment(**place), capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


def test_test_hands_words_to_pytest():
    assert launch("test", ARGS="--version").returncode == 0
    assert launch("test", ARGS="'no such file.py'").returncode == 4  # pytest's own code
    assert "ARGS must be words for pytest" in error(launch("test", ARGS="-k 'a"))


def test_what_fails_blocks_its_children_and_nothing_else(place, first):
    """One learning rate diverges; the others are done, and the exit code is 1 until nothing asked for fails."""
    words = [word for word in TINY if not word.startswith("run.seed")] + ["run.seed=0"]
    both = [*words, "run.learning_rate=0.0012,0.0013,1e30"]
    done = launch("sweep", *both, **place)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "not finite" in done.stdout and "error.txt" in done.stdout and "Traceback" not in done.stdout + done.stderr
    states = {(s["method"], s["sparsity"], "e+30" in s["variant"]): s["state"] for s in planned(place, *both)}
    assert {state for (*_, bad), state in states.items() if not bad} == {"done"}
    assert states["dense", 0.0, True] == "failed" and states["omp_after", 0.5, True] == "new"
    assert launch("sweep", *words, "run.learning_rate=0.0012,0.0013", **place).returncode == 0
    done = launch("plan", *both, **place)
    assert done.returncode == 0 and "failed: NotFinite" in done.stdout
    again = launch("sweep", "method=dense", "run.seed=0", "run.learning_rate=1e30", *SMALL, **place)
    assert again.returncode == 1 and "not finite" in again.stdout  # failed stages are tried again


def test_control_c_stops_and_the_same_command_goes_on(place, first):
    words = ("method=dense", "run.seed=5", "run.steps=4000", "run.evaluate_every=500", "run.log_every=100", "workers=1")
    (stage,) = planned(place, *words)
    process = start(place, *words)
    until(lambda: status(stage).get("step", 0) > 0 or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    out = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 130, out
    assert "the same command goes on from here" in out and "Traceback" not in out
    (stopped,) = planned(place, *words)
    assert stopped["state"] == "interrupted" and "it resumes" in stopped["why"]
    assert 0 < status(stage)["step"] < 4000 and status(stage)["state"] == "stopped"
    done = launch("sweep", *words, **place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert status(stage)["attempt"] == 2
    assert [step for step, training in logged(stage) if training] == list(range(100, 4001, 100))


def test_two_sweeps_at_once_train_everything_once(place, first):
    words = ["method=omp_after,random_before", "method.sparsity=0.5", "run.seed=8", *SMALL]
    both = [start(place, *words), start(place, *words)]
    for process in both:
        out = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 0, out
        assert "±" in out or "one seed" in out
    for stage in planned(place, *words):
        assert stage["state"] == "done" and status(stage)["attempt"] == 1
