"""Other splits of the same data, such as folds: results are averaged over them as over seeds.

A field of a task's ``Config`` with ``"replicate": True`` in its metadata, a whole number, says which split. A value
below 0 leaves the split to the run's seed: such a value belongs to the variant, and is never averaged with others.
(Protein's ``task.fold=-1`` with seed 3 is the training of ``task.fold=3`` with seed 3 once more; in one cell it would
count twice.)
"""

import dataclasses
import re
from collections.abc import Iterable
from functools import cache

from common import registry
from common.errors import UserError
from launch import wording

Pair = tuple[str, int | None]  # a result's split, as ``text`` has it, and its seed


@cache
def fields(task: str) -> dict[str, tuple]:
    """The task's fields that name a split, each with its neutral value in a tuple; () where it has none."""
    found = [f for f in dataclasses.fields(registry.task_part(task, "config").Config) if f.metadata.get("replicate")]
    return {f.name: (f.metadata["neutral"],) if "neutral" in f.metadata else () for f in found}


def values(task: str, settings: dict) -> dict[str, int]:
    """``{"task.fold": 3}``: every field that names a split, with its value; ``settings`` are those of a stage."""
    own = settings["task"]
    return {f"task.{name}": own.get(name, *neutral) if neutral else own[name] for name, neutral in fields(task).items()}


def text(task: str, settings: dict) -> str:
    """``task.fold=3``; "" where the task has no splits, or the seed chooses."""
    return ", ".join(f"{key}={value}" for key, value in values(task, settings).items() if value >= 0)


def drawn(task: str, variants: list[list[str]]) -> str:
    """What to say of results, the settings of each, of which the seed chooses the split; "" where it does of none."""
    try:
        names = fields(task)
    except UserError:  # not of this checkout
        return ""
    own = [[name for name in names for part in found if part.startswith(f"task.{name}=-")] for found in variants]
    if not any(own):
        return ""
    noun = next(name for found in own for name in found)
    return f", {'each' if all(own) else f'those of {noun} below 0 each'} on the {noun} that it chooses"


def pair(replicate: str, seed: object) -> str:
    """``fold 3 seed 0``, ``seed 0``."""
    return " ".join([*(f"{name} {value}" for name, value in _parts(replicate)), f"seed {seed}"])


def listed(found: Iterable[str]) -> str:
    """``folds 0-4``, ``fold 3``, "" for none."""
    splits = sorted({one for one in found if one}, key=counted)
    if not splits:
        return ""
    noun = _noun(splits)
    named = [" ".join(part for pair in _parts(one) for part in pair) for one in splits]
    numbers = wording.ranges([int(_parts(one)[0][1]) for one in splits]) if noun != "split" else "; ".join(named)
    return f"{noun}{'s' if len(splits) > 1 else ''} {numbers}"


def over(pairs: Iterable[Pair]) -> str:
    """What a mean is over: ``3 seeds``, ``5 folds x 3 seeds``; where one is missing, ``14 pairs of fold and seed``."""
    pairs = set(pairs)
    splits, seeds = {split for split, _ in pairs}, {seed for _, seed in pairs}
    several = wording.amount(len(seeds), "seed")
    if len(splits) == 1:
        return several
    noun = _noun(splits)
    if len(pairs) == len(splits) * len(seeds):
        return f"{len(splits)} {noun}s x {several}"
    return f"{len(pairs)} pairs of {noun} and seed"


def counted(label: str) -> list:
    """For sorting: rewind=9 comes before rewind=10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", label)]


def _parts(replicate: str) -> list[tuple[str, str]]:
    """``task.fold=3`` -> ``[("fold", "3")]``."""
    return re.findall(r"task\.(\w+)=(\d+)", replicate)


def _noun(splits: Iterable[str]) -> str:
    """The field's name where it is one, ``split`` where several fields say it together."""
    names = [*{tuple(name for name, _ in _parts(split)) for split in splits if split}]
    return names[0][0] if [len(found) for found in names] == [1] else "split"
