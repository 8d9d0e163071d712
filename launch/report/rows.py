"""Finished stages as rows: one line of results.csv each, and what tables and figures are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from launch.request import folds, variants
from launch.request.variants import REFERENCE
from launch.runs.records import Record, outdated, steps_of_lines


@dataclass(frozen=True)
class Row:
    """A finished stage. The fields up to ``data`` are the columns of results.csv, in their order.

    What a summary does not say is None.
    """

    task: str
    dataset: str | None
    model: str | None
    method: str
    sparsity_target: float | None
    sparsity: float | None
    sparsity_all: float | None
    seed: int | None
    metric: str | None
    score: float | None
    score_validation: float | None
    steps: int | None
    steps_of_line: int | None  # optimizer steps of the stage and its ancestors
    epochs: float | None
    collapsed: bool | None
    digest: str
    parent: str | None
    variant: str  # against today's defaults; those it was trained under may differ
    zeros: float | None
    replicate: str
    data: str
    best_step: int | None  # the step of the best validation
    measurements: dict[str, Any]
    baseline: float | None  # the score of the best constant answer
    updated: float  # unix seconds
    missed: bool = False  # is the sparsity another than the target?

    @property
    def board(self) -> tuple[str, str, str, str]:
        """What rows of one table have in common: task, data set, model and metric."""
        return self.task, str(self.dataset or ""), str(self.model or ""), str(self.metric or "")

    @property
    def level(self) -> float:
        """The sparsity a row is filed under: the target, or what a method without a target arrived at."""
        target = self.sparsity_target
        return level(float(self.sparsity or 0.0) if target is None else float(target))

    @property
    def order(self) -> tuple:
        """For sorting: task, data set, model, dense first, then method, variant, sparsity, fold, seed."""
        own = folds.counted(self.replicate), self.seed or 0, self.digest
        return *self.board, self.method != REFERENCE, self.method, self.variant, self.level, *own


NAMES = [field.name for field in fields(Row)]
COLUMNS = NAMES[: NAMES.index("data") + 1]


def level(sparsity: float) -> float:
    """Six digits of what remains: 0.9999999 and 0.9999998 are two levels, 0.3 and 0.30000000000000004 are one."""
    remaining = float(f"{1 - sparsity:.6g}")
    return round(1 - remaining, 12)


def finished(records: Sequence[Record], among: Sequence[Record] | None = None) -> list[Row]:
    """One row per finished stage, sorted. ``among``: the records that hold their ancestors, where these do not."""
    lines = steps_of_lines(list(records if among is None else among))
    pairs = zip(records, variants.of_stages(list(records)), strict=True)
    return sorted((_row(*pair, lines) for pair in pairs if pair[0].state == "done"), key=lambda row: row.order)


def _row(stage: Record, variant: str, lines: dict[str, int]) -> Row:
    summary = stage.summary or {}
    values: dict[str, Any] = {name: summary.get(name) for name in NAMES}
    values |= {"task": values["task"] or stage.task, "digest": values["digest"] or stage.digest}
    values |= {"variant": variant, "replicate": stage.replicate, "data": stage.data}
    values |= {"method": str(values["method"] or stage.method), "steps_of_line": lines.get(stage.digest)}
    values |= {"measurements": values["measurements"] or {}, "updated": stage.status.get("updated") or 0.0}
    values["missed"] = stage.missed
    return Row(**values)


def current(records: Sequence[Record]) -> tuple[list[Record], int]:
    """The records of this code's versions, and how many finished ones are of earlier versions."""
    old = outdated(list(records))
    return [r for r in records if r.digest not in old], sum(r.done for r in records if r.digest in old)
