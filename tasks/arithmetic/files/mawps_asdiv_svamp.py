"""The published tables of math word problems, read without trust. Standard library only.

A row that cannot be used is a ``Fault``; a file that cannot be read as a table at all is a UserError.
"""

import codecs
import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from common.data import files
from common.errors import UserError
from tasks.arithmetic import expression
from tasks.arithmetic.problem import Problem
from tasks.arithmetic.vocabulary import NUMBER

columns = ("Question", "Numbers", "Equation", "Answer")  # those that are read; a file may have more
grouped = "group_nums"  # read where it is there, and needed for quantity graphs
_positions = re.compile(r"\[\s*(-?\d{1,9}(\s*,\s*-?\d{1,9})*)?\s*\]", re.ASCII)
_glued = re.compile(r"number\d", re.ASCII)


@dataclass(frozen=True)
class Fault:
    """A row that cannot be used: ``kind`` is what faults are counted by, ``text`` what was expected and found."""

    kind: str
    where: str
    text: str


class _Unusable(Exception):
    def __init__(self, kind: str, text: str):
        self.kind, self.text = kind, text


def table(path: Path, graphs: bool = True) -> tuple[list[Problem], list[Fault]]:
    """The problems of a CSV file in its order, and the rows that cannot be used; ``graphs`` need its group_nums."""
    content = files.read(path)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{path}: expected text in UTF-8, found UTF-16; save it as UTF-8")
    # Bytes that are no text become lone surrogates, so that the rows that hold them can be named.
    text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    if not text.strip():
        raise UserError(f"{path}: is empty; expected a header with {', '.join(columns)} and one row per problem")
    rows = csv.reader(io.StringIO(text.replace("\0", "\udc00"), newline=""), strict=True)
    problems, faults, line = [], [], 1
    try:
        head = [name.strip() for name in next(rows)]
        at = _columns(head, path, graphs)
        line = rows.line_num + 1
        for row in rows:
            where, line = f"{path}:{line}", rows.line_num + 1  # a row ends where the next begins: it may hold breaks
            if not row:
                continue
            try:
                problems.append(_problem(row, head, at, where))
            except _Unusable as found:
                faults.append(Fault(found.kind, where, found.text))
    except csv.Error as problem:
        raise UserError(
            f"{path}:{line}: not a table with commas between the values ({problem}); the row that begins here has a "
            f"quotation mark that is not closed, text after one, or a value of more than {csv.field_size_limit():,} "
            "characters"
        ) from problem
    if not problems and not faults:
        raise UserError(f"{path}: holds no problem; expected one row per problem below the header")
    return problems, faults


def _columns(head: list[str], path: Path, graphs: bool) -> dict[str, int]:
    wanted = (*columns, grouped) if graphs or grouped in head else columns
    missing = [name for name in wanted if head.count(name) != 1]
    if missing:
        hint = "; task.model=gts does without group_nums" if missing == [grouped] and grouped not in head else ""
        raise UserError(
            f"{path}:1: expected the columns {', '.join(wanted)}, each once; {', '.join(missing)} is not (found "
            f"{', '.join(head)[:200].encode('ascii', 'replace').decode()}){hint}"
        )
    return {name: head.index(name) for name in wanted}


def _problem(row: list[str], head: list[str], at: dict[str, int], where: str) -> Problem:
    if any("\ud800" <= letter <= "\udfff" for value in row for letter in value):
        raise _Unusable("not text", "expected text in UTF-8, found a NUL or other bytes")
    if len(row) != len(head):
        raise _Unusable("wrong number of columns", f"expected {len(head)} values, as the header has, found {len(row)}")
    value = {name: row[place].strip() for name, place in at.items()}
    cased = value["Question"].split()
    shown = [word.lower() for word in cased]
    if not shown:
        raise _Unusable("empty question", "the question is empty")
    numbers = [_number(text) for text in value["Numbers"].split()]
    places = _places(shown, len(numbers))
    equation = _equation(value["Equation"].split(), places)
    answer = expression.number(value["Answer"])
    if answer is None:
        raise _Unusable("answer", f"expected a finite decimal number as the answer, found {_short(value['Answer'])}")
    positions = value.get(grouped, "[]")
    if not _positions.fullmatch(positions):
        found = _short(positions)
        raise _Unusable("group_nums", f"expected a list of word positions such as [1, 2, 3], found {found}")
    cells = [int(text) for text in re.findall(r"-?\d+", positions)]
    inside = sorted({cell for cell in cells if 0 <= cell < len(shown)})
    beyond = sum(not 0 <= cell < len(shown) for cell in cells)
    quantities = [expression.index(word) is not None for word in shown]
    words, cased = ([NUMBER if out else word for word, out in zip(one, quantities)] for one in (shown, cased))
    return Problem(words, numbers, equation, answer, places, inside, where, beyond, tuple(cased))


def _number(text: str) -> float:
    found = expression.number(text)
    if found is None:
        raise _Unusable("number", f"expected finite decimal numbers in Numbers, found {_short(text)}")
    return found


def _places(shown: list[str], count: int) -> list[int]:
    """The first word of each quantity."""
    places = [-1] * count
    for at, word in enumerate(shown):
        which = expression.index(word)
        if which is None and _glued.search(word):  # it would stay a word, and its number no candidate
            expected = "number0, number1, ... as words of their own"
            raise _Unusable("no quantity", f"expected {expected}, found {_short(word)}")
        if which is not None and which >= count:
            raise _Unusable("missing number", f"the question has {word}, and Numbers has {count} of them")
        if which is not None and places[which] == -1:
            places[which] = at
    if -1 in places:
        absent = f"number{places.index(-1)}"
        raise _Unusable("quantity not shown", f"Numbers has {count} of them, and the question no {absent}")
    return places


def _equation(tokens: list[str], places: list[int]) -> list[str]:
    if strange := expression.unknown(tokens):
        # What looks like a sign is an operator that is not known; the rest are no tokens of any expression.
        signs = [token for token in strange if not any(letter.isdigit() for letter in token)]
        kind = "unknown operator" if signs else "unparsable equation"
        raise _Unusable(
            kind,
            f"the equation has {_short((signs or strange)[0])}; expected {' '.join(expression.OPERATORS)}, number0, "
            "number1, ... and decimal numbers",
        )
    if not expression.whole(tokens):
        raise _Unusable(
            "unparsable equation",
            f"expected one expression with each operator before its two operands, found {_short(' '.join(tokens))}",
        )
    for token in tokens:
        which = expression.index(token)
        if which is not None and which >= len(places):
            raise _Unusable("missing number", f"the equation has {token}, and Numbers has {len(places)} of them")
    return [expression.normal(token) for token in tokens]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "...")
