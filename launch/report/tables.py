"""``make report``: results.csv, a page of tables and one figure per data set and model. No torch, no MLflow."""

import csv
import io
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common import record, registry
from common.errors import UserError
from launch.report import notes
from launch.report.average import Average
from launch.report.board import Board, boards
from launch.report.rows import COLUMNS, Row, current, finished
from launch.request import folds
from launch.runs.records import Record
from launch.wording import percent

NONE = "no finished stages yet"
WARNINGS = 5  # kinds that a terminal shows; the page has all
DENSE = "Zeros are stored and multiplied like any other number: no sparse network here is a faster or smaller one."
WIDTH = 110  # columns of the plain-text table before it continues in a second block


class ReportResult(NamedTuple):
    """Where the report is, the number of finished stages in its CSV file, and what its tables do not show."""

    csv: Path
    markdown: Path
    figures: list[Path]
    rows: int
    notes: list[str]


@dataclass(frozen=True)
class Report:
    """What a report is made of. ``shown``: the stages of its tables; ``old``: finished stages of earlier versions."""

    task: str
    rows: list[Row]  # of results.csv: every finished stage of the task
    boards: list[Board]
    shown: list[Record]
    old: int

    def text(self) -> str:
        """The plain-text tables: sparsities as rows, methods as columns, dense on top, footnotes below."""
        return "\n\n".join(_plain(board) for board in self.boards) if self.boards else NONE

    def write(self, folder: Path) -> ReportResult:
        """Write ``folder/<task>/results.csv``, ``results.md`` and the figures."""
        folder = Path(folder) / self.task
        folder.mkdir(parents=True, exist_ok=True)
        record.write_text(folder / "results.csv", _csv(self.rows))
        figures = _figures(self.boards, folder)
        page = [f"# {self.task}: score and sparsity", ""]
        page.append(f"`results.csv` has a row for each finished stage ({len(self.rows)}). {DENSE}")
        page += [f"\n**Note:** {note}" for note in notes.notes(self.shown, self.old)]
        for board, name in zip(self.boards, figures, strict=True):
            page += ["", *_markdown(board, name)]
        record.write_text(folder / "results.md", "\n".join(page) + "\n")
        drawn = [folder / name for name in dict.fromkeys(figures)]
        few = notes.notes(self.shown, self.old, WARNINGS)
        return ReportResult(folder / "results.csv", folder / "results.md", drawn, len(self.rows), few)


def arrange(task: str, records: Sequence[Record], shown: Sequence[Record]) -> Report:
    """The report of a task: ``records`` are all there are, ``shown`` those that tables and figures are to hold."""
    records, old = current([stage for stage in records if stage.task == task])
    kept = {stage.digest for stage in records}
    shown = [stage for stage in shown if stage.digest in kept]
    return Report(task, finished(records), boards(shown, records), shown, old)


def _csv(rows: list[Row]) -> str:
    out = io.StringIO()
    # lists, such as whole curves, stay in the summaries
    measured = [{k: v for k, v in row.measurements.items() if isinstance(v, int | float)} for row in rows]
    beside = [{f"measurements.{name}": value for name, value in numbers.items()} for numbers in measured]
    columns = [*COLUMNS, *sorted({name for numbers in beside for name in numbers})]
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: getattr(row, name) for name in COLUMNS} | numbers for row, numbers in zip(rows, beside, strict=True)
    )
    return out.getvalue()


def _plain(board: Board) -> str:
    columns = {method: _texts(board, method, lambda cell: cell.text(board.expected)) for method in board.methods}
    lines = [board.title, *_blocks("sparsity", [percent(level) for level in board.levels], columns)]
    lines += ["", *(f"{label}: {cell.text(board.expected)}" for label, cell in board.reference.items())]
    lines += board.constants
    for heads, measured in _measurements(board):
        lines += _blocks("measured", [" ".join(head) for head in heads], measured)
        lines += _wrapped(_meanings(heads, measured))
    lines += [f"  {note}" for note in board.notes()]
    steps = board.costs()
    costs = [f"optimizer steps, with those of all a result stands on: {steps}"] if steps else []
    return "\n".join(lines + _wrapped([*_corners(board), *costs]))


def _wrapped(texts: list[str]) -> list[str]:
    return [x for text in texts for x in textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")]


def _corners(board: Board) -> list[str]:
    """Where the curves have their knees, what is lost until there, what that rests on; of enough levels alone."""
    knees = board.knees()
    curves = {method: board.points(method) for method in knees}
    ends = {method: f"levels to {percent(curve[-1].sparsity)}" for method, curve in curves.items()}
    shared = next(iter(ends.values()), "") if len(set(ends.values())) == 1 else ""
    corners: list[str] = []
    none: list[str] = []
    for method, found in knees.items():
        own = [] if shared else [ends[method]]
        if found is None:
            none.append(" ".join([method, *(f"({end})" for end in own)]))
            continue
        dense = board.dense(method)
        lost = dense.mean - found.score if dense else None
        cost = f"{found.score:.2f}" if lost is None else f"{abs(lost):.2f} {'below' if lost > 0 else 'above'} dense"
        corners.append(f"{method} {percent(found.sparsity)} ({', '.join([cost, *own])})")
    early = [method for method in knees if board.early(method)]
    verdict = [", ".join(corners)] * bool(corners) + [f"none: {', '.join(none)}"] * bool(none)
    head = f"knee{f' ({shared})' if shared else ''}, beyond which the score falls much faster than before"
    doubt = "levels that end too early to trust this (more than half of dense's lead over a constant answer is left)"
    return [f"{head}: {'; '.join(verdict)}"] * bool(verdict) + [f"{doubt}: {', '.join(early)}"] * bool(early)


def _blocks(corner: str, heads: list[str], columns: dict[str, list[str]]) -> list[str]:
    """A plain-text table, its rows named by ``heads``, in as many blocks side by side as its width needs."""
    first = max(10, *(len(head) for head in heads)) if heads else 10
    widths = {name: max(map(len, (name, *texts))) for name, texts in columns.items()}
    blocks: list[list[str]] = []
    for name in columns:
        if not blocks or first + sum(2 + widths[other] for other in (*blocks[-1], name)) > WIDTH:
            blocks.append([])
        blocks[-1].append(name)
    lines = []
    for block in blocks:
        lines += ["", f"{corner:>{first}}" + "".join(f"  {name:>{widths[name]}}" for name in block)]
        for row, head in enumerate(heads):
            lines.append(f"{head:>{first}}" + "".join(f"  {columns[name][row]:>{widths[name]}}" for name in block))
    return lines


def _measurements(board: Board) -> list[tuple[list[tuple[str, str]], dict[str, list[str]]]]:
    """What was measured beside the score: tables of rows (method, sparsity) and columns by name.

    Methods that measure the same share one, the dense reference on top.
    """
    groups: dict[tuple[str, ...], list[tuple[str, float, Average]]] = {}
    rows = [(label, cell.sparsity, cell) for label, cell in board.reference.items()]
    rows += [(method, level, cell) for method in board.methods for level, cell in board.curve(method)]
    for row in rows:
        if names := row[-1].measurements:
            groups.setdefault(tuple(names), []).append(row)
    return [
        (
            [(method, percent(level)) for method, level, _ in rows],
            {name: [_number(*(cell.measurements or {})[name]) for *_, cell in rows] for name in names},
        )
        for names, rows in groups.items()
    ]


def _meanings(heads: list[tuple[str, str]], names: Iterable[str]) -> list[str]:
    """A line for each measurement of a table, where the methods there say what it is."""
    meanings = [_measures(label.partition(" ")[0]) for label in dict.fromkeys(label for label, _ in heads)]
    return list(dict.fromkeys(f"{name}: {texts[name]}" for name in names for texts in meanings if name in texts))


def _measures(method: str) -> Mapping[str, str]:
    try:
        facts = registry.method(method).facts
    except UserError:  # not of this checkout
        return {}
    return facts.measures if facts else {}


def _number(mean: float, deviation: float | None) -> str:
    """As many digits as tell something, in whatever unit."""
    spread = 0.0 if deviation is not None and deviation < 1e-9 * abs(mean) else deviation  # of equal numbers
    return f"{mean:.4g}" + ("" if spread is None else f"±{spread:.2g}")


def _texts(board: Board, method: str, text: Callable[[Average], str]) -> list[str]:
    """Of each level what there is to tell of a method."""
    cells = [board.cells.get((method, level)) for level in board.levels]
    return [text(cell) if cell else "-" for cell in cells]


def _markdown(board: Board, figure: str) -> list[str]:
    def section(title: str, text: Callable[[Average], str]) -> list[str]:
        dense = "".join(f"; {label}: {text(cell)}" for label, cell in board.reference.items())
        return ["", f"{title}{dense}", *_grid(board, text)]

    lines = [f"## {board.title}", ""]
    lines += [f"- **{label}**: {cell.text(board.expected)}" for label, cell in board.reference.items()]
    lines += [f"- {line}" for line in board.constants]
    lines += _grid(board, lambda cell: cell.text(board.expected).replace("*", "\\*"))
    lines += ["", *(f"- {note.replace('*', chr(92) + '*')}" for note in (*board.notes(), *_corners(board)))]
    if any(None not in cell.between for cell in board.averages):
        noun = folds.listed(board.splits).partition(" ")[0]
        lines += section(f"Sample standard deviation of the means of {noun} / of the means of seeds", _between)
    if any(cell.steps for cell in board.cells.values()):
        lines += section("Optimizer step with the best validation (how fast it learns)", _steps)
    for heads, columns in _measurements(board):
        lines += ["", "Measured beside the score", ""]
        lines += ["| method | sparsity | " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) + 1)]
        lines += [f"| {' | '.join((*head, *row))} |" for head, *row in zip(heads, *columns.values(), strict=True)]
        lines += ["", *meanings] if (meanings := [f"- {text}" for text in _meanings(heads, columns)]) else []
    if any(cell.line for cell in board.cells.values()):
        lines += section("Optimizer steps, with those of all a result stands on", _line)
    return [*lines, "", f"![{board.title}]({figure})"]


def _grid(board: Board, text: Callable[[Average], str]) -> list[str]:
    """A Markdown table of ``text(cell)``: methods as rows but for those with nothing to tell, sparsities as columns."""
    if not board.cells:
        return []
    heads = [percent(level) for level in board.levels]
    lines = ["", "| method \\ sparsity | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for method in board.methods:
        words = _texts(board, method, text)
        lines += [f"| {method} | {' | '.join(words)} |"] * any(word != "-" for word in words)
    return lines


def _between(cell: Average) -> str:
    known = [f"{deviation:.2f}" for deviation in cell.between if deviation is not None]
    return " / ".join(known) if len(known) == len(cell.between) else "-"


def _steps(cell: Average) -> str:
    if cell.steps is None:
        return "-"
    mean, deviation = cell.steps
    return f"{mean:.0f}" + ("" if deviation is None else f"±{deviation:.0f}")


def _line(cell: Average) -> str:
    return "-" if cell.line is None else f"{cell.line:.0f}"


def _figures(found: list[Board], folder: Path) -> list[str]:
    """Draw each board; the names of the files."""
    from launch.report import figure  # matplotlib takes a second to import

    several = Counter((board.dataset, board.model) for board in found)
    names = []
    for board in found:
        parts = [board.dataset, board.model] + ([board.metric] if several[board.dataset, board.model] > 1 else [])
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in "-".join(["curves", *parts])) + ".png"
        figure.draw(board, folder / name)
        names.append(name)
    return names
