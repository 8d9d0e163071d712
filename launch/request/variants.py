"""What the curves of a table are called: the method, and what sets it apart from the others there."""

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import yaml

from common import registry
from common.errors import UserError
from common.settings import groups
from common.stage import identity
from launch.request import folds
from launch.request.arguments import Request
from launch.request.compose import Composer

REFERENCE = "dense"
DATA = "data.checksum"  # what a variant says of other data than the default's


class Told(NamedTuple):
    """What ``of_stages`` looks at in a stage; a ``Record`` has the same attributes."""

    task: str
    dataset: str
    model: str
    variant: str
    replicate: str
    data: str


def told(content: dict) -> Told:
    """From a stage's configuration."""
    own = content["settings"]["task"]
    place = (str(own.get(name) or "") for name in ("dataset", "model"))
    return Told(content["task"], *place, content["variant"], content.get("replicate", ""), content["data"][:8])


def of_stages(stages: list) -> list[str]:
    """The variant of each stage, with fold and checksum where averaging over folds would mix two data.

    Every fold has a checksum of its own, so that a variant is told without it. But where one fold was trained on two
    data under the same settings of the task (another release, part of a data set), nothing says which of them another
    fold goes with: then all of these stand apart.
    """
    data = defaultdict(set)
    for stage in stages:
        data[_same(stage), stage.replicate].add(stage.data)
    mixed = {same for (same, replicate), found in data.items() if replicate and len(found) > 1}
    return [
        ", ".join(filter(None, (stage.variant, stage.replicate, f"{DATA}={stage.data}")))
        if stage.replicate and _same(stage) in mixed
        else stage.variant
        for stage in stages
    ]


def _same(stage: Told) -> tuple:
    """What stages on the same data have in common, whatever their method and however they are trained."""
    own = [part for part in parts(stage.variant) if part.startswith("task.")]
    return stage.task, stage.dataset, stage.model, *own


def labels(task: str, rows: list[dict]) -> tuple[dict[tuple[str, str], str], list[str]]:
    """(method, variant) -> its name in legends: the method and those settings that not all methods here share.

    The second value: the settings that all share, but for the dense reference where it is not alone. Data are told by
    their checksum only where variants of a method differ in nothing else; a task's setting that some of them give, such
    as a length, is told of the others too.
    """
    variants = {(row["method"], row["variant"]): parts(row["variant"]) for row in rows}
    methods = [found for (method, _), found in variants.items() if method != REFERENCE] or [*variants.values()]
    common = [part for part in methods[0] if all(part in found for found in methods)] if methods else []
    own = {key: [part for part in found if part not in common] for key, found in variants.items()}
    plain = {key: [part for part in found if _name(part) != DATA] for key, found in own.items()}
    named = {}
    for key, found in plain.items():
        if len(found) < len(own[key]):  # it would be told by its data
            told = {_name(part) for part in variants[key]}
            others = [part for (method, _), other in plain.items() if method == key[0] for part in other]
            lacking = dict.fromkeys(n for n in map(_name, others) if n.startswith("task.") and n not in told)
            found = [*found, *(f"{name}={_default(task, name)}" for name in lacking if _default(task, name) != "")]
        named[key] = _label(key[0], found)
    unique = len(set(named.values())) == len(named)
    return (named if unique else {key: _label(key[0], found) for key, found in own.items()}), common


def shared(found: Iterable[tuple[str, str]]) -> list[str]:
    """The settings that all of some (method, variant) have; of the method's own: all but the dense reference."""
    every = [(method, parts(variant)) for method, variant in dict.fromkeys(found)]
    methods = [own for method, own in every if method != REFERENCE] or [own for _, own in every]
    return [
        part
        for part in (methods[0] if methods else [])
        if all(part in own for own in (methods if part.startswith("method.") else [own for _, own in every]))
    ]


def parts(variant: str) -> list[str]:
    """``run.epochs=5, method.rates=[0.2, 0.1]`` -> its settings; a comma inside a value does not separate."""
    return [part for part in re.split(r",\s+(?=[a-z]+\.\w+=)", variant or "") if part]


def _name(part: str) -> str:
    return part.partition("=")[0]


def _label(method: str, found: list[str]) -> str:
    return " ".join(filter(None, (str(method), plain(found))))


def plain(found: list[str]) -> str:
    """Settings without their groups: ``rewind=3 rounds=2``."""
    return " ".join(part.partition(".")[2] or part for part in found)


@cache
def _default(task: str, name: str) -> str:
    """What a setting of the task is where a variant does not say it, as text; "" where this checkout does not know."""
    try:
        return text(Composer(Request(task=task)).told(REFERENCE)["task"][name.partition(".")[2]])
    except (UserError, LookupError):
        return ""


def text(value) -> str:
    """A value as it is given on the command line; in quotes only where they tell a text from nothing, or hold it."""
    if isinstance(value, str) and re.fullmatch(r"[\w.:/+-]+", value) and value.lower() not in ("null", "none"):
        return value
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()


def variant(composer: Composer, method: str, settings: dict, data: str) -> str:
    """What sets a cell apart from the embedded default, beside the columns every result has: ``run.epochs=5, ...``.

    Other data than the default's are named by their checksum, so that part of a data set is never taken for the whole.
    A fold that is fixed is no part of it, nor is the checksum of that fold's data: see ``of_stages``. Where the
    seed chooses the fold, that is told even where it is the default.
    """
    columns = {"run.seed", "task.dataset", "task.model", *(f"method.{n}" for n in registry.method(method).levels)}
    splits = folds.values(composer.task, settings)
    fixed = {key for key, value in splits.items() if value >= 0}
    parts = []
    for group, cls in groups.classes(composer.task, method).items():
        other = composer.told(method)[group]
        for name, value in identity.determining(cls, settings[group]).items():
            key = f"{group}.{name}"
            if key not in columns | fixed and (value != other.get(name) or key in splits):
                parts.append(f"{key}={text(value)}")
    if not fixed and data != composer.embedded_data():
        parts.append(f"data.checksum={data[:8]}")
    return ", ".join(parts)
