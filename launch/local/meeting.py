"""The folder with the socket at which a sweep's workers meet their driver: private, and gone when nobody owns it."""

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

SOCKET = "driver"
NAME = re.compile(r"sweep-[a-z0-9_]{8}")  # as mkdtemp makes of the prefix
LONGEST = 80  # bytes of the folder for temporary files, to which a socket's path adds 22; macOS takes 103 in all


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A fresh folder, locked while it is in use: what a killed sweep left is told by its free lock, and removed."""
    parent = Path(tempfile.gettempdir())
    if len(os.fsencode(parent)) > LONGEST:
        parent = Path("/tmp")
    for left in parent.iterdir():
        if NAME.fullmatch(left.name):
            _remove_left(left)
    folder, descriptor = _fresh(parent)
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(descriptor)


def _fresh(parent: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor that holds its lock for as long as this process lives."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix="sweep-", dir=parent))
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # another sweep took it for one that is left
            continue
        with contextlib.suppress(OSError):  # a file system without locks, where nobody removes it either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():
            return folder, descriptor
        os.close(descriptor)


def _remove_left(folder: Path) -> None:
    """Unless it is in use, or another user's, or cannot be locked here."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_uid == os.getuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
        finally:
            os.close(descriptor)


def _remove(folder: Path) -> None:
    """What is in it and is not ours stays, and the folder with it."""
    with contextlib.suppress(OSError):
        (folder / SOCKET).unlink(missing_ok=True)
        folder.rmdir()
