"""Small sets of math word problems as the published files have them, and the reading of a complaint."""

import csv
import io
from pathlib import Path

import pytest

from common.errors import UserError
from tests.support.places import SHARED

shared = SHARED / "arithmetic"
head = ["Question", "Numbers", "Equation", "Answer", "group_nums", "Body", "Ques_Statement"]
signs = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b}


def row(question: str, numbers: str, equation: str, answer, cells: str = "[0, 1, 2]") -> dict[str, str]:
    return dict(zip(head, [question, numbers, equation, str(answer), cells, "body", "statement"]))


def made(count: int = 30, first: int = 0) -> list[dict[str, str]]:
    """Rows whose questions and numbers all differ; every fourth word is of one problem alone."""
    found = []
    for k in range(first, first + count):
        sign = "+-*/"[k % 4]
        a, b = 10.0 + k, 2.0 + k % 7
        text = f"Ann{k} has number0 Pens and number1 boxes . how many {sign} of them ?"
        found.append(row(text, f"{a} {b}", f"{sign} number0 number1", signs[sign](a, b), "[1, 2, 3, 5, 6, 10]"))
    return found


def table(rows: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def files(train: list, dev: list, below: str = "fold0") -> dict[str, str]:
    return {f"{below}/train.csv": table(train), f"{below}/dev.csv": table(dev)}


def write(folder: Path, content: dict[str, bytes | str]) -> Path:
    for name, one in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one if isinstance(one, bytes) else one.encode())
    return folder


def complaint(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    return str(caught.value)
