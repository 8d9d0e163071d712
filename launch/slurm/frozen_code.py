"""Freezes the code that jobs run, so that editing the checkout changes nothing for those that wait.

A snapshot lies in ``runs/.code/<checksum>``, is shared by all sweeps with the same code, and counts once its marker
``COMPLETE`` is there, which is written before the folder gets its name.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from common import paths, record
from common.errors import UserError

PARTS = ("common", "launch", "tasks")
MARKER = "COMPLETE"


def home() -> Path:
    return paths.runs() / ".code"


def files(root: Path) -> list[Path]:
    """What is frozen, relative to ``root``: every file of our three packages but compiled and hidden ones."""
    found = [path.relative_to(root) for part in PARTS for path in (root / part).rglob("*") if path.is_file()]
    return sorted(path for path in found if not any(n.startswith(".") or n == "__pycache__" for n in path.parts))


def checksum(root: Path) -> str:
    """SHA-256 (first 16 hex digits) of the names and contents of ``files(root)``."""
    sums = hashlib.sha256()
    for relative in files(root):
        content = (root / relative).read_bytes()
        sums.update(f"{relative.as_posix()} {len(content)}\n".encode() + content)
    return sums.hexdigest()[:16]


def freeze() -> Path:
    """The folder with a frozen copy of this code, made where there is none yet. ``UserError`` where it cannot be."""
    root = paths.root()
    try:
        name = checksum(root)
        folder = home() / name
        if _whole(folder, name):
            (folder / MARKER).touch()  # who tidies up leaves alone what was asked for a moment ago
        else:
            _copy(root, folder, name)
    except OSError as problem:
        raise UserError(
            f"cannot freeze the code in {home()} ({problem.strerror or problem}): expected a writable folder with free "
            "space; RUNS=<folder> chooses another. Nothing was submitted"
        ) from None
    return folder


def is_copy(folder: Path) -> bool:
    """Does ``folder`` hold what is frozen and nothing else, or a part of it? A copy may have been cut short."""
    try:
        names = {name for name in os.listdir(folder) if not name.startswith(".")}
    except OSError:
        return False
    return bool(names) and names <= {MARKER, *PARTS}


def _whole(folder: Path, name: str) -> bool:
    """Is the snapshot there and untouched? ``UserError`` where somebody edited it, since jobs may be running it."""
    if not (folder / MARKER).exists():
        return False
    if checksum(folder) != name:
        raise UserError(
            f"the frozen code {folder} was changed; expected the files as they were copied. `make cancel` the jobs "
            "that run it, delete this folder, and repeat. Nothing was submitted"
        )
    return True


def _copy(root: Path, folder: Path, name: str) -> None:
    home().mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=home()))
    try:
        aside.chmod(0o755)  # mkdtemp keeps others out, also a service account that runs the jobs
        for relative in files(root):
            target = aside / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / relative, target)
        if checksum(aside) != name:
            raise UserError(f"the code in {root} changed while it was being frozen: repeat the command")
        record.write_text(aside / MARKER, name + "\n")
        try:
            os.rename(aside, folder)
        except OSError:
            if (folder / MARKER).exists():  # another submission was quicker
                return
            shutil.rmtree(folder)  # a copy that nobody finished
            os.rename(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
