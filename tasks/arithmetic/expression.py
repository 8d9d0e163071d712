"""Expressions in prefix form: checked, evaluated, compared. Standard library only.

A token is an operator, a quantity of the problem (``number0``, ``number1``, ...) or a constant, a decimal number.
"""

import math
import operator
import re
from functools import lru_cache

_RULES = {"*": operator.mul, "+": operator.add, "-": operator.sub, "/": operator.truediv, "^": math.pow}
OPERATORS = tuple(_RULES)
tolerance = 1e-4  # two answers that differ by less are the same, as in the published evaluations
quantity = re.compile(r"number(0|[1-9]\d{0,5})", re.ASCII)
decimal = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


@lru_cache(100_000)
def number(text: str) -> float | None:
    """The value of a finite decimal number; None for everything else (``nan``, ``1_000``, ``1/2``, 1e999)."""
    value = float(text) if decimal.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None


@lru_cache(100_000)
def index(token: str) -> int | None:
    """Which quantity of the problem a token is; None for another token."""
    found = quantity.fullmatch(token)
    return int(found[1]) if found else None


def normal(token: str) -> str:
    """The one spelling of a token: of a constant that of its value as a float (12 is 12.0)."""
    value = number(token)
    return token if value is None else repr(value)


def unknown(tokens: list[str]) -> list[str]:
    """The tokens that are no operator, quantity or number."""
    return [t for t in tokens if t not in OPERATORS and index(t) is None and number(t) is None]


def put(tokens: list[str], numbers: list[float]) -> list[str]:
    """The tokens with the problem's ``numbers`` in place of its quantities; one that it lacks stays."""
    named = {f"number{at}": repr(float(value)) for at, value in enumerate(numbers)}
    return [named.get(token) or normal(token) for token in tokens]


def whole(tokens: list[str]) -> bool:
    """Are these one tree in prefix form, no less and no more? Tokens that are no operators count as leaves."""
    open_places = 1
    for token in tokens:
        if open_places == 0:
            return False
        open_places += 1 if token in OPERATORS else -1
    return open_places == 0


def evaluate(tokens: list[str], numbers: list[float]) -> float | None:
    """The value of a prefix expression over a problem's ``numbers``.

    None, never an exception, for what has no value: a malformed tree, an unknown token, a quantity that the problem
    lacks, division by zero, a power that is not real, and what is not finite in double precision.
    """
    stack: list[float] = []
    for token in reversed(tokens):
        if token in OPERATORS:
            if len(stack) < 2:
                return None
            value = _apply(token, stack.pop(), stack.pop())  # read from the right: the left operand is on top
        else:
            place = index(token)
            if place is None:
                value = number(token)
            else:
                value = float(numbers[place]) if place < len(numbers) else None
        if value is None or not math.isfinite(value):
            return None
        stack.append(value)
    return stack[0] if len(stack) == 1 else None


def _apply(sign: str, left: float, right: float) -> float | None:
    try:
        return _RULES[sign](left, right)
    except (ArithmeticError, ValueError):
        return None


def same(found: float | None, stated: float) -> bool:
    """Does an evaluated answer agree with the stated one, to ``tolerance``? None agrees with nothing."""
    return found is not None and abs(found - stated) < tolerance
