"""Finished stages arranged for reading: a cell for each method and sparsity, with mean and deviation over seeds.

A cell holds what differs in the seed alone: rows of another data set, model, metric, variant or sparsity are never
averaged. Deviations are sample standard deviations (n - 1). Sparsity is the share of zeros among the prunable weights.
"""

import math
import re
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from launch.records import Record

COLUMNS = (
    *("task", "dataset", "model", "method", "sparsity_target", "sparsity", "sparsity_all", "seed", "metric", "score"),
    *("score_validation", "steps", "epochs", "collapsed", "digest", "parent", "variant"),
)
REFERENCE = "dense"
SAME = 5e-4  # of the remaining weights: sparsities closer than this share a row of the table


class Cell(NamedTuple):
    """Scores over the seeds of one method at one sparsity; ``deviation`` is None with one seed."""

    n: int
    mean: float
    deviation: float | None
    collapsed: int
    sparsity: float
    steps: tuple[float, float | None] | None = None  # mean and deviation of the step with the best validation

    def text(self, expected: int) -> str:
        """``97.12±0.15``; ``*`` marks collapsed stages; n where it is not the ``expected`` number of seeds."""
        spread = "" if self.deviation is None else f"±{self.deviation:.2f}"
        number = "" if self.n == expected else f" (n={self.n})"
        return f"{self.mean:.2f}{spread}{'*' if self.collapsed else ''}{number}"


@dataclass
class Board:
    """The results of one (task, data set, model, metric): a cell for each (method label, sparsity level)."""

    task: str
    dataset: str
    model: str
    metric: str
    cells: dict[tuple[str, float], Cell]
    reference: dict[str, Cell]
    common: list[str]
    seeds: list[int]
    warnings: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return " · ".join(part for part in (self.task, self.dataset, self.model, self.metric) if part)

    @property
    def methods(self) -> list[str]:
        return sorted({label for label, _ in self.cells})

    @property
    def levels(self) -> list[float]:
        return sorted({level for _, level in self.cells})

    @property
    def expected(self) -> int:
        """The usual number of seeds; cells with another number say so."""
        numbers = Counter(cell.n for cell in (*self.cells.values(), *self.reference.values()))
        return max(numbers, key=lambda n: (numbers[n], n), default=0)

    def notes(self) -> list[str]:
        """Footnotes: how to read the cells, and every warning."""
        spread = f"mean ± sample standard deviation over {self.expected} seeds (n = {self.expected} unless stated)"
        seeds = f"seeds {', '.join(map(str, self.seeds))}"
        notes = [f"{self.metric}, {spread if self.expected > 1 else 'one seed'}; {seeds}"]
        if self.common:
            notes.append(f"all methods: {', '.join(self.common)}")
        if any(cell.collapsed for cell in (*self.cells.values(), *self.reference.values())):
            notes.append("* collapsed in at least one seed: the model answers one class, or a whole layer is zero")
        return notes + [f"warning: {warning}" for warning in self.warnings]


def finished(records: list[Record]) -> list[dict]:
    """One row per finished stage, sorted: ``COLUMNS``, and the step of the best validation."""
    rows = []
    for stage in records:
        if stage.state == "done":
            row = {name: stage.summary.get(name) for name in COLUMNS}
            row["variant"] = stage.variant  # told from today's defaults; those it was trained under may differ
            row["best_step"] = stage.summary.get("best_step")
            row["task"], row["digest"] = row["task"] or stage.task, row["digest"] or stage.digest
            rows.append(row)
    return sorted(rows, key=_order)


def boards(records: list[Record]) -> list[Board]:
    """The finished stages arranged for tables and figures, one board per task, data set, model and metric."""
    groups = defaultdict(list)
    for row in finished(records):
        groups[tuple(str(row[name] or "") for name in ("task", "dataset", "model", "metric"))].append(row)
    return [_board(key, groups[key], _updated(records)) for key in sorted(groups)]


def percent(sparsity: float) -> str:
    """A share of zeros for readers: 67.23%, 99.975%."""
    return f"{100 * sparsity:.2f}%" if sparsity < 0.999 else f"{100 * sparsity:.10g}%"


def _order(row: dict) -> tuple:
    """Task, data set, model, dense first, then method, variant, sparsity, seed."""
    method, level = str(row["method"]), _level(row)
    head = tuple(str(row[name] or "") for name in ("task", "dataset", "model", "metric"))
    return (*head, method != REFERENCE, method, str(row["variant"]), level, row["seed"] or 0, str(row["digest"]))


def _level(row: dict) -> float:
    """The sparsity a row is filed under: the target, or what a method without a target arrived at."""
    target = row["sparsity_target"]
    return level(float(row["sparsity"] or 0.0) if target is None else float(target))


def level(sparsity: float) -> float:
    """Six digits of what remains: 0.9999999 and 0.9999998 are two levels, 0.3 and 0.30000000000000004 are one."""
    remaining = float(f"{1 - sparsity:.6g}")
    return round(1 - remaining, 12)


def _updated(records: list[Record]) -> dict[str, float]:
    return {stage.digest: stage.status.get("updated") or 0.0 for stage in records}


def _board(key: tuple, rows: list[dict], updated: dict[str, float]) -> Board:
    labels, common = _labels(rows)
    groups = defaultdict(list)
    for row in rows:
        groups[row["method"] == REFERENCE, labels[row["method"], row["variant"]], _level(row)].append(row)
    warnings, several, cells, reference = [], [], {}, {}
    for (dense, label, level), members in sorted(groups.items()):
        cell = _cell(members, updated, f"{label} at {percent(level)}", warnings, several)
        if cell and dense:
            reference[label] = cell
        elif cell:
            cells[label, level] = cell
    if several:
        more = f" and {len(several) - 2} more" if len(several) > 2 else ""
        warnings.append(
            f"several results for {'; '.join(several[:2])}{more}: the newest is shown, all are in results.csv"
        )
    board = Board(
        *key, _aligned(cells), reference, common, sorted({row["seed"] for row in rows if row["seed"] is not None})
    )
    dense = {part for row in rows if row["method"] == REFERENCE for part in _parts(row["variant"])}
    return _warn(board, warnings, dense)


def _aligned(cells: dict[tuple[str, float], Cell]) -> dict[tuple[str, float], Cell]:
    """Levels of different methods that differ by the rounding of a count stand in one row; no cells are joined.

    A target of 48.8% and three rounds of 20% keep the same number of weights give or take one per layer.
    """
    rows: list[tuple[float, dict]] = []
    for level in sorted({level for _, level in cells}):
        here = {label: cell for (label, other), cell in cells.items() if other == level}
        if rows and level - rows[-1][0] <= SAME * (1 - level) and not here.keys() & rows[-1][1].keys():
            first, earlier = rows.pop()
            # the rounder of the two numbers is the one somebody asked for
            level, here = min(first, level, key=lambda share: len(str(share))), earlier | here
        rows.append((level, here))
    return {(label, level): cell for level, row in rows for label, cell in row.items()}


def _warn(board: Board, warnings: list[str], dense: set[str]) -> Board:
    missing = [(m, level) for m in board.methods for level in board.levels if (m, level) not in board.cells]
    if missing:
        warnings.append(f"{len(missing)} cells have no finished stage and are shown as '-'")
    single = [cell for cell in (*board.cells.values(), *board.reference.values()) if cell.n == 1]
    if single:
        warnings.append(f"{len(single)} cells have one seed: no deviation can be stated")
    apart = [part for part in board.common if not part.startswith("method.") and part not in dense]
    if board.reference and apart:
        warnings.append(f"the dense reference was trained without {', '.join(apart)}")
    if not board.reference:
        warnings.append("no dense reference has finished: there is nothing to compare with")
    board.warnings = warnings
    return board


def _cell(members: list[dict], updated: dict, name: str, warnings: list[str], several: list[str]) -> Cell | None:
    """The cell of some rows; of two results with one seed the newer counts, a score that is no number does not."""
    seeds: dict = {}
    for row in sorted(members, key=lambda row: updated.get(row["digest"], 0.0)):
        if not isinstance(row["score"], (int, float)) or not math.isfinite(row["score"]):
            warnings.append(f"{name}, seed {row['seed']}: the score is {row['score']}; it is left out")
            continue
        if row["seed"] in seeds:
            several.append(f"{name}, seed {row['seed']}")
        seeds[row["seed"]] = row
    if not seeds:
        return None
    steps = [row["best_step"] for row in seeds.values() if row["best_step"] is not None]
    collapsed = sum(bool(row["collapsed"]) for row in seeds.values())
    shares = [float(row["sparsity"] or 0.0) for row in seeds.values()]
    scores = _spread([float(row["score"]) for row in seeds.values()])
    return Cell(len(seeds), *scores, collapsed, statistics.fmean(shares), _spread(steps) if steps else None)


def _spread(values: list[float]) -> tuple[float, float | None]:
    """Mean, and sample standard deviation where there are two or more values."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def _labels(rows: list[dict]) -> tuple[dict[tuple[str, str], str], list[str]]:
    """(method, variant) -> its name in legends: the method and those settings that not all methods here share."""
    variants = {(row["method"], row["variant"]): _parts(row["variant"]) for row in rows}
    methods = [parts for (method, _), parts in variants.items() if method != REFERENCE]
    common = [part for part in methods[0] if all(part in parts for parts in methods)] if methods else []
    labels = {}
    for (method, variant), parts in variants.items():
        own = [part.partition(".")[2] or part for part in parts if part not in common]
        labels[method, variant] = " ".join([str(method), *own])
    return labels, common


def _parts(variant: str) -> list[str]:
    """``run.epochs=5, method.rates=[0.2, 0.1]`` -> its settings; a comma inside a value does not separate."""
    return [part for part in re.split(r",\s+(?=[a-z_]+\.[a-z_.]+=)", variant or "") if part]
