"""What a stage's data are: a checksum of their content, and a stamp of their files that is cheap to compare."""

import hashlib
import json

from common.data import files
from common.data.checked import Checked, of_folds
from common.data.splits import kept
from tasks.arithmetic.config import Config, folder
from tasks.arithmetic.files import datasets, weights
from tasks.arithmetic.files.datasets import Source, roots


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


def whole(config: Config, found: dict[int, Source]) -> str:
    """The checksum of everything that a stage is trained from: problems and pretrained weights."""
    problems, pretrained = checksum(found), files.checksum(weights.files(config))
    if not pretrained:
        return problems
    parts = (part for source in found.values() for part in (source.train, source.validation, source.test))
    cased = "\n".join(" ".join(p.cased or p.words) for part in parts for p in part)  # what pretrained weights read
    return hashlib.sha256(f"{problems}\n{pretrained}\n{cased}".encode()).hexdigest()


def stamp(config: Config) -> tuple:
    """What tells, without reading them, whether the data's files and the pretrained weights are still the same."""
    found = []
    if config.dataset != "generated":
        for root in [folder(config), *roots(config)]:
            found += [root, *sorted(root.glob("*.csv")), *sorted(root.glob("fold[0-9]/*.csv"))]
    return tuple(files.mark(path) for path in [*found, *weights.files(config)])


@kept(stamp, most=1)
def checked(config: Config) -> Checked:
    """The fingerprint (SHA-256) of problems, splits and the pretrained embedding's weights; reads everything.

    ``report`` gets which files are not the published ones, what was left out, what the files state wrongly and what is
    in two parts. UserError for missing or damaged files, for rows that cannot be used (unless
    ``task.unreadable=skip``), and for a validation set too large.
    """
    found = datasets.read(config)
    return of_folds(whole(config, found), found, lambda one: len(one.train))
