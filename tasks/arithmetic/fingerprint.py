"""What a stage's data are: a checksum of their content, and a stamp of their files that is cheap to compare."""

import functools
import hashlib
import json
from pathlib import Path

from common.errors import UserError
from tasks.arithmetic import weights
from tasks.arithmetic.config import Config, folder
from tasks.arithmetic.source import Source, roots

chunk = 1 << 22  # bytes read at a time


def checksum(found: dict[int, Source]) -> str:
    """SHA-256 over the problems and parts of every fold, in hexadecimal; of the content, not of how files have it."""
    digest = hashlib.sha256()
    for fold, source in found.items():
        for part in ("train", "validation", "test"):
            problems = getattr(source, part)
            digest.update(f"fold {fold} {part} {len(problems)}\n".encode())
            for p in problems:
                row = [p.words, p.numbers, p.equation, p.answer, p.places, p.cells]
                digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def pretrained(config: Config) -> str:
    """SHA-256 of the files of the pretrained embedding; empty where words are learned from scratch."""
    found = tuple(mark(path) for path in weights.files(config))
    return _sum(found) if found else ""


def whole(config: Config, found: dict[int, Source]) -> str:
    """The checksum of all that a stage stands on: problems and pretrained weights."""
    problems, weights_ = checksum(found), pretrained(config)
    return hashlib.sha256(f"{problems}\n{weights_}".encode()).hexdigest() if weights_ else problems


@functools.cache
def _sum(marks: tuple) -> str:
    """SHA-256 of files; ``marks`` as ``mark`` gives them, so that a file that was replaced is read again."""
    digest = hashlib.sha256()
    for path in (Path(found[0]) for found in marks):
        try:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            with open(path, "rb") as file:
                while block := file.read(chunk):
                    digest.update(block)
        except OSError as problem:
            raise UserError(f"{path}: cannot be read ({problem.strerror or problem}); expected a file") from problem
    return digest.hexdigest()


def stamp(config: Config) -> tuple:
    """What tells, without reading them, whether the data's files and the pretrained weights are still the same."""
    files = []
    if config.dataset != "generated":
        for root in [folder(config), *roots(config)]:
            files += [root, *sorted(root.glob("*.csv")), *sorted(root.glob("fold[0-9]/*.csv"))]
    return tuple(mark(path) for path in [*files, *weights.files(config)])


def mark(path: Path) -> tuple:
    """Path, size in bytes, times of change in nanoseconds and inode; the path alone where there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return (str(path),)
    return (str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
