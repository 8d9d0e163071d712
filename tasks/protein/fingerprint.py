"""What a stage's data are: a checksum of their content, and a stamp of their files that is cheap to compare."""

import hashlib

from common import files
from tasks.protein import structures, weights
from tasks.protein.config import Config, folder, structure_models
from tasks.protein.source import Source, roots


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
    return files.checksum(weights.files(config))


def of_structures(config: Config, found: dict[int, Source]) -> str:
    """SHA-256 of the structures of every sequence, where the model reads them; a missing one is a UserError."""
    if config.model not in structure_models:
        return ""
    names = dict.fromkeys(name for source in found.values() for name in source.names)
    return files.checksum(structures.locate(folder(config) / "structures", names).values())


def whole(config: Config, found: dict[int, Source]) -> str:
    """The checksum of all that a stage stands on: examples, structures, pretrained weights."""
    sums = [one for one in (of_structures(config, found), pretrained(config)) if one]
    examples = checksum(found)
    return hashlib.sha256("\n".join([examples, *sums]).encode()).hexdigest() if sums else examples


def stamp(config: Config) -> tuple:
    """What tells, without reading them, whether the data's files and the pretrained weights are still the same."""
    place = folder(config) / "structures"
    below = sorted(place.rglob("*")) if config.model in structure_models and place.is_dir() else []
    return stamp_of_examples(config) + tuple(files.mark(path) for path in [*weights.files(config), *below])


def stamp_of_examples(config: Config) -> tuple:
    """The same for the files that ``source.read`` opens."""
    place = folder(config)
    if config.dataset == "generated":
        found = []
    elif config.file:
        found = [place / config.file]
    else:
        found = [place, *sorted(place.iterdir())] if place.is_dir() else [place]
        for root in roots(config, place):
            found += [*sorted(root.glob("*.fasta")), *sorted(root.parent.glob("*.pkl"))] if root.is_dir() else []
    return tuple(files.mark(path) for path in found)
