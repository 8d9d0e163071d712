"""Files are the record: written aside, flushed to disk, renamed; metrics are an append-only list of JSON lines."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import yaml

from common import paths

_WITHDRAWN = "withdrawn: "  # begins the last line of a DONE whose stage was found to be damaged


def write_bytes(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Replace ``path`` atomically: after a crash the old or the new file is there, whole. ``write`` gets it open."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed ``write_bytes`` left beside its target; only for who holds the stage's lock."""
    for aside in Path(folder).glob(".*.tmp"):
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` atomically."""
    write_bytes(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path, default: Any = None) -> Any:
    """The file's content, or ``default`` where there is no file (a broken file still raises ``ValueError``)."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        return default


def read_config(folder: Path) -> dict[str, Any]:
    """What a stage was planned as: the content of its ``config.yaml``."""
    return yaml.safe_load(paths.config(folder).read_text())


def seal(folder: Path, digest: str) -> None:
    """Write ``DONE``, which says that a stage is finished and vouches for its files: the digest, then a SHA-256 each.

    To be called last, when everything it vouches for is on disk.
    """
    files = (paths.summary(folder), paths.config(folder), paths.weights(folder), paths.selected(folder))
    sums = [f"{_sha256(path)}  {path.name}" for path in files if path.exists()]
    write_text(paths.done(folder), "\n".join([digest, *sums]) + "\n")


def reopen(folder: Path) -> None:
    """Remove what says that a stage is finished. ``OSError`` where that cannot be done."""
    done = paths.done(folder)
    if done.is_dir():
        done.rmdir()
    else:
        done.unlink(missing_ok=True)


def withdraw(folder: Path, reason: str) -> None:
    """Have ``DONE`` say that a finished stage's files are damaged, and how: ``fault`` tells it, a sweep trains again.

    ``OSError`` where that cannot be written.
    """
    if fault(folder) == "":
        write_text(paths.done(folder), f"{paths.done(folder).read_text()}{_WITHDRAWN}{' '.join(reason.split())}\n")


def vouched(folder: Path) -> dict[str, str]:
    """File name -> SHA-256, as ``DONE`` has them; nothing for stages of before it had any.

    ``FileNotFoundError`` without ``DONE``; ``ValueError`` where it is damaged, or was withdrawn.
    """
    digest, *lines = paths.done(folder).read_text().splitlines() or [""]
    if lines and lines[-1].startswith(_WITHDRAWN):
        raise ValueError(lines[-1])
    found = {name: value for value, separator, name in (line.partition("  ") for line in lines) if separator}
    if digest.strip() != Path(folder).name or len(found) != len(lines):
        raise ValueError(f"{paths.done(folder)} is damaged: expected the stage's name and checksums of its files")
    return found


def fault(folder: Path) -> str | None:
    """What is wrong with a stage that says it is finished; "" for nothing, None where it does not say so.

    ``OSError`` where a file cannot be read now, which says nothing about what is in it.
    """
    try:
        sums = vouched(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except IsADirectoryError:
        return "DONE is a folder"
    except ValueError as error:  # also bytes that are no text
        told = str(error)
        return told.removeprefix(_WITHDRAWN) if told.startswith(_WITHDRAWN) else "DONE is damaged"
    for path in (paths.summary(folder), paths.config(folder)):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            if path == paths.summary(folder) or path.name in sums:
                return f"{path.name} is missing"
            continue
        if path.name in sums and hashlib.sha256(content).hexdigest() != sums[path.name]:
            return f"{path.name} is not what training wrote (its checksum is another)"
    try:
        return "" if isinstance(read_json(paths.summary(folder)), dict) else "summary.json holds no results"
    except ValueError:
        return "summary.json is damaged"


def finished(folder: Path) -> bool:
    """Is a stage done, and what it says of itself whole? The one definition: a child starts from no other parent.

    False too where that cannot be read now; who would delete something for it asks ``fault``.
    """
    try:
        return fault(folder) == ""
    except OSError:
        return False


def check_weights(path: Path) -> None:
    """``ValueError`` where a finished stage's tensor file is not the one that ``DONE`` vouches for."""
    try:
        expected = vouched(path.parent).get(path.name)
    except FileNotFoundError:  # a stage that measures what it is about to finish with
        return
    if expected is not None and _sha256(path) != expected:
        raise ValueError(f"{path} is not the file that training wrote (its checksum is another)")


def _sha256(path: Path) -> str:
    sums = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            sums.update(piece)
    return sums.hexdigest()


def read_status(folder: Path) -> dict[str, Any]:
    """The content of ``status.json``; a file that cannot be read, or holds anything else, says nothing."""
    try:
        found = read_json(paths.status(folder), {})
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def update_status(folder: Path, **changes: Any) -> dict[str, Any]:
    """Merge ``changes`` into ``status.json``; only the process that holds the stage's lock may call this."""
    try:
        current = read_json(paths.status(folder), {})
    except ValueError:  # a disk that filled up can leave an empty file; the status is only ever advice
        current = {}
    return write_status(folder, **{**current, **changes})


def write_status(folder: Path, **values: Any) -> dict[str, Any]:
    """Replace ``status.json``."""
    values["updated"] = time.time()
    write_json(paths.status(folder), values)
    return values


class Metrics:
    """``metrics.jsonl``: one line per logged step.

    The checkpoint stores ``offset``; resuming cuts the file back to it, so that no line is lost or doubled whatever
    happened after the checkpoint.
    """

    def __init__(self, folder: Path, offset: int = 0):
        path, self.offset = paths.metrics(folder), offset
        size = path.stat().st_size if path.exists() else 0
        if size < offset:
            raise RuntimeError(
                f"{path} is shorter ({size} bytes) than the checkpoint says ({offset}); metric lines were removed by "
                "hand: delete this stage's folder to train it again"
            )
        self.file = open(path, "ab")  # noqa: SIM115 - closed by close()
        self.file.truncate(offset)
        self.file.seek(offset)

    def write(self, step: int, **values: float) -> None:
        """One more line, which may stay in memory until ``commit``."""
        line = json.dumps({"step": step, "time": round(time.time(), 3), **values})
        self.file.write(line.encode() + b"\n")

    def commit(self) -> int:
        """Flush to disk; returns the offset in bytes up to which the lines are final."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.file.tell()

    def close(self) -> None:
        self.file.close()
