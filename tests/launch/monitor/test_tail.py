"""The last numbers and lines of a stage, once and followed to its end."""

import json
import os
import signal
import subprocess
import sys

import pytest

from common import paths
from launch.monitor import tail
from launch.runs import ledger, records
from launch.slurm import live_records
from tests.support.fake_slurm import Slurm, job, make, row, submitted
from tests.support.places import ROOT
from tests.support.stages import line


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def read(runs, word):
    return live_records.read(where=runs, asks=lambda wanted, users: dict.fromkeys(wanted, word))[0]


def test_header_numbers_and_lines(runs, capsys):
    make(runs, "a", "running", lines=30)
    (element,) = ledger.of_sweep(submitted(runs, ["toy/a"]))
    element.out.write_text("".join(f"printed {i}\n" for i in range(50)))
    element.err.write_text("a warning\n")
    assert tail.tail(read(runs, job("RUNNING")), lines=5) == 0
    out = capsys.readouterr().out
    assert out.startswith("a  toy imp 50.00% seed 0  running, step 300/300, job 12_0, on n1\n")
    assert "step    300  loss 0.003333  learning_rate 0.1" in out and "step    260" in out and "step    250" not in out
    assert "printed 49" in out and "printed 45" in out and "printed 44" not in out and "a warning" in out
    assert str(element.out) in out


def test_a_stage_that_has_nothing_yet(runs, capsys):
    folder = make(runs, "a")
    paths.metrics(folder).unlink()
    submitted(runs, ["toy/a"])
    assert tail.tail(read(runs, job("PENDING", "Priority"))) == 0
    assert capsys.readouterr().out == "a  toy imp 50.00% seed 0  queued, job 12_0, on n1\n  Priority\n"


def test_a_line_that_is_no_json_is_shown_as_it_is():
    for text in ("x", "[1]", '{"step": 1}', '{"time": "x", "step": 1}'):
        assert tail.numbers(text) == text
    shown = tail.numbers('{"step": 10, "time": 0.5, "loss": NaN, "note": "a"}')
    assert shown.endswith("step     10  loss nan  note a")


def test_following_to_the_end(runs, capsys, monkeypatch, tmp_path):
    """New metric lines and log lines come once each; a resumed stage cuts its metrics back; the end ends it."""
    monkeypatch.setattr(tail, "PAUSE", 0.02)
    slurm = Slurm(tmp_path / "bin", monkeypatch)
    slurm.squeue(row("12_0", "RUNNING", node="n1"))
    folder = make(runs, "a", "running", lines=2)
    (element,) = ledger.of_sweep(submitted(runs, ["toy/a"]))
    element.out.write_text("before\n")
    (record,) = live_records.read(where=runs)

    def work():
        """What happens between one look and the next."""
        yield
        with open(paths.metrics(folder), "a") as file:
            file.write(line(30) + line(40)[:20])  # the second is half written
            file.flush()
            yield
            file.write(line(40)[20:])
        with open(element.out, "a") as file:
            file.write("meanwhile\n")
        yield
        paths.metrics(folder).write_text(line(10) + line(20))
        yield
        with open(paths.metrics(folder), "a") as file:
            file.write(line(35))
        paths.done(folder).write_text("a")
        paths.summary(folder).write_text("{}")

    happening, again = work(), live_records.again

    def after_something_happened(*arguments):
        next(happening, None)
        return again(*arguments)

    monkeypatch.setattr(live_records, "again", after_something_happened)
    assert tail.tail(record, follow=True) == 0
    assert next(happening, "over") == "over"
    out = capsys.readouterr().out
    for text in ("step     30", "step     35", "step     40", "meanwhile", "before", "step     10"):
        assert out.count(text) == 1, text
    assert out.rstrip().splitlines()[-1].startswith("a  toy imp 50.00% seed 0  done")


def test_followed_to_a_bad_end(runs, capsys):
    make(runs, "a", "failed")
    (record,) = records.read(where=runs)
    assert tail.tail(record, follow=True) == 1 and "the loss is not finite" in capsys.readouterr().out


def test_a_stage_whose_turn_comes_is_followed(runs, monkeypatch):
    monkeypatch.setattr(tail, "PAUSE", 0.01)
    monkeypatch.setattr(tail, "awaited", lambda: {"toy/a"})
    make(runs, "a")
    looks = iter([records.read_one(runs / "toy" / "a")] * 2)

    def again():
        return next(looks, None) or records.read_one(make(runs, "a", "done"))

    assert tail.tail(records.read_one(runs / "toy" / "a"), follow=True, again=again) == 0


def test_control_c_ends_following(runs):
    make(runs, "a", "running", ago=0)
    code = (
        "import sys; from launch.monitor import tail; from launch.slurm import live_records; "
        "look = lambda: print('looked', flush=True) or live_records.read()[0]; "
        "sys.exit(tail.tail(live_records.read()[0], follow=True, again=look))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "RUNS": str(runs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert "running" in process.stdout.readline()
    assert any(text == "looked\n" for text in process.stdout), "it does not follow"
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and "what runs goes on" in out and "Traceback" not in out
    assert json.loads(paths.status(runs / "toy" / "a").read_text())["state"] == "running"
