"""Every file name the framework writes, in one place."""

import os
from collections.abc import Callable
from pathlib import Path


def root() -> Path:
    """The checkout (or the frozen copy of it) this code runs from."""
    return Path(__file__).resolve().parent.parent


def runs() -> Path:
    """Where stages live: ``RUNS``, or ``runs`` in the current folder."""
    return _folder("RUNS", "runs")


def reports() -> Path:
    """Where tables and figures go: ``REPORTS``, or ``reports`` in the current folder."""
    return _folder("REPORTS", "reports")


def _folder(variable: str, default: str) -> Path:
    """The folder in an environment variable, with ``~`` for the home folder (make hands it on as it was typed)."""
    return Path(os.path.expanduser(os.environ.get(variable) or default)).absolute()


def sweeps() -> Path:
    return runs() / ".sweeps"


def stage(task: str, digest: str) -> Path:
    return runs() / task / digest


def _inside(name: str) -> Callable[[Path], Path]:
    """The file ``name`` of a stage's folder."""
    return lambda folder: Path(folder) / name


config = _inside("config.yaml")
status = _inside("status.json")
metrics = _inside("metrics.jsonl")
summary = _inside("summary.json")
done = _inside("DONE")
error = _inside("error.txt")
lock = _inside("lock")
checkpoint = _inside("checkpoint.pt")  # the newest resume point
previous_checkpoint = _inside("checkpoint.previous.pt")  # the one before it
next_checkpoint = _inside("checkpoint.next.pt")  # one that is being put in place
weights = _inside("weights.pt")  # final weights and packed masks: what a child stage starts from
selected = _inside("selected.pt")  # the scored weights, where selection chose an earlier step than the last


def snapshot(folder: Path, step: int) -> Path:
    """Weights as they stood before optimizer step ``step`` (0: the initialisation)."""
    return Path(folder) / f"snapshot-{step}.pt"
