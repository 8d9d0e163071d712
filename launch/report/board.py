"""Finished stages arranged for reading: a cell for each method and sparsity, with mean and deviation over seeds.

A cell holds what differs in the seed alone, or in the fold (``launch/request/folds.py``): rows of another data set,
model, metric, variant or sparsity are never averaged. Sparsity is the share of zeros among the prunable weights.
"""

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from launch.report import baseline, knee
from launch.report.cell import Cell, joined
from launch.request import folds, variants
from launch.request.variants import REFERENCE
from launch.runs.records import Record, steps_of_lines
from launch.runs.wording import amount, percent

COLUMNS = (
    *("task", "dataset", "model", "method", "sparsity_target", "sparsity", "sparsity_all", "seed", "metric", "score"),
    *("score_validation", "steps", "steps_of_line", "epochs", "collapsed", "digest", "parent", "variant", "zeros"),
    *("replicate", "data"),
)
SAME = 5e-4  # of the remaining weights: sparsities closer than this share a row of the table


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
    baselines: dict[str, float] = field(default_factory=dict)  # label -> the mean score of the best constant answer
    warnings: list[str] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)  # the same for readers, a line each where data are told apart
    splits: list[str] = field(default_factory=list)  # every fold there is a result of, as ``task.fold=3``
    drawn: str = ""  # for readers: that the seed chooses the fold, where it does

    @property
    def title(self) -> str:
        return " · ".join(part for part in (self.task, self.dataset, self.model, self.metric) if part)

    @property
    def methods(self) -> list[str]:
        return sorted({label for label, _ in self.cells}, key=folds.counted)

    @property
    def levels(self) -> list[float]:
        return sorted({level for _, level in self.cells})

    @property
    def dense(self) -> Cell | None:
        """The reference, where there is one and no more."""
        return next(iter(self.reference.values())) if len(self.reference) == 1 else None

    def curve(self, method: str) -> list[tuple[float, Cell]]:
        """A method's levels, rising, each with its cell."""
        return [(level, self.cells[method, level]) for level in self.levels if (method, level) in self.cells]

    def points(self, method: str) -> list[knee.Point]:
        return [knee.Point(level, cell.mean, cell.deviation, cell.n) for level, cell in self.curve(method)]

    def early(self, method: str) -> bool:
        """Do a curve's levels end too early to trust its knee?"""
        curve = self.points(method)
        dense = self.dense.mean if self.dense else curve[0].mean
        least = self.baselines.get(method)
        return least is not None and knee.early(dense, curve[-1].mean, least)

    def knees(self) -> dict[str, knee.Knee | None]:
        """The corner of each method's curve, None where it has none; methods with too few levels are left out."""
        dense = self.dense
        start = knee.Point(0.0, dense.mean, dense.deviation, dense.n) if dense else None
        curves = {method: self.points(method) for method in self.methods}
        return {method: knee.find(start, curve) for method, curve in curves.items() if len(curve) >= knee.LEVELS}

    @property
    def expected(self) -> int:
        """The usual number of results in a cell; cells with another number say so."""
        numbers = Counter(cell.n for cell in (*self.cells.values(), *self.reference.values()))
        return max(numbers, key=lambda n: (numbers[n], n), default=0)

    @property
    def usual(self) -> frozenset[folds.Pair]:
        """The folds and seeds that most cells of the ``expected`` number are over; none where there are no cells."""
        cells = (*self.cells.values(), *self.reference.values())
        numbers = Counter(cell.pairs for cell in cells if cell.n == self.expected)
        return max(numbers, key=lambda pairs: numbers[pairs], default=frozenset())

    @property
    def unit(self) -> str:
        """What a cell has several of."""
        return "result" if self.splits else "seed"

    def members(self, seeds: str) -> str:
        """The folds there are, before what the caller says of the ``seeds``: ``folds 0-4, seeds 0, 1, 2``."""
        return ", ".join(filter(None, (folds.listed(self.splits), seeds)))

    def notes(self) -> list[str]:
        """Footnotes: how to read the cells, and every warning."""
        over = f"{folds.over(self.usual)}{self.drawn} (n = {self.expected} unless stated)"
        spread = f"mean ± sample standard deviation over {over}" if self.expected > 1 else f"one {self.unit}"
        seeds = f"seed{'' if len(self.seeds) == 1 else 's'} {', '.join(map(str, self.seeds))}"
        notes = [f"{self.metric}, {spread}; {self.members(seeds)}"]
        if self.common:
            notes.append(f"all methods: {', '.join(self.common)}")
        if any(cell.collapsed for cell in (*self.cells.values(), *self.reference.values())):
            what = "the model gives one answer, or a whole layer is zero (which: `collapse` in its summary.json)"
            notes.append(f"* collapsed in at least one {self.unit}: {what}")
        return notes + [f"warning: {warning}" for warning in self.warnings]

    def costs(self) -> str:
        """Optimizer steps of a stage and all it stands on, for every method: one number, or the least and the most."""
        lines, methods = defaultdict(list), defaultdict(list)
        for label, cell in (*self.reference.items(), *((label, cell) for (label, _), cell in self.cells.items())):
            lines[label] += [] if cell.line is None else [cell.line]
        for label, values in lines.items():
            methods[_span(values)].append(label)
        return "; ".join(f"{', '.join(labels)} {steps}" for steps, labels in methods.items() if steps)


def finished(records: list[Record], among: list[Record] | None = None) -> list[dict]:
    """One row per finished stage, sorted: ``COLUMNS``, the step of the best validation, measurements, the baseline.

    ``among``: the records that hold what these stand on, where these alone do not.
    """
    rows, lines = [], steps_of_lines(records if among is None else among)
    named = variants.of_stages(records)
    for stage, variant in zip(records, named, strict=True):
        if stage.state == "done":
            row = {name: stage.summary.get(name) for name in COLUMNS}
            row["variant"] = variant  # told from today's defaults; those it was trained under may differ
            row["replicate"], row["data"] = stage.replicate, stage.data
            row["steps_of_line"] = lines.get(stage.digest)
            row["best_step"] = stage.summary.get("best_step")
            row["measurements"] = stage.summary.get("measurements") or {}
            row["baseline"] = stage.summary.get("baseline")
            row["task"], row["digest"] = row["task"] or stage.task, row["digest"] or stage.digest
            rows.append(row)
    return sorted(rows, key=_order)


def boards(records: list[Record], among: list[Record] | None = None) -> list[Board]:
    """The finished stages arranged for tables and figures, one board per task, data set, model and metric.

    ``among``: see ``finished``.
    """
    groups = defaultdict(list)
    for row in finished(records, among):
        groups[tuple(str(row[name] or "") for name in ("task", "dataset", "model", "metric"))].append(row)
    return [_board(key, groups[key], _updated(records)) for key in sorted(groups)]


def _order(row: dict) -> tuple:
    """Task, data set, model, dense first, then method, variant, sparsity, fold, seed."""
    method, level = str(row["method"]), _level(row)
    head = tuple(str(row[name] or "") for name in ("task", "dataset", "model", "metric"))
    own = folds.counted(row["replicate"]), row["seed"] or 0, str(row["digest"])
    return (*head, method != REFERENCE, method, str(row["variant"]), level, *own)


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
    labels, common = variants.labels(key[0], rows)
    groups = defaultdict(list)
    for row in rows:
        groups[row["method"] == REFERENCE, labels[row["method"], row["variant"]], _level(row)].append(row)
    warnings, several, cells, reference = [], [], {}, {}
    for (dense, label, level), members in sorted(groups.items()):
        found = joined(members, updated, f"{label} at {percent(level)}", warnings, several)
        if found and dense:
            reference[label] = found
        elif found:
            cells[label, level] = found
    if several:
        more = f" and {len(several) - 2} more" if len(several) > 2 else ""
        warnings.append(
            f"several results for {'; '.join(several[:2])}{more}: the newest is shown, all are in results.csv"
        )
    seeds = sorted({row["seed"] for row in rows if row["seed"] is not None})
    told = baseline.scores(rows)
    named = {labels[row["method"], row["variant"]]: told.get(baseline.apart(row)) for row in rows}
    baselines = {label: statistics.fmean(scores) for label, scores in named.items() if scores}
    board = Board(*key, _aligned(cells), reference, common, seeds, baselines, constants=baseline.lines(told))
    board.splits = sorted({row["replicate"] for row in rows if row["replicate"]}, key=folds.counted)
    board.drawn = folds.drawn(board.task, [variants.parts(row["variant"]) for row in rows])
    dense = {part for row in rows if row["method"] == REFERENCE for part in variants.parts(row["variant"])}
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
        warnings.append(f"{_cells(missing)} no finished stage, shown as '-'")
    if unpaired := _unpaired(board):
        more = f"; and {len(unpaired) - 2} more" if len(unpaired) > 2 else ""
        splits = folds.listed(board.splits).partition(" ")[0]
        what = f"{splits} and seeds" if len(board.splits) > 1 else "seeds"
        warnings.append(
            f"{_cells(unpaired, 'is', 'are')} not over the same {what} as the others, so that differences are not "
            f"paired: {'; '.join(unpaired[:2])}{more}"
        )
    single = [cell for cell in (*board.cells.values(), *board.reference.values()) if cell.n == 1]
    if single:
        warnings.append(f"{_cells(single)} one {board.unit}: no deviation can be stated")
    apart = [part for part in board.common if not part.startswith("method.") and part not in dense]
    if board.reference and apart:
        warnings.append(f"the dense reference was trained without {', '.join(apart)}")
    if not board.reference:
        warnings.append("no dense reference has finished: there is nothing to compare with")
    board.warnings = warnings
    return board


def _cells(found: list, one: str = "has", more: str = "have") -> str:
    return f"{amount(len(found), 'cell')} {one if len(found) == 1 else more}"


def _unpaired(board: Board) -> list[str]:
    """A few words on each cell that is over other folds or seeds than most."""
    named = {label: cell.pairs for label, cell in board.reference.items()}
    named |= {f"{label} at {percent(level)}": cell.pairs for (label, level), cell in board.cells.items()}
    usual, found = board.usual, []
    for name, pairs in named.items():
        told = [f"{word} {_some(own)}" for word, own in (("without", usual - pairs), ("with", pairs - usual)) if own]
        found += [f"{name} {', '.join(told)}"] * bool(told)
    return found


def _some(pairs: frozenset[folds.Pair]) -> str:
    first, *rest = sorted((folds.pair(*pair) for pair in pairs), key=folds.counted)
    return first + (f" and {len(rest)} more" if rest else "")


def _span(values: list[float]) -> str:
    ends = dict.fromkeys(f"{value:,.0f}" for value in (min(values), max(values))) if values else ()
    return " to ".join(ends)
