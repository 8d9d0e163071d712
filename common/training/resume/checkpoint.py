"""Tensor files, whole or not there: written aside and renamed, verified on load; two resume points are kept."""

import contextlib
import errno
import os
import zipfile
from pathlib import Path
from typing import IO, Any, cast

import torch

from common import paths, record


class DamagedFile(RuntimeError):
    """A tensor file that is truncated or whose content does not match its checksums."""


class _Remembering:
    """A file whose failed write is remembered: torch reports a full disk as an inconsistency of its archive."""

    def __init__(self, file: IO[bytes]):
        self.file, self.flush = file, file.flush
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise


def save(path: Path, content: dict[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them; atomic. ``OSError`` naming the file: disk full, ..."""
    files: list[_Remembering] = []

    def write(file: IO[bytes]) -> None:
        files.append(_Remembering(file))
        torch.save(content, cast(IO[bytes], files[0]))  # which calls nothing but write and flush

    try:
        record.write_bytes(path, write)
    except (OSError, RuntimeError) as error:
        found = files[0].error if files and files[0].error else error
        if not isinstance(found, OSError) or found.filename is not None:
            raise
        raise OSError(found.errno, found.strerror or str(found), str(path)) from error


def load(path: Path) -> dict[str, Any]:
    """Read a file of ``save`` to the CPU. ``OSError``: it cannot be read now; ``DamagedFile``: its content is wrong."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch's own reader does not look at the archive's checksums
            broken = archive.testzip()
        if broken is None:
            return torch.load(path, map_location="cpu", weights_only=True)
        reason = f"checksum of {broken} does not match"
    except MemoryError:
        raise  # the file may be as good as ever
    except OSError as error:  # a network file system that is away, a disk that fails: likewise
        if error.errno != errno.EINVAL:  # by which an archive's wrong offsets show
            raise
        reason = f"{type(error).__name__}: {error}"
    except Exception as error:  # zipfile and torch raise a dozen kinds on damaged input
        reason = f"{type(error).__name__}: {error}"
    raise DamagedFile(f"{path} is damaged ({reason})")


def save_resume_point(folder: Path, content: dict[str, Any]) -> None:
    """Write ``checkpoint.pt``; the one before stays as ``checkpoint.previous.pt``: one is whole at any moment."""
    newest, previous = paths.checkpoint(folder), paths.previous_checkpoint(folder)
    aside = paths.next_checkpoint(folder)
    save(aside, content)
    if newest.exists():
        os.replace(newest, previous)
    os.replace(aside, newest)


def load_resume_point(folder: Path, digest: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest whole resume point of this stage, or None, and a warning for each damaged one passed over."""
    warnings = []
    for path in (paths.checkpoint(folder), paths.previous_checkpoint(folder)):
        try:
            content = load(path)
        except FileNotFoundError:
            continue
        except DamagedFile as error:
            warnings.append(f"{error}; going back to the resume point before it")
            continue
        if content.get("digest") != digest:
            warnings.append(f"{path} belongs to stage {content.get('digest')}, this is {digest}; it is not used")
            continue
        if "masks" not in content:  # weights alone would go on dense
            warnings.append(f"{path} holds no masks; it is not used")
            continue
        return content, warnings
    return None, warnings


def remove_resume_points(folder: Path) -> None:
    """Of a finished stage. What cannot be deleted now is left to `make clean`: it makes no failure of a success."""
    for path in (paths.checkpoint(folder), paths.previous_checkpoint(folder), paths.next_checkpoint(folder)):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
