"""Files read, and told apart: by a mark that costs no reading, and by checksums. Standard library only."""

import functools
import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from common.errors import UserError

chunk = 1 << 22  # bytes read at a time


def mark(path: Path) -> tuple:
    """Path, size in bytes, times of change in nanoseconds and inode; the path alone where there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return (str(path),)
    return (str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def read(path: Path) -> bytes:
    """The content of ``path``; ``UserError`` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as problem:
        raise UserError(f"{path}: cannot be read ({problem.strerror or problem})") from problem


def checksum(paths: Iterable[Path]) -> str:
    """SHA-256 over the names, sizes and contents of ``paths``, in hexadecimal; empty where there are none.

    Kept in the process, and read again once a file's mark changes. ``UserError`` where one cannot be read.
    """
    marks = tuple(mark(path) for path in paths)
    return _checksum(marks) if marks else ""


@functools.cache
def _checksum(marks: tuple) -> str:
    digest = hashlib.sha256()
    for path in (Path(found[0]) for found in marks):
        try:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            _digest(path, open, digest)
        except OSError as problem:
            raise UserError(f"{path}: cannot be read ({problem.strerror or problem}); expected a file") from problem
    return digest.hexdigest()


def md5(path: Path, opener: Callable = open) -> str:
    """The MD5 sum of what ``opener`` reads from the file; empty when there is no file or it cannot be unpacked."""
    digest = hashlib.md5(usedforsecurity=False)
    if not path.is_file():
        return ""
    try:
        _digest(path, opener, digest)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return ""
    return digest.hexdigest()


def _digest(path: Path, opener: Callable, digest) -> None:
    with opener(path, "rb") as file:
        while block := file.read(chunk):
            digest.update(block)
