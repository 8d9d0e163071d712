"""What a stage's data are: a checksum of their content, and a stamp of their files that is cheap to compare."""

import functools
import hashlib
from pathlib import Path

import numpy as np

from common.data import files
from common.data.checked import Checked, of_folds
from common.data.splits import kept
from common.errors import UserError
from tasks.protein.config import Config, folder, structure_models
from tasks.protein.files import datasets, structures, weights
from tasks.protein.files.datasets import Source, roots

# Hashed in where a model computes something else of the same files than it once did, so that results of then are not
# taken for those of now. 2: the usual length; ProteinMPNN also pools resolved residues alone, and has no columns that
# multiply zeros; with task.crop=ends the models of structures see that a cut is no bond. 3: selenocysteine and
# pyrrolysine, and the first atom after a byte-order mark, have coordinates.
reading = {"esm": 2, "tape": 2, "esm-if1": 3, "proteinmpnn": 3}


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


def of_structures(config: Config, found: dict[int, Source]) -> str:
    """SHA-256 of the structures of every sequence, where the model reads them.

    All are read as training reads them: UserError where one is missing, cut, or of another protein.
    """
    if config.model not in structure_models:
        return ""
    wanted: dict[tuple[str, str], str] = {}
    for source in found.values():
        for name, sequence, where in zip(source.names, source.sequences, source.where):
            if not name:
                raise UserError(f"{where}: has no name; expected an accession, to find its structure by")
            wanted.setdefault((name, sequence), where)
    places = structures.locate(folder(config) / "structures", dict.fromkeys(name for name, _ in wanted))
    structures.library()  # where biopython is missing that is one complaint, not one a file
    bad = []
    for (name, sequence), where in wanted.items():
        try:
            backbone(places[name], sequence)
        except UserError as problem:
            bad.append(f"{problem} (its sequence: {where})")
    if bad:
        others = f"; {len(bad) - 1} more of {len(places)} structures cannot be used either" if len(bad) > 1 else ""
        raise UserError(f"{bad[0]}{others}")
    return files.checksum(places.values())


def backbone(path: Path, sequence: str) -> np.ndarray:
    """``structures.read``, not to be written to: the process keeps it, as parsing takes tens of milliseconds."""
    return _backbone(files.mark(path), sequence)


@functools.cache
def _backbone(mark: tuple, sequence: str) -> np.ndarray:
    """``mark`` as that function gives it, so that a file that was replaced is read again."""
    found = structures.read(Path(mark[0]), sequence)
    found.flags.writeable = False
    return found


def whole(config: Config, found: dict[int, Source]) -> str:
    """The checksum of everything that a stage is trained from: examples, structures, pretrained weights.

    UserError where a vocabulary among the latter does not fit the residues or the network.
    """
    if config.model in weights.special:
        weights.alphabet(config.model, weights.files(config))
    sums = [one for one in (of_structures(config, found), files.checksum(weights.files(config))) if one]
    if config.model in reading:
        sums.append(f"{config.model} {reading[config.model]}")
    examples = checksum(found)
    return hashlib.sha256("\n".join([examples, *sums]).encode()).hexdigest() if sums else examples


def stamp(config: Config) -> tuple:
    """What tells, without reading them, whether the data's files and the pretrained weights are still the same."""
    place, found = folder(config), weights.files(config)
    if config.model in structure_models:
        found += sorted((place / "structures").rglob("*"))
    if config.file:
        found.append(place / config.file)
    elif config.dataset != "generated":
        found += [place, *sorted(place.glob("*"))]
        for root in roots(config, place):
            found += [*sorted(root.glob("*.fasta")), *sorted(root.parent.glob("*.pkl"))] if root.is_dir() else []
    return tuple(files.mark(path) for path in found)


@kept(stamp, most=1)
def checked(config: Config) -> Checked:
    """The fingerprint (SHA-256) of sequences, targets, splits, structures and pretrained weights; reads everything.

    ``report`` gets which files are not the published ones, what was left out and what is in two parts. UserError, with
    file and line, for missing or damaged files, letters that are no amino acids, empty or duplicate sequences, targets
    that are no temperature or class, structures that are cut or of another sequence, and a validation set that does not
    fit.
    """
    found = datasets.read(config)
    return of_folds(whole(config, found), found, lambda one: int((one.parts == datasets.TRAIN).sum()))
