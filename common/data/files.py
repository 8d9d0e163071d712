"""Files read, and told apart: by a mark that costs no reading, and by checksums. Standard library only."""

import bz2
import functools
import gzip
import hashlib
import lzma
import zlib
from collections.abc import Iterable
from pathlib import Path

from common.errors import UserError

chunk = 1 << 22  # bytes read at a time
packed = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ\0": lzma.decompress}  # by first bytes


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


def unpacked(content: bytes, origin: Path | str) -> bytes:
    """``content`` unpacked to its end, where gzip, bzip2 and xz have their checksums; as it is where it is not packed.

    Its first bytes say whether it is, and not the name. ``UserError``, naming ``origin``, where it is damaged.
    """
    unpack = next((unpack for begin, unpack in packed.items() if content.startswith(begin)), bytes)
    try:
        return unpack(content)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as problem:
        raise UserError(f"{origin}: not a whole compressed file ({problem}); bring or fetch it again") from problem


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
            _digest(path, digest)
        except OSError as problem:
            raise UserError(f"{path}: cannot be read ({problem.strerror or problem}); expected a file") from problem
    return digest.hexdigest()


def md5(path: Path) -> str:
    """The MD5 sum of the file; empty when there is none."""
    digest = hashlib.md5(usedforsecurity=False)
    if path.is_file():
        _digest(path, digest)
        return digest.hexdigest()
    return ""


def md5_of(*content: bytes) -> str:
    """The MD5 sum of bytes, one after the other."""
    return hashlib.md5(b"".join(content), usedforsecurity=False).hexdigest()


def _digest(path: Path, digest) -> None:
    with open(path, "rb") as file:
        while block := file.read(chunk):
            digest.update(block)
