"""Files and queue together: which state a stage is in, for every word of Slurm's, without writing anything."""

import fcntl
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import paths
from common.errors import UserError
from launch.runs import jobs, ledger, records
from launch.runs.jobs import Job
from launch.runs.state import IN_TURN, STATES
from launch.slurm import live_records
from tests.support.fake_slurm import Slurm, job, make, row, snapshot, submitted

FILES = ("new", "running", "stopped", "failed", "blocked", "done", "queued")
WORDS = sorted(jobs.WAITING | jobs.ACTIVE | jobs.ENDED | {"UNKNOWN", "DANCING"})


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    return Slurm(tmp_path / "bin", monkeypatch)


def state_of(runs, job: Job, digest="a"):
    def asks(wanted, users=()):
        return dict.fromkeys(wanted, job)

    return {record.digest: record for record in live_records.read(where=runs, asks=asks)}[digest]


TABLE = [  # what the files say, Slurm's word, what follows
    ("new", "PENDING", "queued"),
    ("failed", "PENDING", "queued"),  # submitted again
    ("running", "PENDING", "queued"),  # preempted, waiting for its next turn
    ("new", "CONFIGURING", "queued"),
    ("stopped", "REQUEUED", "queued"),
    ("running", "SPECIAL_EXIT", "queued"),
    ("new", "RUNNING", "queued"),  # torch is being imported
    ("running", "RUNNING", "running"),
    ("running", "COMPLETING", "running"),
    ("running", "SUSPENDED", "running"),
    ("stopped", "RUNNING", "queued"),
    ("failed", "RUNNING", "failed"),  # its own word of a minute ago
    ("blocked", "COMPLETING", "blocked"),
    ("new", "CANCELLED", "cancelled"),
    ("running", "CANCELLED", "cancelled"),
    ("stopped", "CANCELLED", "cancelled"),
    ("failed", "CANCELLED", "failed"),
    ("new", "FAILED", "failed"),
    ("running", "OUT_OF_MEMORY", "failed"),
    ("stopped", "FAILED", "interrupted"),  # its job could not requeue itself, but the stage was saved
    ("running", "NODE_FAIL", "failed"),
    ("blocked", "FAILED", "blocked"),
    ("running", "BOOT_FAIL", "failed"),
    ("new", "DEADLINE", "failed"),
    ("running", "TIMEOUT", "interrupted"),
    ("stopped", "TIMEOUT", "interrupted"),
    ("new", "PREEMPTED", "interrupted"),
    ("running", "PREEMPTED", "interrupted"),  # by a site that cancels what it preempts (PreemptMode=CANCEL)
    ("running", "GONE", "interrupted"),
    ("new", "GONE", "interrupted"),
    ("failed", "GONE", "failed"),
    ("queued", "COMPLETED", "interrupted"),
    ("new", "UNKNOWN", "unknown"),
    ("failed", "UNKNOWN", "failed"),
    ("running", "UNKNOWN", "unknown"),  # silent for long, but its node's locks may not be seen here
    ("new", "DANCING", "unknown"),
    *(("done", word, "done") for word in ("PENDING", "FAILED", "CANCELLED", "UNKNOWN", "GONE")),
]


@pytest.mark.parametrize("files, word, expected", TABLE)
def test_state_and_word(runs, files, word, expected):
    make(runs, "a", files)
    submitted(runs, ["toy/a"])
    found = state_of(runs, job(word))
    assert found.state == expected
    assert found.state in STATES
    if expected in ("failed", "cancelled", "interrupted", "blocked"):
        assert found.reason or files == "blocked"


def test_the_stages_own_reason_comes_first(runs):
    make(runs, "a", "failed")
    submitted(runs, ["toy/a"])
    assert state_of(runs, job("FAILED", exit_code="1:0")).reason == "the loss is not finite"
    assert state_of(runs, job("OUT_OF_MEMORY")).reason == "the loss is not finite"
    make(runs, "a", "failed", ago=4000)  # said before the submission: of the attempt before
    assert state_of(runs, job("OUT_OF_MEMORY", ended=time.time())).reason == "its job ran out of memory"


def test_exit_codes_and_signals_in_words(runs):
    make(runs, "a", "running")
    submitted(runs, ["toy/a"])
    assert state_of(runs, job("FAILED", exit_code="3:0")).reason == "its job ended as FAILED with exit code 3"
    assert "signal 9 (SIGKILL)" in state_of(runs, job("FAILED", exit_code="0:9")).reason
    assert "Slurm's own code 0:53" in state_of(runs, job("FAILED", exit_code="0:53")).reason


def test_without_a_ledger_nothing_is_asked_and_nothing_changes(runs, slurm):
    for state in FILES:
        make(runs, state, state)
    assert live_records.read(where=runs) == records.read(where=runs) and not slurm.calls


def test_only_unfinished_stages_are_asked_for(runs, slurm):
    make(runs, "a", "done")
    make(runs, "b", "done")
    submitted(runs, ["toy/a"], ["toy/b"])
    assert [r.state for r in live_records.read(where=runs)] == ["done", "done"] and not slurm.calls
    make(runs, "c")
    submitted(runs, ["toy/c"], job="13", array="array-two")
    slurm.squeue(row("13_0", "PENDING", "Priority", name="array-two"))
    assert [r.state for r in live_records.read(where=runs)] == ["done", "done", "queued"] and len(slurm.calls) == 1
    assert live_records.read("other", where=runs) == [] and len(slurm.calls) == 1


@pytest.mark.parametrize("word", ["COMPLETED", "CANCELLED", "FAILED", "RUNNING", "PENDING", "UNKNOWN"])
def test_slurm_is_asked_before_the_files_are_read(runs, word):
    """Else a stage that ends in between would have a job that is over and files that say running. Done wins always."""
    make(runs, "a", "running")
    submitted(runs, ["toy/a"])

    def ends_meanwhile(wanted, users=()):
        make(runs, "a", "done")
        return dict.fromkeys(wanted, job(word))

    assert live_records.read(where=runs, asks=ends_meanwhile)[0].state == "done"


def test_a_submission_that_was_cut_short_is_unknown(runs, slurm):
    make(runs, "a")
    submitted(runs, ["toy/a"], job=None)
    (found,) = live_records.read(where=runs)
    assert found.state == "unknown" and "cut short" in found.reason and not slurm.calls


def test_the_last_living_element_counts_else_the_last(runs):
    make(runs, "a", "running")
    submitted(runs, ["toy/a"], job="12", array="first", ago=3000)
    submitted(runs, ["toy/a"], job="13", array="second", ago=2000)
    words = {"12_0": job("RUNNING"), "13_0": job("CANCELLED")}
    found = live_records.read(where=runs, asks=lambda wanted, users: words)[0]
    assert (found.state, found.element.array, found.submissions) == ("running", "first", 2)
    words["12_0"] = job("FAILED")
    found = live_records.read(where=runs, asks=lambda wanted, users: words)[0]
    assert (found.state, found.element.array) == ("cancelled", "second")


def test_descendants_of_what_failed_are_blocked(runs):
    make(runs, "a", "failed", method="dense")
    make(runs, "b", parent="a")
    make(runs, "c", parent="b")
    make(runs, "d", "running", parent="b")
    submitted(runs, ["toy/b"], ["toy/c"], ["toy/d"])
    words = {"12_0": job("CANCELLED"), "12_1": job("GONE"), "12_2": job("RUNNING")}
    found = {r.digest: r for r in live_records.read(where=runs, asks=lambda wanted, users: words)}
    assert {name: r.state for name, r in found.items()} == {
        "a": "failed",
        "b": "blocked",
        "c": "blocked",
        "d": "running",  # whatever its ancestors are: it runs
    }
    assert found["b"].reason == found["c"].reason == "dense a, on which it stands, is failed"


def test_what_slurm_gave_up_by_itself_was_cancelled_by_nobody(runs):
    make(runs, "a", "stopped")
    make(runs, "b", parent="a")
    submitted(runs, ["toy/b"])
    for word in (job("CANCELLED", jobs.NEVER), job("PENDING", jobs.NEVER)):
        assert state_of(runs, word, "b").state == "blocked"


def test_a_circle_of_parents_ends(runs):
    make(runs, "a", parent="b")
    make(runs, "b", parent="a")
    submitted(runs, ["toy/a"], ["toy/b"])
    assert {state_of(runs, job("CANCELLED"), name).state for name in "ab"} == {"cancelled", "blocked"}


def test_an_element_with_several_stages(runs):
    """It ended badly in its second stage: the first is done, the third never had its turn."""
    make(runs, "a", "done")
    make(runs, "b", "failed")
    make(runs, "c")
    submitted(runs, ["toy/a", "toy/b", "toy/c"])
    found = {r.digest: r for r in live_records.read(where=runs, asks=lambda w, u: dict.fromkeys(w, job("FAILED")))}
    assert [found[name].state for name in "abc"] == ["done", "failed", "interrupted"]
    make(runs, "b", "running")
    found = {r.digest: r for r in live_records.read(where=runs, asks=lambda w, u: dict.fromkeys(w, job("NODE_FAIL")))}
    assert [found[name].state for name in "abc"] == ["done", "failed", "interrupted"]
    found = {r.digest: r for r in live_records.read(where=runs, asks=lambda w, u: dict.fromkeys(w, job("RUNNING")))}
    assert [found[name].state for name in "abc"] == ["done", "running", "queued"]


def test_trained_elsewhere_after_its_job_was_over(runs):
    folder = make(runs, "a", "stopped", ago=10)
    submitted(runs, ["toy/a"])
    assert state_of(runs, job("CANCELLED", ended=time.time() - 600)).state == "interrupted"
    make(runs, "a", "running", ago=5)
    with open(paths.lock(folder), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert state_of(runs, job("FAILED")).state == "running"
    assert state_of(runs, job("FAILED")).state == "failed"


def test_deleted_and_planned_anew_it_is_new(runs):
    folder = make(runs, "a")
    submitted(runs, ["toy/a"])
    assert state_of(runs, job("GONE")).state == "interrupted"
    os.utime(paths.config(folder))
    assert state_of(runs, job("GONE")).state == "new"
    assert state_of(runs, job("PENDING")).state == "queued"


def test_a_job_without_a_trace_or_without_its_code_says_so(runs):
    make(runs, "a")
    sweep = submitted(runs, ["toy/a"])
    word = job("FAILED", exit_code="0:53")
    assert "do not see this folder (RUNS" in state_of(runs, word).reason and str(runs) in state_of(runs, word).reason
    (element,) = ledger.of_sweep(sweep)
    element.err.write_text("x")
    assert "RUNS" not in state_of(runs, word).reason
    os.rmdir(element.code)
    assert "frozen code" in state_of(runs, word).reason


def test_again_reads_one_stage(runs, slurm):
    make(runs, "a")
    submitted(runs, ["toy/a"])
    slurm.squeue(row("12_0", "PENDING", "Priority"))
    (found,) = live_records.read(where=runs)
    slurm.squeue(row("12_0", "CANCELLED"))
    assert (found.state, live_records.again(found).state) == ("queued", "cancelled")
    make(runs, "a", "done")
    before = len(slurm.calls)
    assert live_records.again(found).state == "done" and len(slurm.calls) == before


def test_find(runs):
    for digest in ("abcd11", "abcd22", "ef", "ef01"):
        make(runs, digest, sparsity=0.5, seed=3)
    found = records.read(where=runs)
    assert records.find("abcd1", found).digest == "abcd11" and records.find("ef", found).digest == "ef"
    assert records.find("toy/ABCD2", found).digest == "abcd22"
    with pytest.raises(UserError, match="fits 2 stages") as several:
        records.find("abcd", found)
    assert "imp 50.00% seed 3" in str(several.value) and "abcd22" in str(several.value)
    for wrong in ("zz", "", "toy/"):
        with pytest.raises(UserError, match="make status"):
            records.find(wrong, found)


# -- properties ------------------------------------------------------------------------------------------------------

stages = st.tuples(st.sampled_from(FILES), st.sampled_from(WORDS), st.sampled_from([5.0, 60.0, 4000.0]), st.booleans())


@given(st.lists(stages, min_size=1, max_size=5), st.booleans())
def test_what_holds_for_every_tree(tmp_path_factory, drawn, lane):
    runs = tmp_path_factory.mktemp("tree")
    names = [f"s{i}" for i in range(len(drawn))]
    for i, (files, _, ago, child) in enumerate(drawn):
        make(runs, names[i], files, ago, parent=names[i - 1] if child and i else None)
    keys = [f"toy/{name}" for name in names]
    submitted(runs, *([keys] if lane else [[key] for key in keys]))
    words = {f"12_{i}": job(word) for i, (_, word, _, _) in enumerate(drawn)}
    before = snapshot(runs)
    plain = {r.digest: r.state for r in records.read(where=runs)}
    asked = []

    def asks(wanted, users=()):
        asked.append(wanted)
        return {name: words[name] for name in wanted}

    found = {r.digest: r for r in live_records.read(where=runs, asks=asks)}
    assert snapshot(runs) == before  # reading writes nothing
    for i, (files, _, _, _) in enumerate(drawn):
        record = found[names[i]]
        word = words["12_0" if lane else f"12_{i}"]
        assert record.state in STATES
        assert (record.state == "done") == (files == "done")  # done wins always, and nothing else becomes done
        if word.alive is None and files != "done":
            silent = plain[names[i]] in ("new", "interrupted") and files != "stopped"
            assert record.state == ("unknown" if silent else plain[names[i]])  # no answer, no verdict
        if word.alive:
            assert record.state not in ("new", "interrupted", "cancelled", "unknown")
        if word.alive is False:
            assert record.state not in ("queued", "running", "unknown", "new")
    assert len(asked) == (any(files != "done" for files, *_ in drawn))


def test_what_was_cancelled_before_it_started(runs):
    """Slurm forgets such an element at once, with or without accounting; `make cancel` wrote it down."""
    for name in "ab":
        make(runs, name)
    sweep = submitted(runs, ["toy/a"], ["toy/b"])
    assert state_of(runs, job("GONE")).state == "interrupted"
    ledger.write(sweep, live_records.CANCELLED, array="array-one", jobs=["12_0"])
    ledger.write(sweep, live_records.CANCELLED, array="another", jobs=["12_1"])
    assert [state_of(runs, job("GONE"), name).state for name in "ab"] == ["cancelled", "interrupted"]
    gone = state_of(runs, job("GONE"))
    assert live_records.again(gone, lambda wanted, users: dict.fromkeys(wanted, job("GONE"))).state == "cancelled"
    assert state_of(runs, job("RUNNING")).state == "queued", "Slurm's own word comes first"
    assert state_of(runs, job("FAILED")).state == "failed"


def test_later_stages_of_a_job_wait_for_their_turn(runs):
    make(runs, "a", "running")
    make(runs, "b", parent="a")
    submitted(runs, ["toy/a", "toy/b"])
    assert state_of(runs, job("RUNNING"), "b").reason == IN_TURN
    assert state_of(runs, job("PENDING"), "b").reason == "not yet considered by Slurm"


def test_a_submission_that_was_cut_short_is_neither_on_its_way_nor_unknown(tmp_path, monkeypatch):
    """Killed between the intent and the note of the number: who submits next finds out what became of it."""
    for digest in ("a", "b", "c"):
        make(tmp_path, digest)
    submitted(tmp_path, ["toy/a"], job=None, array="cut-short")
    submitted(tmp_path, ["toy/a", "toy/b"], ["toy/c"], job="12", array="array-one")
    submitted(tmp_path, ["toy/d"], job=None, array="cut-short-too")
    answers = {"12_0": Job("RUNNING", source="squeue"), "12_1": Job("UNKNOWN")}

    def asks(wanted, users=()):
        assert set(wanted) == set(answers), "nothing is asked about what has no number"
        return answers

    alive, mute = live_records.in_flight(tmp_path, asks)
    assert {name: element.id for name, element in alive.items()} == {"toy/a": "12_0", "toy/b": "12_0"}
    assert mute == ["toy/c"]
    only = tmp_path / "only"
    submitted(only, ["toy/a"], job=None, array="cut-short")
    assert live_records.in_flight(only, asks) == ({}, [])
