"""``make smoke``: the first cell of a sweep, with all its ancestors, in a few steps on this machine; keeps nothing.

What it shows is that data, model, method, evaluation and records work together; its score means nothing.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

from common import paths, record
from common.errors import UserError
from common.settings import groups
from launch import wording
from launch.plan import fits_the_model, planner
from launch.request import grid
from launch.request.arguments import Request

STEPS = (20, 50, 100, 200, 500, 1000, 2000)  # the fewest that the method accepts are taken


def smoke(request: Request) -> int:
    """Train the first cell in a folder of its own; returns the exit code."""
    from launch.local import sweep
    from launch.local.progress import Progress

    composer, cells = grid.cells(request)
    cell = _short(composer.task, next((c for c in cells if not c.reference), cells[0]))
    before, folder = os.environ.get("RUNS"), Path(tempfile.mkdtemp(prefix="smoke-"))
    began = time.monotonic()
    try:
        os.environ["RUNS"] = str(folder)
        forest = planner.Forest(composer)
        wished = forest.add(cell.method, cell.settings)
        wanted = planner.Plan(composer.task, request.preset, forest.stages, [wished])
        fits_the_model.check(wanted.todo())
        some = forest.stages[wished]
        steps = cell.settings["run"]["steps"]
        each = " each" if len(forest.stages) > 1 else ""
        size = f"{wording.amount(len(forest.stages), 'stage')} of {wording.amount(steps, 'step')}{each}"
        print(f"{some.config['label']}: {size}, here", flush=True)
        result = sweep.run(wanted.todo(), 1, Progress(), planner.write(wanted))
        if result.code:
            reason = result.error or next(iter(result.reasons.values()), "it was interrupted")
            print(f"error: {reason}; everything it wrote is in {folder}")
            return result.code
        summary = record.read_json(paths.summary(some.folder))
        zeros, score = summary["sparsity"], summary["score"]
        if not summary["target_met"]:
            print(
                f"error: sparsity {wording.percent(zeros)} at the end, asked for was "
                f"{wording.percent(summary['sparsity_target'])}: the method prunes otherwise than its target says (or "
                f"declares a `tolerance`, docs/method.md); everything it wrote is in {folder}"
            )
            return 1
        print(
            f"works: {time.monotonic() - began:.0f} s on {summary['device']}, sparsity {wording.percent(zeros)}, test "
            f"{summary['metric']} {score:.2f} after so few steps; nothing was kept"
        )
        shutil.rmtree(folder)
        return 0
    finally:
        os.environ.pop("RUNS")
        if before is not None:
            os.environ["RUNS"] = before
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def _short(task: str, cell: grid.Cell) -> grid.Cell:
    """The cell with as few steps as its method accepts."""
    for steps in STEPS:
        few = dict(steps=steps, evaluate_every=max(1, steps // 2), checkpoint_every=max(1, steps // 2))
        settings = cell.settings | {"run": cell.settings["run"] | few}
        if not (found := groups.complaints(task, cell.method, settings)):
            return grid.Cell(cell.method, settings)
    raise UserError(f"{cell.method} does not work in {STEPS[-1]} steps: {found[0]}")
