"""Every file name the framework writes, in one place."""

import os
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


def config(folder: Path) -> Path:
    return Path(folder) / "config.yaml"


def status(folder: Path) -> Path:
    return Path(folder) / "status.json"


def metrics(folder: Path) -> Path:
    return Path(folder) / "metrics.jsonl"


def summary(folder: Path) -> Path:
    return Path(folder) / "summary.json"


def done(folder: Path) -> Path:
    return Path(folder) / "DONE"


def error(folder: Path) -> Path:
    return Path(folder) / "error.txt"


def lock(folder: Path) -> Path:
    return Path(folder) / "lock"


def checkpoint(folder: Path) -> Path:
    """The newest resume point; the one before it is kept beside as ``checkpoint.previous.pt``."""
    return Path(folder) / "checkpoint.pt"


def previous_checkpoint(folder: Path) -> Path:
    return Path(folder) / "checkpoint.previous.pt"


def next_checkpoint(folder: Path) -> Path:
    """A resume point that is being put in place."""
    return Path(folder) / "checkpoint.next.pt"


def weights(folder: Path) -> Path:
    """Final weights and packed masks: what a child stage starts from."""
    return Path(folder) / "weights.pt"


def selected(folder: Path) -> Path:
    """The scored weights, where selection chose an earlier step than the last."""
    return Path(folder) / "selected.pt"


def snapshot(folder: Path, step: int) -> Path:
    """Weights as they stood before optimizer step ``step`` (0: the initialisation)."""
    return Path(folder) / f"snapshot-{step}.pt"
