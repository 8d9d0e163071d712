"""Why a stage is where it is: every kind of end, in words, with the lines that matter and the command that helps."""

import json
import os
import time

import pytest

from common import paths
from launch.monitor.why import why as explain
from launch.runs import ledger, logs, records
from launch.slurm import live_records
from tests.support.fake_slurm import job, make, snapshot, submitted

TRACE = "Traceback (most recent call last):\n" + "".join(f"  line {i}\n" for i in range(50)) + "ValueError: too small\n"


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def why(runs, digest="a", **words):
    """``words``: element number -> Slurm's answer, as in ``e0=job("FAILED")``."""
    answers = {f"12_{name[1:]}": word for name, word in words.items()}
    found = live_records.read(where=runs, asks=lambda wanted, users: {name: answers[name] for name in wanted})
    return explain(records.find(digest, found), found)


def test_a_stage_that_failed_by_its_own_error(runs):
    folder = make(runs, "a", "failed", sparsity=0.9, seed=4)
    paths.error(folder).write_text(TRACE)
    submitted(runs, ["toy/a"])
    before = snapshot(runs)
    text = why(runs, e0=job("FAILED", "NonZeroExitCode", exit_code="1:0", seconds=754, limit=3600, restarts=2))
    assert snapshot(runs) == before
    assert "a  toy imp 90.00% seed 4  failed" in text and "failed: the loss is not finite" in text
    assert "12_0, array array-one on cluster here" in text and "FAILED with exit code 1" in text and "n1" in text
    assert "12:34 of 1:00:00 in its job" in text and "put back into the queue 2 times" in text
    assert "step 40 of 40" in text and "1 submitted" in text
    assert "ValueError: too small" in text and "line 49" in text and "line 20" not in text  # the last 30 lines
    assert "make retry RUN=a" in text.splitlines()[-1]


def test_the_jobs_log_speaks_where_the_stage_said_nothing(runs):
    make(runs, "a", "running")
    sweep = submitted(runs, ["toy/a"])
    (element,) = ledger.of_sweep(sweep)
    noise = "srun: Job step aborted: Waiting up to 32 seconds\nslurmstepd: error: *** STEP 12.0 ON n1 CANCELLED ***\n"
    element.err.write_text("Fatal Python error: Segmentation fault\n" + noise)
    element.out.write_text("submitit INFO (2026-11-20) - Starting\nprinted by the stage\n")
    text = why(runs, e0=job("FAILED", exit_code="0:11"))
    assert "by signal 11 (SIGSEGV)" in text and "Segmentation fault" in text and "srun" not in text
    element.err.write_text(noise)
    assert "slurmstepd: error" in why(runs, e0=job("FAILED", exit_code="0:9"))  # nothing else is there
    element.err.write_text("")
    text = why(runs, e0=job("FAILED", exit_code="0:9"))
    assert "printed by the stage" in text and "submitit INFO" not in text


def test_the_error_of_another_process_of_the_stage(runs):
    make(runs, "a", "running")
    (element,) = ledger.of_sweep(submitted(runs, ["toy/a"]))
    element.err.write_text("")
    element.err.with_name("12_0_1_log.err").write_text("rank 1 ran into a wall\n")
    assert "rank 1 ran into a wall" in why(runs, e0=job("FAILED", exit_code="1:0"))


def test_out_of_memory(runs):
    make(runs, "a", "running")
    submitted(runs, ["toy/a"])
    text = why(runs, e0=job("OUT_OF_MEMORY", exit_code="1:0"))
    assert "its job ran out of memory" in text and "cluster.memory=" in text and "nothing was printed" in text


def test_the_time_limit(runs):
    make(runs, "a", "running")
    submitted(runs, ["toy/a"])
    text = why(runs, e0=job("TIMEOUT", "TimeLimit", seconds=3601, limit=3600))
    assert "interrupted: its job reached the time limit" in text and "1:00:01 of 1:00:00 in its job (the limit)" in text
    assert "cluster.time=" in text


def test_a_folder_that_the_nodes_do_not_see(runs):
    make(runs, "a")
    submitted(runs, ["toy/a"])
    text = why(runs, e0=job("FAILED", exit_code="0:53"))
    assert f"left no trace in {runs}" in text and "set RUNS to a folder that" in text


def test_frozen_code_that_is_gone(runs):
    make(runs, "a")
    (element,) = ledger.of_sweep(submitted(runs, ["toy/a"]))
    os.rmdir(element.code)
    assert f"the frozen code it was to run is gone ({element.code})" in why(runs, e0=job("FAILED", exit_code="1:0"))


def test_a_blocked_stage_names_whom_to_blame(runs):
    make(runs, "aa", "failed", method="dense", sparsity=0.0)
    make(runs, "bb", parent="aa")
    make(runs, "cc", parent="bb")
    submitted(runs, ["toy/bb"], ["toy/cc"])
    text = why(runs, "cc", e0=job("CANCELLED"), e1=job("CANCELLED"))
    assert "stands on bb" in text and "and that on aa" in text and "because   the loss is not finite" in text
    assert "dense aa, on which it stands, is failed" in text and text.endswith(
        "`make why RUN=aa` says what to mend; `make retry` of that one tries this one too"
    )
    paths.config(runs / "toy" / "aa").unlink()
    for path in (runs / "toy" / "aa").iterdir():
        path.unlink()
    (runs / "toy" / "aa").rmdir()
    assert "needs     aa, whose folder is gone" in why(runs, "bb", e0=job("GONE"), e1=job("GONE"))


def test_waiting_in_words(runs):
    make(runs, "a")
    submitted(runs, ["toy/a"])
    assert "others are before it" in why(runs, e0=job("PENDING", "Priority"))
    text = why(runs, e0=job("PENDING", "ReqNodeNotAvail, UnavailableNodes:n[1-4]"))
    assert "are down or reserved" in text and "UnavailableNodes" in text and "make cancel RUN=a" in text
    assert "What Slurm Says" in why(runs, e0=job("PENDING", "What Slurm Says"))


def test_no_answer_is_said(runs):
    make(runs, "a")
    submitted(runs, ["toy/a"])
    text = why(runs, e0=job("UNKNOWN", "squeue did not answer within 10 s"))
    assert "gave no answer" in text and "did not answer within 10 s" in text and "nothing is started twice" in text


@pytest.mark.parametrize("state", ["done", "running", "new", "stopped", "failed", "broken", "interrupted"])
def test_on_this_machine_alone(runs, state):
    folder = make(runs, "a", "running" if state == "interrupted" else "new" if state == "broken" else state, ago=1)
    if state == "interrupted":
        make(runs, "a", "running", ago=60)
    if state == "broken":
        paths.config(folder).write_text("- x")
    text = why(runs)
    assert f"  {state.replace('stopped', 'interrupted')}" in text and "  slurm  " not in text and "  job  " not in text
    assert text.splitlines()[-1].startswith("what helps: ")


def test_the_log_of_the_local_worker_that_trained_it(runs):
    """A worker trains many stages; the line it prints before each tells whose output is whose."""
    folder, other = make(runs, "a", "failed"), make(runs, "b", "failed")
    local = runs / ".sweeps" / "s" / "local-x"
    local.mkdir(parents=True)
    (local.parent / "plan.jsonl").write_text(json.dumps({"task": "toy", "digest": "a"}) + "\n")
    (local / "11_0_log.out").write_text(f"submitit INFO - Starting\n{logs.mark(other)}\nprinted by b\n")
    mine = f"{logs.mark(folder)}\nearlier\n{logs.mark(folder)}\nprinted by a\n{logs.mark(other)}\nprinted by b\n"
    (local / "22_0_log.out").write_text(f"submitit INFO - Starting\n{mine}submitit INFO - Exiting\n")
    text = why(runs)
    assert "  printed by a" in text and "printed by b" not in text and "earlier" not in text and "submitit" not in text
    (record, second) = records.read(where=runs)
    assert [path.name for path in logs.files(record)] == ["22_0_log.out"] and logs.files(second) == []
    (local / "22_0_log.err").write_text("Fatal Python error\n")
    assert "Fatal Python error" in why(runs)


def test_several_stages_in_one_job_have_one_log(runs):
    first, second = make(runs, "a", "failed"), make(runs, "b", "running")
    (element,) = ledger.of_sweep(submitted(runs, ["toy/a", "toy/b"]))
    element.out.write_text(f"{logs.mark(first)}\nof the first\n{logs.mark(second)}\nof the second\n")
    assert "of the first" in why(runs, "a", e0=job("RUNNING")) and "of the second" not in why(runs, e0=job("RUNNING"))
    assert "of the second" in why(runs, "b", e0=job("NODE_FAIL"))


def test_a_long_log_is_read_from_its_end(tmp_path):
    path = tmp_path / "log"
    path.write_text("".join(f"line {i:07}\n" for i in range(100_000)))
    began = time.process_time()
    assert logs.last(path, 2) == ["line 0099998", "line 0099999"] and time.process_time() - began < 1
    path.write_bytes(b"\xff\xfe no text\n\n\n")
    assert len(logs.last(path, 5)) == 1 and logs.last(tmp_path / "none", 5) == []
