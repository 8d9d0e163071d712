"""Cancelling: what is said before, that somebody is asked, what Slurm is told, and that the end is looked for."""

import io

import pytest

from common.errors import UserError
from launch.cli import ask
from launch.monitor import cancel
from launch.slurm import live_records
from tests.support.fake_slurm import Slurm, make, row, submitted

END = "2026-11-20T09:39:30"


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    monkeypatch.setattr(cancel, "PAUSE", 0.05)
    return Slurm(tmp_path / "bin", monkeypatch)


def cancels(slurm, *rows):
    """From the first scancel on, the queue answers with ``rows``."""
    slurm.program("scancel", before="cp $here/later $here/squeue.out")
    (slurm.folder / "later").write_text("".join(f"{r}\n" for r in rows))


def run(runs, chosen=None, yes=True, **options):
    found = live_records.read(where=runs)
    asked = []

    def answer(question):
        asked.append(question)
        return yes

    picked = [r for r in found if chosen is None or r.digest in chosen]
    return cancel.cancel(picked, found, answer, **options), asked


def test_cancels_by_number_and_looks(runs, slurm, capsys):
    for name in "abc":
        make(runs, name)
    submitted(runs, ["toy/a"], ["toy/b"], ["toy/c"])
    slurm.squeue(row("12_0", "PENDING", "Priority"), row("12_1", "RUNNING"), row("12_2", "RUNNING"))
    cancels(slurm, row("12_0", "CANCELLED", end=END), row("12_1", "CANCELLED", end=END), row("12_2", "RUNNING"))
    code, asked = run(runs, "ab")
    out = capsys.readouterr().out
    assert code == 0 and asked == ["Cancel 2 jobs?"] and "2 of 2 jobs ended" in out
    assert "a  toy imp 50.00% seed 0  queued  job 12_0" in out and "12_2" not in out
    assert [call for call in slurm.calls if call.startswith("scancel")] == ["scancel 12_0 12_1"]


def test_no_is_no(runs, slurm, capsys):
    make(runs, "a")
    submitted(runs, ["toy/a"])
    slurm.squeue(row("12_0", "RUNNING"))
    assert run(runs, yes=False)[0] == 0 and "nothing was cancelled" in capsys.readouterr().out
    assert not any(call.startswith("scancel") for call in slurm.calls)


def test_nothing_to_cancel(runs, slurm, capsys):
    make(runs, "a")
    make(runs, "b", "done")
    submitted(runs, ["toy/a"], ["toy/b"])
    slurm.squeue(row("12_0", "FAILED", end=END), row("12_1", "COMPLETED", end=END))
    code, asked = run(runs)
    assert code == 0 and not asked and "nothing to cancel" in capsys.readouterr().out


def test_what_never_starts_is_taken_out_of_the_queue(runs, slurm):
    make(runs, "a")
    submitted(runs, ["toy/a"])
    slurm.squeue(row("12_0", "PENDING", "DependencyNeverSatisfied"))
    cancels(slurm, row("12_0", "CANCELLED", end=END))
    assert run(runs)[0] == 0 and "scancel 12_0" in slurm.calls


def test_others_in_the_same_job_and_children_are_named(runs, slurm, capsys):
    make(runs, "a")
    make(runs, "b", seed=7)
    make(runs, "z", "done")
    make(runs, "c", parent="a")
    make(runs, "d", parent="c")
    submitted(runs, ["toy/z", "toy/a", "toy/b"], ["toy/c"], ["toy/d"])
    slurm.squeue(row("12_0", "RUNNING"), row("12_[1-2]", "PENDING", "Dependency"))
    cancels(slurm)
    run(runs, "a")
    out = capsys.readouterr().out
    assert (
        "1 stage in 1 job would" in out
        and "what else these jobs hold, 1 stage:" in out
        and "b  toy imp 50.00% seed 7" in out
    )
    assert "Slurm will cancel 2 stages more" in out
    assert [call for call in slurm.calls if call.startswith("scancel")] == ["scancel 12_0"]


def test_a_job_that_is_given_time_to_leave(runs, slurm, capsys):
    make(runs, "a")
    submitted(runs, ["toy/a"])
    slurm.squeue(row("12_0", "RUNNING"))
    cancels(slurm, row("12_0", "COMPLETING"))
    assert run(runs, patience=0.3)[0] == 0 and "1 are being stopped" in capsys.readouterr().out


def test_one_that_requeues_itself_meanwhile_is_cancelled_again(runs, slurm):
    make(runs, "a")
    submitted(runs, ["toy/a"])
    slurm.squeue(row("12_0", "RUNNING"))
    back = row("12_0", "PENDING", "BeginTime", restarts=1)
    over = row("12_0", "CANCELLED", end=END)
    (slurm.folder / "back").write_text(back + "\n")
    (slurm.folder / "over").write_text(over + "\n")
    twice = "if [ -e $here/once ]; then cp $here/over $here/squeue.out; else cp $here/back $here/squeue.out; fi"
    slurm.program("scancel", before=f"{twice}; touch $here/once")
    assert run(runs)[0] == 0 and slurm.calls.count("scancel 12_0") == 2


def test_a_refusal_is_an_error(runs, slurm, capsys):
    make(runs, "a")
    submitted(runs, ["toy/a"])
    slurm.squeue(row("12_0", "RUNNING"))
    slurm.program("scancel", error="scancel: error: Kill job error on job id 12_0: Access/permission denied", code=1)
    assert run(runs, patience=0.2)[0] == 1 and "permission denied" in capsys.readouterr().out


def test_without_an_answer_nothing_is_cancelled(runs, slurm):
    make(runs, "a")
    submitted(runs, ["toy/a"])
    slurm.squeue(error="Unable to contact slurm controller", code=1)
    with pytest.raises(UserError, match=r"Unable to contact.*Nothing was cancelled"):
        run(runs)
    slurm.squeue(row("12_0", "RUNNING"))
    slurm.program("scancel", before="rm $here/squeue; touch $here/squeue")
    assert run(runs, patience=0.2)[0] == 1


def test_many_are_cancelled_in_pieces(runs, slurm):
    names = [f"s{i}" for i in range(230)]
    for name in names:
        make(runs, name)
    submitted(runs, *[[f"toy/{name}"] for name in names])
    slurm.squeue(row("12_[0-229]", "PENDING", "Priority"))
    cancels(slurm)
    assert run(runs)[0] == 0
    sizes = [len(call.split()) - 1 for call in slurm.calls if call.startswith("scancel")]
    assert sizes == [100, 100, 30]


def test_local_ones_are_left_to_their_sweep(runs, slurm, capsys):
    make(runs, "a", "running", ago=0)
    assert run(runs)[0] == 0 and "Ctrl-C in the terminal of their sweep" in capsys.readouterr().out


class Keyboard(io.StringIO):
    def isatty(self):
        return True


def test_asking(monkeypatch):
    assert ask.confirm("Really?", yes=True)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(UserError, match="YES=1"):
        ask.confirm("Really?")
    for typed, expected in (("y\n", True), (" YES \n", True), ("\n", False), ("no\n", False), ("", False)):
        monkeypatch.setattr("sys.stdin", Keyboard(typed))
        assert ask.confirm("Really?") is expected


def test_what_never_started_stays_known_as_cancelled(runs, slurm, capsys):
    make(runs, "a")
    make(runs, "b")
    submitted(runs, ["toy/a"], ["toy/b"])
    slurm.squeue(row("12_[0-1]", "PENDING", "Priority"))
    cancels(slurm, row("12_1", "PENDING", "Priority"))  # of an element that never ran nothing is left
    assert run(runs, "a")[0] == 0 and "1 of 1 job ended" in capsys.readouterr().out
    assert [record.state for record in live_records.read(where=runs)] == ["cancelled", "queued"]
