"""DONE vouches for what a finished stage says: what differs is damage, what cannot be read is not."""

import errno
from pathlib import Path

import pytest

from common import paths, record
from common.stage import run
from common.training.resume import checkpoint
from launch.runs.child import mark
from tests.support import training

NAMES = ("summary.json", "config.yaml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished parent and child, and every byte of the files that a report reads."""
    with pytest.MonkeyPatch.context() as context:
        context.setenv("RUNS", str(tmp_path_factory.mktemp("sealed")))
        parent, child = training.line("omp_after", {"run.steps": 4})
        training.train([parent, child])
    return parent, child


def status(folder) -> dict:
    return record.read_status(folder)


def flip(path, position: int) -> bytes:
    """Turn over one bit; returns what was there."""
    before = path.read_bytes()
    content = bytearray(before)
    content[position % len(content)] ^= 1
    path.write_bytes(content)
    return before


@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_found(trained, name):
    path = trained[1] / name
    for position in range(0, path.stat().st_size, 97):
        before = flip(path, position)
        try:
            assert record.fault(path.parent) and not record.finished(path.parent)
        finally:
            path.write_bytes(before)
    assert record.fault(path.parent) == "" and record.finished(path.parent)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"0123456789abcdef\n", b"{name}\nabcdef summary.json\n"])
def test_a_damaged_mark_blocks_nobody_for_ever(trained, content):
    """It counts as damaged for its children, and is trained again when it is asked for; then they can start."""
    parent, child = trained
    before = paths.done(parent).read_bytes()
    paths.done(parent).write_bytes(content.replace(b"{name}", parent.name.encode()))
    paths.done(child).unlink()
    assert record.fault(parent) == "DONE is damaged"
    assert run.execute(child) == "blocked" and "is damaged (DONE is damaged)" in status(child)["reason"]
    assert run.execute(parent) == "done" and run.execute(child) == "done"
    sums = record.vouched(parent)
    assert sums["weights.pt"] == dict(line.split("  ")[::-1] for line in before.decode().splitlines()[1:])["weights.pt"]


@pytest.mark.parametrize("name", NAMES)
def test_what_was_changed_is_trained_again(trained, name):
    parent, _ = trained
    if name == "summary.json":
        flip(parent / name, 40)
        assert run.execute(parent) == "done" and record.finished(parent)
    else:  # a configuration of another digest is not trained at all: the plan writes it anew
        before = flip(parent / name, 40)
        assert run.execute(parent) == "failed"
        (parent / name).write_bytes(before)
        assert run.execute(parent) == "done" and record.finished(parent)


def test_weights_of_another_training_are_not_started_from_and_trained_again(trained):
    parent, child = trained
    content = checkpoint.load(paths.weights(parent))
    content["model"]["fc1.weight"][0, 0] += 1
    checkpoint.save(paths.weights(parent), content)
    paths.done(child).unlink()
    assert run.execute(child) == "failed"
    assert "is not the file that training wrote" in status(child)["reason"]
    assert "is not the file that training wrote" in record.fault(parent)
    assert run.execute(child) == "blocked", "nobody starts from it meanwhile"
    assert run.execute(parent) == "done" and run.execute(child) == "done"


def test_damaged_weights_of_all_ancestors_are_named_at_once():
    """Each would else be found by another sweep, when what it damaged is trained again."""
    *above, last = training.line("imp", {"run.steps": 4, "method.rounds": 3})
    training.train(above)
    assert len(above) == 3
    for folder in above[:2]:
        flip(paths.weights(folder), 1000)
    assert run.execute(last) == "done", "none of these is what it starts from"
    paths.done(last).unlink()
    flip(paths.weights(above[2]), 1000)
    assert run.execute(last) == "failed"
    assert all(folder.name in status(last)["reason"] and record.fault(folder) for folder in above)
    assert [run.execute(folder) for folder in (*above, last)] == ["done"] * 4, "without a file to delete by hand"


def test_a_mark_that_cannot_be_withdrawn_is_named(monkeypatch):
    parent, child = training.line("omp_after", {"run.steps": 4})
    training.train([parent])
    flip(paths.weights(parent), 1000)
    real = record.write_text

    def refuse(path, text):
        if path == paths.done(parent):
            raise OSError(errno.EACCES, "Permission denied", str(path))
        real(path, text)

    monkeypatch.setattr(record, "write_text", refuse)
    assert run.execute(child) == "failed"
    assert f"delete {paths.done(parent)} and repeat 'make sweep'" in status(child)["reason"]


def test_a_folder_in_the_place_of_the_mark_is_no_mark(trained):
    parent, _ = trained
    paths.done(parent).unlink()
    paths.done(parent).mkdir()
    assert record.fault(parent) == "DONE is a folder"
    assert run.execute(parent) == "done" and record.finished(parent)


def test_stages_of_before_there_were_checksums_are_finished(trained):
    parent, child = trained
    before = paths.done(parent).read_text()
    paths.done(parent).write_text(parent.name + "\n")
    assert record.finished(parent) and record.vouched(parent) == {}
    paths.done(child).unlink()
    assert run.execute(child) == "done"
    paths.done(parent).write_text(before)


def test_what_cannot_be_read_now_is_not_damaged(trained, monkeypatch):
    """ESTALE, EIO: the file may be as good as ever, and nothing is deleted or begun again for it."""
    parent, child = trained
    real, broken = open, [paths.weights(parent)]

    def refuse(file, *arguments, **named):
        if isinstance(file, str | Path) and Path(file) in broken:
            raise OSError(errno.EIO, "Input/output error", str(file))
        return real(file, *arguments, **named)

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr("io.open", refuse)
    paths.done(child).unlink()
    assert run.execute(child) == "failed"
    reason = status(child)["reason"]
    assert "Input/output error" in reason and "delete" not in reason and record.finished(parent)
    broken[:] = [paths.checkpoint(child)]
    with pytest.raises(OSError, match="Input/output error"):
        checkpoint.load_resume_point(child, child.name)
    broken.clear()
    assert run.execute(child) == "done"


@pytest.mark.parametrize("fails", ["unlink", "status"])
def test_what_fails_after_the_mark_is_no_failure(trained, monkeypatch, fails):
    """The disk takes nothing more, or the resume points cannot be deleted: the stage is done, and says so."""
    _, child = trained
    paths.done(child).unlink()
    seal, real, sealed = record.seal, {"unlink": Path.unlink, "status": record.write_json}, []

    def refuse(path, *arguments, **options):
        touched = path.name.startswith("checkpoint") if fails == "unlink" else path == paths.status(child)
        if sealed and touched:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real[fails](path, *arguments, **options)

    monkeypatch.setattr(record, "seal", lambda *arguments: sealed.append(seal(*arguments)))
    monkeypatch.setattr(Path if fails == "unlink" else record, "unlink" if fails == "unlink" else "write_json", refuse)
    assert run.execute(child) == "done" and sealed
    monkeypatch.undo()
    assert record.finished(child) and (fails == "status" or status(child)["state"] == "done")
    assert mark(child, "failed", "killed by signal 9", -1) == ("done", "")
    checkpoint.remove_resume_points(child)
