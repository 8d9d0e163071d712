"""Fields of a settings dataclass: how one is declared and checked, and how a word of the command line becomes one."""

import dataclasses
import operator
import re
import types as kinds
import typing
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cache
from math import isfinite
from typing import Any

from common.errors import nearest

# The bounds a field may have, from below before from above: how a value is compared, and how that is said.
BOUNDS = {
    "least": (operator.ge, "at least"),
    "above": (operator.gt, "above"),
    "most": (operator.le, "at most"),
    "below": (operator.lt, "below"),
}
NOT_NEGATIVE = "not negative"


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | Mapping[str, str] | None = None,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    because: str = "",
    **metadata: Any,
) -> Any:
    """A field of a settings dataclass: its default, what it means, and what is valid, which ``complaints`` checks.

    ``choices``: the valid names, or what each of them means. ``least`` and ``most`` are themselves valid, ``above`` and
    ``below`` are not. For a list or a mapping they hold for every value in it. ``because``: a reason, which is added to
    the complaint.

    ``metadata``: ``identity=False`` keeps a field out of a stage's digest; ``neutral``: the value at which it is left
    out; ``replicate=True``: it says which split is tested, see ``launch/request/folds.py``.
    """
    valid = dict(choices=choices, least=least, above=above, most=most, below=below, because=because or None)
    metadata |= {"help": help, **{name: value for name, value in valid.items() if value is not None}}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def complaints(group: str, config: Any) -> list[str]:
    """Everything that is wrong with single fields of ``config``, each a sentence that begins with ``group.field``."""
    found = []
    for one in dataclasses.fields(config):
        value, name = getattr(config, one.name), f"{group}.{one.name}"
        reason = f": {one.metadata['because']}" if "because" in one.metadata else ""
        values = [(name, item) for item in (value if isinstance(value, list) else [value])]
        if isinstance(value, dict):
            values = [(f"{name}: {key}", item) for key, item in value.items()]
        found += [f"{where} must {wrong}{reason}" for where, item in values if (wrong := _wrong(item, one.metadata))]
    return found


def _wrong(value: Any, metadata: Mapping[str, Any]) -> str:
    """What one value must be, and is; empty where nothing is wrong with it."""
    if choices := metadata.get("choices"):
        if value is None or value in choices:
            return ""
        valid = ("one of " if len(choices) > 1 else "") + ", ".join(filter(None, choices))
        return f"be {valid}; found {value!r}{nearest(str(value).lower(), choices)}"
    if isinstance(value, float) and not isfinite(value):
        return f"be finite, found {value}"
    if isinstance(value, int) and abs(value) >= 2**63:  # in steps of examples, seeds and sizes no more is meant
        return f"be below 2^63, found a number of {len(str(abs(value)))} digits"
    if value is None or all(holds(value, metadata[name]) for name, (holds, _) in BOUNDS.items() if name in metadata):
        return ""
    said = bounds(metadata)
    return f"{'not be negative' if said == NOT_NEGATIVE else f'be {said}'}, found {value}"


def bounds(metadata: Mapping[str, Any]) -> str:
    """The bounds of a field in words, such as ``in [0, 1)`` or ``at least 1``; empty where there are none."""
    given = {name: f"{metadata[name]:.12g}" for name in BOUNDS if name in metadata}
    if len(given) == 2:
        (low, first), (high, last) = given.items()
        return f"in {'[' if low == 'least' else '('}{first}, {last}{']' if high == 'most' else ')'}"
    if given == {"least": "0"}:
        return NOT_NEGATIVE
    return "".join(f"{BOUNDS[name][1]} {bound}" for name, bound in given.items())


def meaning(one: dataclasses.Field) -> str:
    """What a field means and which values are valid, in one line for lists of settings."""
    said, choices = one.metadata.get("help", ""), one.metadata.get("choices", ())
    if isinstance(choices, Mapping):
        choices = [f"{name or 'empty'} ({what})" if what else name for name, what in choices.items()]
    if choices:
        return f"{said}: {', '.join(filter(None, choices))}"
    valid = bounds(one.metadata)
    return f"{said}; {valid}" if valid else said


def one_zero(value: Any) -> Any:
    """``value`` with -0.0, also inside lists and mappings, as the 0.0 that it equals: one value has one identity."""
    if isinstance(value, float):
        return value + 0.0
    if isinstance(value, dict):
        return {key: one_zero(item) for key, item in value.items()}
    return [one_zero(item) for item in value] if isinstance(value, list) else value


@cache
def types(cls: Any) -> dict[str, Any]:
    """The type of each field of a dataclass."""
    return typing.get_type_hints(cls)


def parse(text: str, kind: Any) -> Any:
    """A command-line word as the type of its field. ``ValueError`` names the expected type.

    Strict where YAML is not: ``no`` is not False for a string, ``0123`` is not 83, ``1.0`` is no whole number.
    """
    options = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, kinds.UnionType) else (kind,)
    if type(None) in options and text in ("null", "none", "None", ""):
        return None
    kind = next(o for o in options if o is not type(None))
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise ValueError("true or false")
    if kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            several = " (several as 0,1,2)" * bool(re.fullmatch(r"\d+(-|\.\.)\d+", text))
            share = " (a percent is 0.01)" * (kind is float and text.endswith("%"))
            raise ValueError(f"a whole number{several}" if kind is int else f"a number{share}") from None
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError("a finite number")
        return one_zero(value)
    return _collection(text, kind)


def typed(value: Any, kind: Any) -> Any:
    """A value of a YAML file whose scalars are texts, as the type of its field. ``ValueError`` as ``parse``.

    None, of a key with nothing behind it, counts as the empty text.
    """
    wanted = typing.get_origin(kind) or kind
    if wanted not in (list, dict):
        if not isinstance(value, str | None):
            raise ValueError("one value")
        return parse(value or "", kind)
    element, form = (typing.get_args(kind) or (str,))[-1], _form(kind)
    value = value or wanted()
    if not isinstance(value, wanted):
        raise ValueError(form)
    if not all(isinstance(v, str | None) for v in (value.values() if wanted is dict else value)):
        raise ValueError(f"{form}, not nested")
    try:
        if isinstance(value, dict):
            return {key: parse(one or "", element) for key, one in value.items()}
        return [parse(one or "", element) for one in value]
    except ValueError as error:
        raise ValueError(f"{form}, each value {error}") from None


def _collection(text: str, kind: Any) -> list | dict:
    """``[a, b]`` or ``{a: 1, b: 2}`` with every element as its own type; ``[*.weight]`` needs no quotes."""
    import yaml  # not for those who only declare fields

    if (typing.get_origin(kind) or kind) is dict:
        # make splits SET at spaces, so {a:1} must do; a value may hold colons of its own
        text = re.sub(r"([{,][^:,]*):", r"\1: ", text)
    for tried in (text, re.sub(r"([\[,]\s*)(\*[^,\]]*)", r"\1'\2'", text)):
        try:  # BaseLoader leaves every scalar the text it is
            return typed(yaml.load(tried, Loader=yaml.BaseLoader), kind)
        except (yaml.YAMLError, RecursionError):
            continue
    form = _form(kind)
    if text[:1] in "[{" and text[-1:] in "]}":
        raise ValueError(f"{form}, with quotes around a value that holds one of *&![]{{}}#|>@%")
    raise ValueError(form)


def _form(kind: Any) -> str:
    return "a mapping such as {name: value}" if typing.get_origin(kind) is dict else "a list such as [a, b]"
