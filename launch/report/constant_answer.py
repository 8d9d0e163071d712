"""The score of the best constant answer, for each of the data that the rows of a table are about."""

import statistics
from collections import defaultdict
from collections.abc import Iterable

from launch.report.average import finite
from launch.report.rows import Row
from launch.request import variants

Apart = tuple[str, ...]


def apart(row: Row) -> Apart:
    """What tells a row's data apart from those of others: settings of the task, and checksums."""
    return tuple(part for part in variants.parts(row.variant) if part.startswith(("task.", variants.DATA)))


def scores(rows: Iterable[Row]) -> dict[Apart, list[float]]:
    """By ``apart`` the score of each fold and seed, once however many stages name it; data without one are left out."""
    found: dict[Apart, set[tuple[str, int | None, float]]] = defaultdict(set)
    for row in rows:
        if row.baseline is not None and finite(row.baseline):
            found[apart(row)].add((row.replicate, row.seed, float(row.baseline)))
    return {data: [score for *_, score in sorted(several, key=str)] for data, several in found.items()}


def lines(found: dict[Apart, list[float]]) -> list[str]:
    """``constant answer: 62.44``, or ``62.95 (mean; 59.90 to 65.99)`` where folds have other test sets.

    A line for each of the data where it is not the same on all; none where no stage names one.
    """
    texts = {data: _text(values) for data, values in found.items()}
    if len(set(texts.values())) == 1:
        return [f"constant answer: {next(iter(texts.values()))}"]
    own = {data: variants.plain([part for part in data if not all(part in other for other in texts)]) for data in texts}
    named = {" ".join(filter(None, ("constant answer", own[data]))): text for data, text in texts.items()}
    return [f"{name}: {named[name]}" for name in sorted(named)]


def _text(values: list[float]) -> str:
    ends = [f"{value:.2f}" for value in (min(values), max(values))]
    return ends[0] if ends[0] == ends[1] else f"{statistics.fmean(values):.2f} (mean; {' to '.join(ends)})"
