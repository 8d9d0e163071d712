"""Going on from a resume point: what it holds, and which one all processes of a stage start from."""

import socket
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from common import sparsity as sp
from common.training.processes.team import Team
from common.training.protocols import AnyTrainer
from common.training.resume import checkpoint
from common.training.state import State

PATIENCE = 60.0  # seconds in which a network file system shows every node what one of them wrote


class Resumable(AnyTrainer, Protocol):
    """A trainer with what it remembers of the steps so far."""

    best: dict[str, Any]
    last_validation: float | None
    warnings: list[str]
    start_sums: dict[str, list[float]]


def content(trainer: Resumable, state: State) -> dict[str, Any]:
    """All that determines the rest of the training. Every process of the stage must call it."""
    return {
        "step": state.step,
        "model": state.model.state_dict(),
        "learned": {name: parameter.detach() for name, parameter in state.learned.items()},
        "optimizer": state.optimizer.state_dict(),
        "masks": state.masks.state_dict(),
        "method": trainer.method.state_dict(),
        "best": trainer.best,
        "last_validation": trainer.last_validation,
        "warnings": trainer.warnings,
        "start_sums": trainer.start_sums,
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state_all() if trainer.device.type == "cuda" else [],
        "random_ranks": trainer.team.gather(_random(trainer.device))[1:],
    }


def _random(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of this process's random numbers."""
    found = {"cpu": torch.get_rng_state()}
    return {**found, "cuda": torch.cuda.get_rng_state()} if device.type == "cuda" else found


def restore(trainer: Resumable, state: State, saved: dict[str, Any]) -> None:
    """Put back what ``content`` gave."""
    sp.restore(state.model, saved["model"])
    _restore_learned(state.learned, saved.get("learned", {}))
    state.masks.load_state_dict(saved["masks"])
    state.optimizer.load_state_dict(saved["optimizer"])
    trainer.method.load_state_dict(saved["method"])
    state.step, trainer.best, trainer.start_sums = saved["step"], saved["best"], saved["start_sums"]
    trainer.last_validation, trainer.warnings = saved["last_validation"], saved.get("warnings", [])
    if trainer.team.rank:
        own = saved["random_ranks"][trainer.team.rank - 1]
        torch.set_rng_state(own["cpu"])
        if "cuda" in own and trainer.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda"])
        return
    torch.set_rng_state(saved["random"])
    if trainer.device.type == "cuda":
        torch.cuda.set_rng_state_all(saved["random_cuda"])


@torch.no_grad()
def _restore_learned(learned: dict[str, nn.Parameter], saved: dict[str, torch.Tensor]) -> None:
    expected, found = ({n: tuple(t.shape) for n, t in tensors.items()} for tensors in (learned, saved))
    if expected != found:
        raise ValueError(f"the method learns {expected} beside the model, the resume point has {found}")
    for name, parameter in learned.items():
        parameter.copy_(saved[name])


def choose(team: Team, folder: Path, digest: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The resume point to go on from, None for a fresh start, and warnings. The first process decides for all.

    ``RuntimeError``: another process cannot read the one that was decided on.
    """
    saved, warnings = checkpoint.load_resume_point(folder, digest) if team.rank == 0 else (None, [])
    wanted = team.tell(_name(saved))
    end = time.monotonic() + PATIENCE
    while team.rank and wanted and _name(saved := checkpoint.load_resume_point(folder, digest)[0]) != wanted:
        if time.monotonic() > end:
            raise RuntimeError(
                f"rank {team.rank} on {socket.gethostname()} cannot read the resume point of step {wanted[0]} in "
                f"{folder} that the stage goes on from: expected one file system that all nodes share"
            )
        time.sleep(0.5)
    return saved, warnings


def _name(saved: dict[str, Any] | None) -> tuple | None:
    """Enough to tell one resume point of a stage from another."""
    return None if saved is None else (saved["step"], saved["metrics"], saved["masks"]["checksum"])
