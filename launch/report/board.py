"""Finished stages arranged for reading: an average for each method and sparsity, with its deviation over seeds.

A cell holds what differs in the seed alone, or in the fold (``launch/request/folds.py``): rows of another data set,
model, metric, variant or sparsity are never averaged. Sparsity is the share of zeros among the prunable weights.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from launch.report import constant_answer, knee
from launch.report.average import Average, joined
from launch.report.rows import Row, finished
from launch.request import folds, variants
from launch.request.variants import REFERENCE
from launch.runs.records import Record
from launch.wording import amount, percent, some, span

Cells = dict[tuple[str, float], Average]  # by method and level

SAME = 5e-4  # of the remaining weights: sparsities closer than this share a row of the table


@dataclass
class Board:
    """The results of one (task, data set, model, metric): a cell for each (method label, sparsity level)."""

    task: str
    dataset: str
    model: str
    metric: str
    cells: Cells
    reference: dict[str, Average]
    own_reference: dict[str, str]  # label of a method -> that of the dense networks trained with the same settings
    common: list[str]
    seeds: list[int]
    baselines: dict[str, float] = field(default_factory=dict)  # label -> the mean score of the best constant answer
    warnings: list[str] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)  # the same for readers, a line for each of the data
    splits: list[str] = field(default_factory=list)  # every fold there is a result of, as ``task.fold=3``
    drawn: str = ""  # for readers: that the seed chooses the fold, where it does

    @property
    def title(self) -> str:
        return " · ".join(part for part in (self.task, self.dataset, self.model, self.metric) if part)

    @property
    def averages(self) -> list[Average]:
        """All cells, with those of the reference."""
        return [*self.cells.values(), *self.reference.values()]

    @property
    def methods(self) -> list[str]:
        return sorted({label for label, _ in self.cells}, key=folds.counted)

    @property
    def levels(self) -> list[float]:
        return sorted({level for _, level in self.cells})

    def dense(self, method: str) -> Average | None:
        """What a method's curve begins with: its own dense networks, or those of all where there are no others."""
        alone = next(iter(self.reference)) if len(self.reference) == 1 else ""
        return self.reference.get(self.own_reference.get(method, alone))

    def curve(self, method: str) -> list[tuple[float, Average]]:
        """A method's levels, rising, each with its cell."""
        return [(level, self.cells[method, level]) for level in self.levels if (method, level) in self.cells]

    def points(self, method: str) -> list[knee.Point]:
        return [knee.Point(level, cell.mean, cell.deviation, cell.n) for level, cell in self.curve(method)]

    def early(self, method: str) -> bool:
        """Do a curve's levels end too early to trust its knee?"""
        curve, own = self.points(method), self.dense(method)
        dense = own.mean if own else curve[0].mean
        least = self.baselines.get(method)
        return least is not None and knee.early(dense, curve[-1].mean, least)

    def knees(self) -> dict[str, knee.Knee | None]:
        """The corner of each method's curve, None where it has none; methods with too few levels are left out."""
        curves = {method: self.points(method) for method in self.methods}
        dense = {method: self.dense(method) for method in curves}
        start = {method: own and knee.Point(0.0, own.mean, own.deviation, own.n) for method, own in dense.items()}
        return {m: knee.find(start[m], curve) for m, curve in curves.items() if len(curve) >= knee.LEVELS}

    @property
    def expected(self) -> int:
        """The usual number of results in a cell; cells with another number say so."""
        numbers = Counter(cell.n for cell in self.averages)
        return max(numbers, key=lambda n: (numbers[n], n), default=0)

    @property
    def usual(self) -> frozenset[folds.Pair]:
        """The folds and seeds that most cells of the ``expected`` number are over; none where there are no cells."""
        numbers = Counter(cell.pairs for cell in self.averages if cell.n == self.expected)
        return max(numbers, key=lambda pairs: numbers[pairs], default=frozenset())

    @property
    def unit(self) -> str:
        """What a cell has several of."""
        return "result" if self.splits else "seed"

    def members(self, most: int | None = None) -> str:
        """``folds 0-4, seeds 0, 1, 2``; of more than ``most`` seeds the number."""
        noun = "seed" if len(self.seeds) == 1 else "seeds"
        many = most is not None and len(self.seeds) > most
        seeds = f"{len(self.seeds)} seeds" if many else f"{noun} {', '.join(map(str, self.seeds))}"
        return ", ".join(filter(None, (folds.listed(self.splits), seeds)))

    def notes(self) -> list[str]:
        """Footnotes: how to read the cells, and every warning."""
        over = f"{folds.over(self.usual)}{self.drawn} (n = {self.expected} unless stated)"
        spread = f"mean ± sample standard deviation over {over}" if self.expected > 1 else f"one {self.unit}"
        notes = [f"{self.metric}, {spread}; {self.members()}"]
        if self.common:
            notes.append(f"all methods: {', '.join(self.common)}")
        if any(cell.collapsed for cell in self.averages):
            what = "the model gives one answer, or a whole layer is zero (which: `collapse` in its summary.json)"
            notes.append(f"* collapsed in at least one {self.unit}: {what}")
        if missed := self._missed():
            notes.append(f"! pruned otherwise than asked for, in at least one {self.unit}: {some(missed, 5, '; ')}")
        return notes + [f"warning: {warning}" for warning in self.warnings]

    def _missed(self) -> list[str]:
        """The cells that stand in a row of another sparsity than theirs, each with its own."""
        rows = [(label, 0.0, cell) for label, cell in self.reference.items()]
        rows += [(label, level, cell) for (label, level), cell in self.cells.items()]
        return [
            f"{name} at {percent(level)} has {100 * cell.sparsity:.7g}%" for name, level, cell in rows if cell.missed
        ]

    def costs(self) -> str:
        """Optimizer steps of a stage and its ancestors, for every method: one number, or the least and the most."""
        lines: dict[str, list[float]] = defaultdict(list)
        methods: dict[str, list[str]] = defaultdict(list)
        for label, cell in (*self.reference.items(), *((label, cell) for (label, _), cell in self.cells.items())):
            lines[label] += [] if cell.line is None else [cell.line]
        for label, values in lines.items():
            methods[span([f"{value:,.0f}" for value in (min(values), max(values))] if values else [])].append(label)
        return "; ".join(f"{', '.join(labels)} {steps}" for steps, labels in methods.items() if steps)


def boards(records: Sequence[Record], among: Sequence[Record] | None = None) -> list[Board]:
    """The finished stages, one board per task, data set, model and metric. ``among``: see ``rows.finished``."""
    groups: dict[tuple[str, str, str, str], list[Row]] = defaultdict(list)
    for row in finished(records, among):
        groups[row.board].append(row)
    return [_board(key, groups[key]) for key in sorted(groups)]


def _board(key: tuple[str, str, str, str], rows: list[Row]) -> Board:
    labels, common = variants.labels(key[0], [(row.method, row.variant) for row in rows])
    groups: dict[tuple[bool, str, float], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.method == REFERENCE, labels[row.method, row.variant], row.level].append(row)
    warnings: list[str] = []
    several: list[str] = []
    cells: Cells = {}
    reference: dict[str, Average] = {}
    for (dense, label, level), members in sorted(groups.items(), key=lambda item: item[0]):
        average = joined(members, f"{label} at {percent(level)}", warnings, several)
        if average and dense:
            reference[label] = average
        elif average:
            cells[label, level] = average
    if several:
        warnings.append(f"several results for {some(several, 2, '; ')}: the newest is shown, all are in results.csv")
    constants = constant_answer.scores(rows)
    named = {labels[row.method, row.variant]: constants.get(constant_answer.apart(row)) for row in rows}
    board = Board(
        *key,
        cells=_aligned(cells),
        reference=reference,
        own_reference={label: name for label, name in _own(labels).items() if name in reference},
        common=common,
        seeds=sorted({row.seed for row in rows if row.seed is not None}),
        baselines={label: statistics.fmean(scores) for label, scores in named.items() if scores},
        constants=constant_answer.lines(constants),
        splits=sorted({row.replicate for row in rows if row.replicate}, key=folds.counted),
        drawn=folds.drawn(key[0], [variants.parts(row.variant) for row in rows]),
    )
    board.warnings = warnings + _warnings(board, rows)
    return board


def _own(labels: dict[tuple[str, str], str]) -> dict[str, str]:
    """Label of a method -> that of the dense networks whose settings are its own but for those of the method."""
    dense = {
        frozenset(variants.parts(variant)): label for (method, variant), label in labels.items() if method == REFERENCE
    }
    found = {}
    for (_, variant), label in labels.items():
        shared = frozenset(part for part in variants.parts(variant) if not part.startswith("method."))
        if shared in dense:
            found[label] = dense[shared]
    return found


def _aligned(cells: Cells) -> Cells:
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


def _warnings(board: Board, rows: list[Row]) -> list[str]:
    """What a reader should know of the cells before comparing them."""
    warnings = []
    if missing := [(m, level) for m in board.methods for level in board.levels if (m, level) not in board.cells]:
        warnings.append(f"{_cells(missing)} no finished stage, shown as '-'")
    if unpaired := _unpaired(board):
        splits = folds.listed(board.splits).partition(" ")[0]
        what = f"{splits} and seeds" if len(board.splits) > 1 else "seeds"
        more = f"; and {len(unpaired) - 2} more" if len(unpaired) > 2 else ""
        warnings.append(
            f"{_cells(unpaired, 'is', 'are')} not over the same {what} as the others, so that differences are not "
            f"paired: {'; '.join(unpaired[:2])}{more}"
        )
    if single := [average for average in board.averages if average.n == 1]:
        warnings.append(f"{_cells(single)} one {board.unit}: no deviation can be stated")
    dense = {part for row in rows if row.method == REFERENCE for part in variants.parts(row.variant)}
    apart = [part for part in board.common if not part.startswith("method.") and part not in dense]
    if board.reference and apart:
        warnings.append(f"the dense reference was trained without {', '.join(apart)}")
    if not board.reference:
        warnings.append("no dense reference has finished: there is nothing to compare with")
    return warnings


def _cells(found: list, one: str = "has", more: str = "have") -> str:
    return f"{amount(len(found), 'average')} {one if len(found) == 1 else more}"


def _unpaired(board: Board) -> list[str]:
    """A few words on each cell that is over other folds or seeds than most."""
    named = {label: cell.pairs for label, cell in board.reference.items()}
    named |= {f"{label} at {percent(level)}": cell.pairs for (label, level), cell in board.cells.items()}
    usual, found = board.usual, []
    for name, pairs in named.items():
        others = (("without", usual - pairs), ("with", pairs - usual))
        named_pairs = [(word, sorted((folds.pair(*pair) for pair in own), key=folds.counted)) for word, own in others]
        words = [f"{word} {some(own, 1)}" for word, own in named_pairs if own]
        found += [f"{name} {', '.join(words)}"] * bool(words)
    return found
