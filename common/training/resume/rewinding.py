"""The weights a dense stage had at an early step: kept by it, or trained again from the start and checked."""

import json
import math
from contextlib import suppress
from pathlib import Path

import torch

from common import paths, record
from common import sparsity as sp
from common.training.protocols import AnyTrainer
from common.training.resume import checkpoint


def snapshot_of(trainer: AnyTrainer, root: Path, step: int) -> dict[str, torch.Tensor]:
    """The weights of the dense stage ``root`` after ``step`` steps. ``trainer``: any trainer of the same task.

    What is trained again is compared with the losses that ``root`` logged, to the first at or after ``step + 1`` (the
    first that the weights asked for have a part in); ``RuntimeError`` where they differ.
    """
    path = paths.snapshot(root, step)
    kept: dict[str, torch.Tensor] = {}
    with suppress(FileNotFoundError, checkpoint.DamagedFile):  # it follows from the stage's settings
        kept = checkpoint.load(path)
    if all(trainer.team.gather(bool(kept))):  # else all processes train it again, together
        return kept
    stage = record.read_config(root)
    again = type(trainer)(stage["settings"], stage["method"], stage["task"])
    again.team = trainer.team
    if step > again.steps:
        raise ValueError(f"method.rewind={step} is beyond the {again.steps} steps of the dense training")
    lines = (json.loads(line) for line in paths.metrics(root).read_text().splitlines())
    logged = {line["step"]: line["loss"] for line in lines if "loss" in line}
    checked = min((logged_step for logged_step in logged if logged_step > step), default=step)
    with again.random_stream("training"):  # the stage that asks has random numbers of its own to go on with
        state = again.begin(None)
        again.method.start(state)
        weights = sp.snapshot(state.model)
        while state.step < checked:
            loss = again.step(state)
            if not math.isclose(loss, logged.get(state.step, loss), rel_tol=1e-6):
                raise RuntimeError(
                    f"training {root.name} again gave loss {loss} at step {state.step}, it had logged "
                    f"{logged[state.step]}: rewinding to step {step} would not be faithful on this machine"
                )
            if state.step == step:
                weights = sp.snapshot(state.model)
    if trainer.team.rank == 0:
        checkpoint.save(path, weights)
    return weights
