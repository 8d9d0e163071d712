"""Frozen code: whole or not there, one for equal code, and untouched by what happens to the checkout."""

import multiprocessing
import shutil
from pathlib import Path

import pytest

from common import paths
from common.errors import UserError
from launch.slurm import frozen_code


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small checkout of its own, and a runs folder."""
    root = tmp_path / "checkout"
    for name, text in {"common/a.py": "1", "tasks/t/b.yaml": "b: 2", "launch/c.py": "3", "tests/d.py": "4"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(paths, "root", lambda: root)
    return root


def contents(folder: Path) -> dict[str, str]:
    return {f.relative_to(folder).as_posix(): f.read_text() for f in folder.rglob("*") if f.is_file()}


def test_it_holds_the_code_and_nothing_else(checkout):
    (checkout / "common" / "__pycache__").mkdir()
    (checkout / "common" / "__pycache__" / "a.pyc").write_text("compiled")
    (checkout / "common" / ".a.py.swp").write_text("an editor's")
    frozen = frozen_code.freeze()
    expected = {"common/a.py": "1", "tasks/t/b.yaml": "b: 2", "launch/c.py": "3", "COMPLETE": f"{frozen.name}\n"}
    assert contents(frozen) == expected
    assert frozen.parent == paths.runs() / ".code"


def test_editing_the_checkout_changes_only_the_next_one(checkout):
    first = frozen_code.freeze()
    assert frozen_code.freeze() == first
    before = contents(first)
    (checkout / "common" / "a.py").write_text("edited")
    second = frozen_code.freeze()
    assert second != first and contents(first) == before
    assert (second / "common" / "a.py").read_text() == "edited"


def test_a_copy_that_nobody_finished_is_made_anew(checkout):
    frozen = frozen_code.freeze()
    (frozen / frozen_code.MARKER).unlink()
    (frozen / "common" / "a.py").unlink()
    assert frozen_code.freeze() == frozen
    assert (frozen / "common" / "a.py").read_text() == "1" and (frozen / frozen_code.MARKER).exists()


def test_an_edited_snapshot_is_refused(checkout):
    frozen = frozen_code.freeze()
    (frozen / "common" / "a.py").write_text("by hand")
    with pytest.raises(UserError, match="was changed"):
        frozen_code.freeze()


def test_no_litter_when_it_fails(checkout, monkeypatch):
    monkeypatch.setattr(shutil, "copyfile", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match=r"No space left.*Nothing was submitted"):
        frozen_code.freeze()
    assert not list(frozen_code.home().iterdir())


def _freeze(root: Path) -> str:
    paths.root = lambda: root
    return frozen_code.freeze().name


def test_several_at_once_agree(checkout):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        names = set(pool.map(_freeze, [checkout] * 12))
    assert names == {frozen_code.checksum(checkout)}
    assert [f.name for f in frozen_code.home().iterdir()] == list(names)
