"""What the curves of a table are called: the method, and what sets it apart from the others there."""

import re
from functools import cache

from common.errors import UserError
from launch import grid
from launch.words import Request

REFERENCE = "dense"
DATA = "data.checksum"  # what a variant says of other data than the default's


def labels(task: str, rows: list[dict]) -> tuple[dict[tuple[str, str], str], list[str]]:
    """(method, variant) -> its name in legends: the method and those settings that not all methods here share.

    The second value: the settings that all share, but for the dense reference. Data are told by their checksum only
    where variants of a method differ in nothing else; a task's setting that some of them give, such as a fold, is told
    of the others too.
    """
    variants = {(row["method"], row["variant"]): parts(row["variant"]) for row in rows}
    methods = [found for (method, _), found in variants.items() if method != REFERENCE]
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


def parts(variant: str) -> list[str]:
    """``run.epochs=5, method.rates=[0.2, 0.1]`` -> its settings; a comma inside a value does not separate."""
    return [part for part in re.split(r",\s+(?=[a-z]+\.\w+=)", variant or "") if part]


def _name(part: str) -> str:
    return part.partition("=")[0]


def _label(method: str, found: list[str]) -> str:
    return " ".join([str(method), *(part.partition(".")[2] or part for part in found)])


@cache
def _default(task: str, name: str) -> str:
    """What a setting of the task is where a variant does not say it, as text; "" where this checkout does not know."""
    try:
        return grid.text(grid.Composer(Request(task=task)).told(REFERENCE)["task"][name.partition(".")[2]])
    except (UserError, LookupError):
        return ""
