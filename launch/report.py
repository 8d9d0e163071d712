"""``make report``: results.csv, a page of tables and one figure per data set and model. No torch, no MLflow."""

import csv
import io
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from common import record
from launch.board import COLUMNS, Board, Cell, boards, finished, percent
from launch.records import Record, outdated

WIDTH = 110  # columns of the plain-text table before it continues in a second block


class ReportResult(NamedTuple):
    """Where the report is, the number of finished stages in its CSV file, and what its tables do not show."""

    csv: Path
    markdown: Path
    figures: list[Path]
    rows: int
    notes: list[str]


def table(records: list[Record]) -> str:
    """The plain-text table: sparsities as rows, methods as columns, the dense line on top, footnotes below."""
    found = boards(current(records)[0])
    return "\n\n".join(_plain(board) for board in found) if found else "no finished stages yet"


def write(task: str, records: list[Record], shown: list[Record], folder: Path) -> ReportResult:
    """Write ``folder/<task>/results.csv`` (all of ``records``), and ``results.md`` and figures of those ``shown``."""
    records, old = current([stage for stage in records if stage.task == task])
    folder = Path(folder) / task
    folder.mkdir(parents=True, exist_ok=True)
    kept = {stage.digest for stage in records}
    shown = [stage for stage in shown if stage.digest in kept]
    rows, found = finished(records), boards(shown)
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    record.write_text(folder / "results.csv", out.getvalue())
    figures = _figures(found, folder)
    notes = _notes(shown, old)
    page = [f"# {task}: score and sparsity", "", f"`results.csv` has a row for each of {len(rows)} finished stages."]
    page += [f"**Note:** {note}" for note in notes]
    for board in found:
        page += ["", *_markdown(board, figures.get((board.dataset, board.model, board.metric)))]
    record.write_text(folder / "results.md", "\n".join(page) + "\n")
    paths = [folder / name for name in dict.fromkeys(figures.values())]
    return ReportResult(folder / "results.csv", folder / "results.md", paths, len(rows), notes)


def _notes(shown: list[Record], old: int) -> list[str]:
    """What the tables do not show."""
    notes = []
    states = Counter(stage.state for stage in shown if stage.state != "done")
    if states:
        counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        notes.append(f"stages that are not finished and not in these tables: {counts} (`make status` names them)")
    if old:
        notes.append(
            f"{old} finished stages are of earlier versions of the code, which gave other results: they are left out "
            "(`make sweep` trains what is wanted of them again)"
        )
    reasons = {
        "unmoved": "stages in which a trainable tensor never moved (`unmoved` in summary.json)",
        "warnings": "stages that met a damaged file on the way and went on (`warnings` in summary.json)",
    }
    for key, reason in reasons.items():
        digests = [stage.digest[:8] for stage in shown if stage.state == "done" and stage.summary.get(key)]
        if digests:
            notes.append(f"{len(digests)} {reason}: {', '.join(digests[:5])}")
    return notes


def current(records: list[Record]) -> tuple[list[Record], int]:
    """The records of this code's versions, and how many finished ones are of earlier versions."""
    old = outdated(records)
    return [r for r in records if r.digest not in old], sum(r.done for r in records if r.digest in old)


def _plain(board: Board) -> str:
    lines = [board.title]
    methods, width = board.methods, 10
    block: list[str] = []
    blocks = [block]
    for method in methods:
        width += 2 + _width(board, method)
        if block and width > WIDTH:
            block, width = [], 12 + _width(board, method)
            blocks.append(block)
        block.append(method)
    for block in blocks if methods else []:
        lines += ["", f"{'sparsity':>10}" + "".join(f"  {m:>{_width(board, m)}}" for m in block)]
        for level in board.levels:
            cells = "".join(f"  {_text(board, m, level):>{_width(board, m)}}" for m in block)
            lines.append(f"{percent(level):>10}{cells}")
    lines += ["", *(f"{label}: {cell.text(board.expected)}" for label, cell in board.reference.items())]
    return "\n".join(lines + [f"  {note}" for note in board.notes()])


def _width(board: Board, method: str) -> int:
    return max(len(method), *(len(_text(board, method, level)) for level in board.levels))


def _text(board: Board, method: str, level: float) -> str:
    cell = board.cells.get((method, level))
    return cell.text(board.expected) if cell else "-"


def _markdown(board: Board, figure: str | None) -> list[str]:
    lines = [f"## {board.title}", ""]
    lines += [f"- **{label}**: {cell.text(board.expected)}" for label, cell in board.reference.items()]
    lines += _grid(board, lambda cell: cell.text(board.expected).replace("*", "\\*"))
    lines += ["", *(f"- {note.replace('*', chr(92) + '*')}" for note in board.notes())]
    if any(cell.steps for cell in board.cells.values()):
        dense = "".join(f"; {label}: {_steps(cell)}" for label, cell in board.reference.items())
        lines += ["", f"Optimizer step with the best validation (how fast it learns){dense}", *_grid(board, _steps)]
    return lines + (["", f"![{board.title}]({figure})"] if figure else [])


def _grid(board: Board, text) -> list[str]:
    """A Markdown table of ``text(cell)``: methods as rows, sparsities as columns."""
    if not board.cells:
        return []
    heads = [percent(level) for level in board.levels]
    lines = ["", "| method \\ sparsity | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for method in board.methods:
        found = [board.cells.get((method, level)) for level in board.levels]
        lines.append(f"| {method} | " + " | ".join(text(cell) if cell else "-" for cell in found) + " |")
    return lines


def _steps(cell: Cell) -> str:
    if cell.steps is None:
        return "-"
    mean, deviation = cell.steps
    return f"{mean:.0f}" + ("" if deviation is None else f"±{deviation:.0f}")


def _figures(found: list[Board], folder: Path) -> dict[tuple[str, str, str], str]:
    """Draw each board that has a score; (data set, model, metric) -> file name."""
    from launch import figure  # matplotlib takes a second to import

    several = Counter((board.dataset, board.model) for board in found)
    names = {}
    for board in found:
        parts = [board.dataset, board.model] + ([board.metric] if several[board.dataset, board.model] > 1 else [])
        name = "-".join(["curves", *(_file_name(part) for part in parts)]) + ".png"
        figure.draw(board, folder / name)
        names[board.dataset, board.model, board.metric] = name
    return names


def _file_name(part: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in part)
