"""How far each stage was sent to MLflow: one small file an address, written after what it speaks of."""

import hashlib
import time
from pathlib import Path

from common import record
from common.errors import UserError
from launch.mlflow_view import database
from launch.mlflow_view.content import committed, valid
from launch.runs.records import Record


class Offsets:
    """What one address holds.

    ``stages``: ``task/digest`` -> {run, offset (bytes), seal (checksum of the lines at the offset), state}; ``sweeps``:
    ``task/name`` -> status; ``experiments``: task -> identity. Losing the file costs nothing but time: the same numbers
    stand in the run's ``synced`` tag, and sending a line twice leaves one point.
    """

    def __init__(self, runs: Path, uri: str) -> None:
        self.path = runs / ".sync" / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}.json"
        own = Path(uri[len("sqlite:///") :]) if uri.startswith("sqlite:///") else None
        try:
            stored = record.read_json(self.path, {}) if own is None or database.condition(own) == "usable" else {}
        except (OSError, ValueError):  # a disk that filled up can leave an empty file: start from the runs' tags
            stored = {}
        kinds = {"run": str, "offset": int, "seal": int, "state": str}
        entries = {k: v for k, v in _mapping(stored, "stages").items() if isinstance(v, dict)}
        self.stages = {k: v for k, v in entries.items() if all(isinstance(v.get(n), kinds[n]) for n in kinds)}
        self.sweeps: dict[str, str] = _words(stored, "sweeps")
        self.experiments: dict[str, str] = _words(stored, "experiments")
        self.saved = time.monotonic()

    def shows(self, stage: Record) -> bool:
        """Whether the stage has a run, or is to have one: it began, or failed before it could."""
        return bool(stage.done or stage.status.get("started")) or stage.state == "failed" or stage.key in self.stages

    def news(self, stage: Record) -> bool:
        """Whether MLflow does not have the stage as it is now."""
        known = self.stages.get(stage.key)
        if known is None or known["state"] != stage.state or known["offset"] != committed(stage):
            return True
        return not valid(stage, known)

    def know(self, task: str, identity: str) -> None:
        """Forget what was sent to an experiment that is no longer there (its database was replaced)."""
        if self.experiments.get(task, identity) != identity:
            for known in (self.stages, self.sweeps):
                for name in [name for name in known if name.startswith(f"{task}/")]:
                    del known[name]
        self.experiments[task] = identity

    def keep(self, task: str, runs: set[str], sweeps: set[str], members: dict[tuple[str, str], list[str]]) -> None:
        """Forget of a task what has no run any more: somebody deleted it. ``members``: as ``records.sweeps``."""
        gone = {name for name in self.sweeps if name.startswith(f"{task}/") and name.partition("/")[2] not in sweeps}
        self.sweeps |= dict.fromkeys(gone, "")  # their status is to be sent, and their stages name them anew
        for key in [key for key in self.stages if key.startswith(f"{task}/")]:
            above = members.get((task, key.partition("/")[2]), [""])[0]
            if self.stages[key]["run"] not in runs or f"{task}/{above}" in gone:
                del self.stages[key]

    def save(self, at_least: float = 0.0) -> None:
        """Write the file, unless that was done less than ``at_least`` seconds ago; ``UserError`` where it cannot be."""
        if time.monotonic() - self.saved < at_least:
            return
        try:
            self.path.parent.mkdir(exist_ok=True)
            content = {"experiments": self.experiments, "sweeps": self.sweeps, "stages": self.stages}
            record.write_json(self.path, content)
        except OSError as problem:
            raise UserError(
                f"cannot note in {self.path} what was sent to MLflow ({problem.strerror}): {self.path.parent} has to "
                "be a folder that can be written, on a disk with room. Nothing is lost: repeat `make sync` then"
            ) from problem
        self.saved = time.monotonic()


def _mapping(stored: object, name: str) -> dict:
    """A part of a file that anyone may have damaged."""
    value = stored.get(name) if isinstance(stored, dict) else None
    return value if isinstance(value, dict) else {}


def _words(stored: object, name: str) -> dict[str, str]:
    return {key: value for key, value in _mapping(stored, name).items() if isinstance(value, str)}
