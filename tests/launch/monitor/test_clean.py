"""Making room: what goes and what stays, asked first, under the stage's lock, never out of the runs folder."""

import fcntl
import json
import os
import time

import pytest

from common import paths
from launch.monitor import clean
from launch.runs import ledger
from launch.slurm import live_records
from tests.support.fake_slurm import job, make, submitted

LONG_AGO = time.time() - 86400


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def yes(question):
    return True


def read(runs, **words):
    answers = {f"12_{name[1:]}": word for name, word in words.items()}
    return live_records.read(where=runs, asks=lambda wanted, users: {name: answers[name] for name in wanted})


def go(runs, found, chosen=None, confirm=yes, **options):
    picked = None if chosen is None else [r for r in found if r.digest in chosen]
    return clean.clean(clean.plan(found, picked, where=runs, **options), confirm)


def fill(folder, *names, size=1000):
    for name in names:
        (folder / name).write_bytes(b"x" * size)


def age(folder):
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)


def names(folder):
    return {path.name for path in folder.iterdir()}


RESUME = ("checkpoint.pt", "checkpoint.previous.pt", "checkpoint.next.pt", ".weights.pt.77.tmp")
WEIGHTS = ("weights.pt", "selected.pt", "snapshot-0.pt", "snapshot-500.pt")


def test_resume_points_of_finished_stages_only(runs, capsys):
    for name, state in (("a", "done"), ("b", "stopped"), ("c", "failed")):
        fill(make(runs, name, state), *RESUME, *WEIGHTS)
    assert go(runs, read(runs)) == 0
    out = capsys.readouterr().out
    assert "resume points of finished stages: 1, 3.9 KiB" in out and "3.9 KiB deleted" in out
    assert not set(RESUME) & names(runs / "toy" / "a") and set(WEIGHTS) <= names(runs / "toy" / "a")
    assert set(RESUME) <= names(runs / "toy" / "b") and set(RESUME) <= names(runs / "toy" / "c")
    assert go(runs, read(runs)) == 0 and "nothing to delete" in capsys.readouterr().out


def test_no_is_no(runs, capsys):
    folder = make(runs, "a", "done")
    fill(folder, *RESUME)
    asked = []
    assert go(runs, read(runs), confirm=asked.append) == 0
    assert asked == ["Delete 3.9 KiB?"] and set(RESUME) <= names(folder)
    assert "nothing was deleted" in capsys.readouterr().out


def sweep_of(runs, *stages, job="12", array="array-one"):
    """A sweep with its plan, logs of its array and of a local worker; everything long ago."""
    sweep = submitted(runs, *[[stage] for stage in stages], job=job, array=array)
    plan = [json.dumps(dict(zip(("task", "digest"), stage.split("/")))) for stage in stages]
    (sweep / "plan.jsonl").write_text("\n".join(plan) + "\n")
    (sweep / "local-x").mkdir()
    fill(sweep / "local-x", "1_0_log.err")
    fill(sweep / array, "12_0_0_log.out")
    age(runs / ".sweeps")
    age(runs / ".code")
    return sweep


@pytest.mark.parametrize(
    "files, word, goes",
    [
        ("done", "COMPLETED", True),
        ("new", "CANCELLED", True),
        ("new", "PENDING", False),
        ("running", "RUNNING", False),
        ("failed", "FAILED", False),
        ("running", "TIMEOUT", False),
        ("new", "UNKNOWN", False),
    ],
)
def test_logs_of_sweeps_with_nothing_under_way_or_failed(runs, files, word, goes):
    make(runs, "a", "done")
    make(runs, "b", files)
    sweep = sweep_of(runs, "toy/a", "toy/b")
    found = read(runs, e0=job("COMPLETED"), e1=job(word))
    assert go(runs, found) == 0
    assert names(sweep) == {"plan.jsonl", "jobs.jsonl"} | (set() if goes else {"array-one", "local-x"})
    assert read(runs, e0=job("COMPLETED"), e1=job(word))[1].state == found[1].state


def test_a_sweep_that_just_began_keeps_its_folders(runs):
    make(runs, "a", "done")
    sweep = sweep_of(runs, "toy/a")
    (sweep / "plan.jsonl").touch()
    os.utime(sweep / "plan.jsonl")
    assert go(runs, read(runs)) == 0 and "local-x" in names(sweep)


def test_code_that_a_job_needs_stays(runs):
    make(runs, "a", "stopped")
    make(runs, "b", "done")
    code = runs / ".code"
    submitted(runs, ["toy/a"], code=str(code / "old"))
    for name in ("abc", "old", "older", "fresh"):
        (code / name / "common").mkdir(parents=True)
        fill(code / name, "COMPLETE")
    age(code)
    os.utime(code / "fresh" / "COMPLETE")
    for word in ("PENDING", "RUNNING", "UNKNOWN"):
        clean.clean(clean.plan(read(runs, e0=job(word)), where=runs), yes)
        assert {"old", "fresh"} <= names(code), word
    assert "older" not in names(code)
    assert go(runs, read(runs, e0=job("TIMEOUT"))) == 0 and names(code) == {"fresh"}


def test_a_trial_that_was_cut_short_goes(runs):
    for name in (".try-old", ".try-new"):
        (runs / ".sweeps" / name).mkdir(parents=True)
        fill(runs / ".sweeps" / name, "array.sh")
    age(runs / ".sweeps" / ".try-old")
    assert go(runs, read(runs)) == 0 and names(runs / ".sweeps") == {".try-new"}


def test_code_of_a_submission_that_was_cut_short_stays(runs):
    make(runs, "a", "done")
    submitted(runs, ["toy/a"], job=None)
    (element,) = ledger.elements(runs)
    age(runs / ".code")
    go(runs, read(runs))
    assert os.path.isdir(element.code)


def test_weights_of_finished_stages(runs, capsys):
    for name, state, parent in (("a", "done", None), ("b", "done", "a"), ("c", "done", None), ("d", "stopped", "c")):
        fill(make(runs, name, state, parent=parent), *WEIGHTS, "checkpoint.pt")
    assert go(runs, read(runs), weights=True) == 0
    out = capsys.readouterr().out
    assert "trains it again" in out and "weights kept, as unfinished stages start from them: 1" in out
    for name in "ab":
        assert not set(WEIGHTS) & names(runs / "toy" / name) and paths.done(runs / "toy" / name).exists()
    for name in "cd":
        assert set(WEIGHTS) <= names(runs / "toy" / name)
    fill(runs / "toy" / "a", *WEIGHTS)
    fill(runs / "toy" / "b", *WEIGHTS)
    assert go(runs, read(runs), chosen="b", weights=True) == 0
    assert set(WEIGHTS) <= names(runs / "toy" / "a") and not set(WEIGHTS) & names(runs / "toy" / "b")


def test_weights_of_an_ancestor_further_up_stay(runs):
    """Rewinding takes the snapshot of the first stage, rounds later."""
    for name, state, parent in (("a", "done", None), ("b", "done", "a"), ("c", "failed", "b")):
        fill(make(runs, name, state, parent=parent), *WEIGHTS)
    go(runs, read(runs), weights=True)
    assert all(set(WEIGHTS) <= names(runs / "toy" / name) for name in "abc")


def test_whole_stages(runs, capsys):
    for name, state, parent in (("a", "done", None), ("b", "failed", "a"), ("c", "stopped", "b"), ("e", "done", None)):
        make(runs, name, state, parent=parent)
    assert go(runs, read(runs), chosen="a") == 0
    out = capsys.readouterr().out
    assert "standing on these (2; DESCENDANTS=1" in out and "b toy imp" in out and "results are lost" in out
    assert names(runs / "toy") == {"b", "c", "e"}
    assert go(runs, read(runs), chosen="b", descendants=True) == 0
    assert names(runs / "toy") == {"e"}


def test_what_runs_or_waits_stays_and_what_it_stands_on(runs, capsys):
    for name, state, parent in (("a", "done", None), ("b", "new", "a"), ("c", "running", None)):
        make(runs, name, state, parent=parent)
    submitted(runs, ["toy/b"], ["toy/c"])
    found = read(runs, e0=job("PENDING", "Priority"), e1=job("RUNNING"))
    assert go(runs, found, chosen="abc") == 0 and names(runs / "toy") == {"a", "b", "c"}
    out = capsys.readouterr().out
    assert "nothing to delete" in out and "needed by what is (3)" in out
    assert go(runs, read(runs, e0=job("UNKNOWN"), e1=job("GONE")), chosen="abc") == 0
    assert names(runs / "toy") == {"a", "b"}  # unknown is not dead


def test_a_stage_that_somebody_holds_stays(runs, capsys):
    folder = make(runs, "a", "done")
    fill(folder, *RESUME)
    with open(paths.lock(folder), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert go(runs, read(runs)) == 1 and go(runs, read(runs), chosen="a") == 1
        assert set(RESUME) <= names(folder) and "another process holds its stage" in capsys.readouterr().out
    assert go(runs, read(runs), chosen="a") == 0 and not folder.exists()


def test_weights_of_a_stage_that_is_trained_again_meanwhile_stay(runs):
    folder = make(runs, "a", "done")
    fill(folder, *WEIGHTS)
    planned = clean.plan(read(runs), weights=True, where=runs)
    paths.done(folder).unlink()
    assert clean.clean(planned, yes) == 1 and set(WEIGHTS) <= names(folder)


def test_links_are_never_followed(runs, tmp_path, capsys):
    outside = tmp_path / "outside"
    outside.mkdir()
    fill(outside, "precious", *RESUME)
    folder = make(runs, "a", "failed")
    (folder / "link").symlink_to(outside)
    (folder / "checkpoint.pt").symlink_to(outside / "checkpoint.pt")
    linked = make(runs, "b", "done")
    real = tmp_path / "elsewhere"
    linked.rename(real)
    fill(real, *RESUME)
    linked.symlink_to(real)
    assert go(runs, read(runs), chosen="a") == 0 and not folder.exists()
    assert go(runs, read(runs)) == 1 and go(runs, read(runs), chosen="b") == 1
    assert "leads out of" in capsys.readouterr().out
    assert names(outside) == {"precious", *RESUME} and set(RESUME) <= names(real) and linked.is_symlink()


def test_a_runs_folder_that_is_itself_a_link(runs, tmp_path):
    fill(make(runs, "a", "done"), *RESUME)
    link = tmp_path / "link"
    link.symlink_to(runs)
    assert go(link, read(link)) == 0 and not set(RESUME) & names(runs / "toy" / "a")


def test_what_cannot_be_deleted_is_named_and_the_rest_goes(runs, capsys, monkeypatch):
    """Root may delete anything, so the refusal is the file system's word and not its deed."""
    for name in "ab":
        fill(make(runs, name, "done"), "checkpoint.pt")
    unlink = clean.Path.unlink

    def refuse(path, **options):
        if path.parent.name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, **options)

    monkeypatch.setattr(clean.Path, "unlink", refuse)
    assert go(runs, read(runs)) == 1
    assert "a/checkpoint.pt: Permission denied" in capsys.readouterr().out
    assert not paths.checkpoint(runs / "toy" / "b").exists()


def test_a_deletion_that_was_killed_is_finished_by_the_next(runs, monkeypatch):
    make(runs, name := "0123456789abcdef", "done")

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(clean.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        go(runs, read(runs), chosen=[name])
    assert read(runs) == []  # out of sight at once
    monkeypatch.undo()
    assert go(runs, read(runs)) == 0 and names(runs / "toy") == set()


def test_a_folder_without_a_stages_files_is_never_touched(runs, capsys):
    """RUNS may be a folder that holds other things as well."""
    thesis = runs / "projects" / "thesis"
    texts = {"config.yaml": "name: thesis\n", "DONE": "yes\n", "status.json": '{"state": "done"}', "chapter": "1"}
    others = [thesis, runs / ".code" / "mine", runs / ".code" / "empty", runs / "projects" / ".deleted-drafts-7"]
    for folder in others:
        folder.mkdir(parents=True)
        for name, text in texts.items() if folder.name != "empty" else ():
            (folder / name).write_text(text)
    for folder in (runs / ".code", *others):
        age(folder)
    assert go(runs, read(runs), chosen=["thesis"]) == 0 and go(runs, read(runs)) == 0
    assert "kept, as no file in it says that it is a stage's (1): " in capsys.readouterr().out
    assert all(folder.is_dir() for folder in others) and names(thesis) == set(texts)


@pytest.mark.parametrize("left", ["config.yaml", "status.json", "DONE"])
def test_a_damaged_stage_goes_when_asked_for(runs, left):
    folder = make(runs, "a", "done")
    status = json.loads(paths.status(folder).read_text()) | {"attempt": 1, "host": "here", "pid": 7}
    paths.status(folder).write_text(json.dumps(status))
    for path in {paths.config(folder), paths.status(folder), paths.done(folder)} - {folder / left}:
        path.write_bytes(b"\xff\x00{")
    assert go(runs, read(runs), chosen="a") == 0 and not folder.exists()


def test_a_stage_whose_lock_cannot_be_taken_says_why(runs, capsys):
    folder = make(runs, "a", "done")
    paths.lock(folder).mkdir()  # root may write anywhere: this is refused to everybody
    assert go(runs, read(runs), chosen="a") == 1 and folder.exists()
    out = capsys.readouterr().out
    assert "Is a directory" in out and "another process" not in out
