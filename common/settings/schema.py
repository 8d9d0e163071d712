"""Fields of a settings dataclass: how one is declared, and how a word of the command line becomes its value."""

import types as kinds
import typing
from dataclasses import field
from functools import cache

import yaml


def option(default, help: str, **metadata):
    """A configuration field with its help text; ``identity=False`` keeps it out of a stage's digest."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help, **metadata})
    return field(default=default, metadata={"help": help, **metadata})


@cache
def types(cls) -> dict[str, type]:
    """The type of each field of a dataclass."""
    return typing.get_type_hints(cls)


def parse(text: str, kind) -> object:
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
            raise ValueError("a whole number" if kind is int else "a number") from None
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError("a finite number")
        return value
    return _collection(text, kind)


def _collection(text: str, kind):
    """``[a, b]`` or ``{a: 1, b: 2}`` with every element as its own type."""
    wanted = typing.get_origin(kind) or kind
    element = (typing.get_args(kind) or (str,))[-1]
    form = "a list such as [a, b]" if wanted is list else "a mapping such as {name: value}"
    # make splits SET at spaces, so {a:1} must do; BaseLoader leaves every scalar the text it is
    text = text.replace(":", ": ") if wanted is dict else text
    try:
        value = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError):
        value = None
    if not isinstance(value, wanted):
        raise ValueError(form)
    if not all(isinstance(v, str) for v in (value.values() if wanted is dict else value)):
        raise ValueError(f"{form}, not nested")
    try:
        return (
            {k: parse(v, element) for k, v in value.items()} if wanted is dict else [parse(v, element) for v in value]
        )
    except ValueError as error:
        raise ValueError(f"{form}, each value {error}") from None
