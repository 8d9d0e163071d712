"""What a stage's data are: a checksum of their content, and a stamp of their files that is cheap to compare."""

import functools
import hashlib
from pathlib import Path

from common.errors import UserError
from tasks.protein import structures, weights
from tasks.protein.config import Config, folder, structure_models
from tasks.protein.source import Source, roots

chunk = 1 << 22  # bytes read at a time


def checksum(found: dict[int, Source]) -> str:
    """SHA-256 over the sequences, targets and parts of every fold, in hexadecimal.

    It is of the content, so the same data as FASTA, CSV and pickles agree if their order does.
    """
    digest = hashlib.sha256()
    for fold, source in found.items():
        digest.update(f"fold {fold} {len(source.sequences)}\n".encode())
        digest.update("\n".join(source.sequences).encode())
        digest.update(source.targets.astype("<f8").tobytes() + source.parts.tobytes())
    return digest.hexdigest()


def pretrained(config: Config) -> str:
    """SHA-256 of the files that the model's pretrained weights are in; empty for training from scratch."""
    return _of_files(weights.files(config))


def of_structures(config: Config, found: dict[int, Source]) -> str:
    """SHA-256 of the structures of every sequence, where the model reads them; a missing one is a UserError."""
    if config.model not in structure_models:
        return ""
    names = dict.fromkeys(name for source in found.values() for name in source.names)
    return _of_files(structures.locate(folder(config) / "structures", names).values())


def whole(config: Config, found: dict[int, Source]) -> str:
    """The checksum of all that a stage stands on: examples, structures, pretrained weights."""
    sums = [one for one in (of_structures(config, found), pretrained(config)) if one]
    examples = checksum(found)
    return hashlib.sha256("\n".join([examples, *sums]).encode()).hexdigest() if sums else examples


def _of_files(paths) -> str:
    found = tuple(mark(path) for path in paths)
    return _sum(found) if found else ""


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
    place = folder(config) / "structures"
    below = sorted(place.rglob("*")) if config.model in structure_models and place.is_dir() else []
    return stamp_of_examples(config) + tuple(mark(path) for path in [*weights.files(config), *below])


def stamp_of_examples(config: Config) -> tuple:
    """The same for the files that ``source.read`` opens."""
    place = folder(config)
    if config.dataset == "generated":
        files = []
    elif config.file:
        files = [place / config.file]
    else:
        files = [place, *sorted(place.iterdir())] if place.is_dir() else [place]
        for root in roots(config, place):
            files += [*sorted(root.glob("*.fasta")), *sorted(root.parent.glob("*.pkl"))] if root.is_dir() else []
    return tuple(mark(path) for path in files)


def mark(path: Path) -> tuple:
    """Path, size in bytes, times of change in nanoseconds and inode; the path alone where there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return (str(path),)
    return (str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
