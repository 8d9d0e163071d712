"""What the curves of a table are called: the method, and what sets it apart from the others there."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache

import yaml

from common import registry
from common.errors import UserError
from common.settings import groups
from common.stage import identity
from launch.described import Described
from launch.request import folds
from launch.request.arguments import Request
from launch.request.compose import Composer

REFERENCE = "dense"
DATA = "data.checksum"  # what a variant says of other data than the default's


def of_stages(stages: Sequence[Described]) -> list[str]:
    """The variant of each stage, with fold and checksum where averaging over folds would mix two data.

    Every fold has a checksum of its own, which is therefore no part of a variant. But where one fold was trained on two
    sets of data under the same settings of the task (another release, part of a data set), nothing says which of the
    two another fold belongs to: then all of these are kept apart.
    """
    data: dict[tuple, set[str]] = defaultdict(set)
    for stage in stages:
        data[_same(stage), stage.replicate].add(stage.data)
    mixed = {same for (same, replicate), found in data.items() if replicate and len(found) > 1}
    return [
        ", ".join(filter(None, (stage.variant, stage.replicate, f"{DATA}={stage.data}")))
        if stage.replicate and _same(stage) in mixed
        else stage.variant
        for stage in stages
    ]


def _same(stage: Described) -> tuple:
    """What stages on the same data have in common, whatever their method and however they are trained."""
    own = [part for part in parts(stage.variant) if part.startswith("task.")]
    return stage.task, stage.dataset, stage.model, *own


def labels(task: str, pairs: Iterable[tuple[str, str]]) -> tuple[dict[tuple[str, str], str], list[str]]:
    """(method, variant) -> its name in legends: the method and those settings that not all methods here share.

    The second value: the settings that all share, but for the dense reference where it is not alone. A checksum of data
    is part of a name only where variants of a method differ in nothing else; a setting of the task that some variants
    of a method give, such as a length, then appears in the names of the others too, with its default.
    """
    variants = {pair: parts(pair[1]) for pair in pairs}
    methods = [settings for (method, _), settings in variants.items() if method != REFERENCE] or [*variants.values()]
    common = [part for part in methods[0] if all(part in other for other in methods)] if methods else []
    own = {pair: [part for part in settings if part not in common] for pair, settings in variants.items()}
    without_data = {pair: [part for part in settings if _name(part) != DATA] for pair, settings in own.items()}
    named = {}
    for pair, settings in without_data.items():
        if len(settings) < len(own[pair]):  # its data are all that is left to tell it by
            given = {_name(part) for part in variants[pair]}
            others = [part for (method, _), other in without_data.items() if method == pair[0] for part in other]
            lacking = dict.fromkeys(n for n in map(_name, others) if n.startswith("task.") and n not in given)
            defaults = {name: _default(task, name) for name in lacking}
            settings = [*settings, *(f"{name}={value}" for name, value in defaults.items() if value != "")]
        named[pair] = _label(pair[0], settings)
    unique = len(set(named.values())) == len(named)
    return (named if unique else {pair: _label(pair[0], settings) for pair, settings in own.items()}), common


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
        return text(Composer(Request(task=task)).defaults(REFERENCE)["task"][name.partition(".")[2]])
    except (UserError, LookupError):
        return ""


def text(value: object) -> str:
    """A value as it is given on the command line; in quotes only where they tell a text from nothing, or hold it."""
    if isinstance(value, str) and re.fullmatch(r"[\w.:/+-]+", value) and value.lower() not in ("null", "none"):
        return value
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()


def variant(composer: Composer, method: str, settings: dict, data: str) -> str:
    """What sets a cell apart from the embedded default, beside the columns every result has: ``run.epochs=5, ...``.

    Other data than the default's are named by their checksum, so that part of a data set is never taken for the whole.
    A fold that is fixed is no part of it, nor is the checksum of that fold's data: see ``of_stages``. Where the
    seed chooses the fold, the variant says so even where that is the default.
    """
    columns = {"run.seed", "task.dataset", "task.model", *(f"method.{n}" for n in registry.method(method).levels)}
    splits = folds.values(composer.task, settings)
    fixed = {key for key, value in splits.items() if value >= 0}
    parts = []
    for group, cls in groups.classes(composer.task, method).items():
        other = composer.defaults(method)[group]
        for name, value in identity.determining(cls, settings[group]).items():
            key = f"{group}.{name}"
            if key not in columns | fixed and (value != other.get(name) or key in splits):
                parts.append(f"{key}={text(value)}")
    if not fixed and data != composer.embedded_data:
        parts.append(f"data.checksum={data[:8]}")
    return ", ".join(parts)
