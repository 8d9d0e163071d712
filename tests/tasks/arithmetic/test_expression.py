"""Expressions as trees: their values, and answers that agree."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.arithmetic import expression
from tests.support.arithmetic_data import trees

tokens = st.sampled_from([*"+-*/^", "1.0", "2.5", "number0", "number1", "number2", "number9"])


@pytest.mark.parametrize(
    "tree, expected",
    [
        ("number1", 2.0),
        ("- number0 number1", 8.0),
        ("- number1 number0", -8.0),
        ("/ number0 number1", 5.0),
        ("/ number1 number0", 0.2),
        ("- - number0 number1 3.0", 5.0),
        ("- number0 - number1 3.0", 11.0),
        ("/ + number0 number1 * 0.5 number1", 12.0),
        ("^ number1 number0", 1024.0),
        ("- 4 -1.5", 5.5),
        ("/ number0 0.0", None),
        ("/ number0 - number1 number1", None),
        ("^ -1.0 0.5", None),
        ("^ 0.0 -1.0", None),
        ("^ number0 999.0", None),
        ("* 1e308 number0", None),
        ("+ number0", None),
        ("+ number0 number1 number1", None),
        ("number0 number1", None),
        ("", None),
        ("+ number0 number2", None),
        ("+ number0 pen", None),
        ("+", None),
        ("+ nan number0", None),
        ("+ inf number0", None),
    ],
)
def test_values_of_expressions(tree, expected):
    found = expression.evaluate(tree.split(), [10.0, 2.0])
    assert found is None if expected is None else found == pytest.approx(expected, abs=1e-12)


def slow(tree: list[str], numbers: list[float]):
    """(value, rest), by recursion from the left."""
    first, rest = tree[0], tree[1:]
    if first not in "+-*/":
        return (numbers[int(first[6:])] if first.startswith("number") else float(first)), rest
    left, rest = slow(rest, numbers)
    right, rest = slow(rest, numbers)
    if first == "/" and right == 0:
        raise ZeroDivisionError
    return {"+": left + right, "-": left - right, "*": left * right, "/": left / right if right else 0.0}[first], rest


@given(
    trees(st.sampled_from(["number0", "number1", "3.0", "0.5"])), st.lists(st.integers(-9, 9), min_size=2, max_size=2)
)
def test_evaluation_against_recursion(tree, numbers):
    try:
        expected, rest = slow(tree, [float(n) for n in numbers])
        assert not rest
    except ZeroDivisionError:
        expected = None
    assert expression.evaluate(tree, numbers) == (expected if expected is None or math.isfinite(expected) else None)


@given(st.lists(tokens, max_size=15), st.lists(st.floats(), max_size=3))
def test_nothing_that_is_answered_raises(answer, numbers):
    found = expression.evaluate(answer, numbers)
    assert found is None or (math.isfinite(found) and expression.whole(answer))


def test_a_very_deep_tree_is_evaluated():
    assert expression.evaluate(["+"] * 100_000 + ["1.0"] * 100_001, []) == 100_001


def test_answers_agree_to_the_tolerance():
    assert expression.same(0.1 + 0.2, 0.3) and expression.same(1.00009, 1.0)
    assert not expression.same(1.0002, 1.0) and not expression.same(None, 0.0)
