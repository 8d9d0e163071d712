"""What a stage leaves while it trains: metric lines, status, early weights, resume points. One process writes it."""

import time
from pathlib import Path
from typing import Any

from torch import nn

from common import paths, record
from common import sparsity as sp
from common.training.resume import checkpoint


class Journal(record.Metrics):
    """Of the process that holds the stage's lock. ``offset``: bytes of metrics that the resume point vouches for."""

    def __init__(self, folder: Path, digest: str, offset: int):
        super().__init__(folder, offset)
        self.folder, self.digest, self.reported = folder, digest, time.monotonic()

    def begin(self, step: int, steps: int) -> None:
        # going back to an earlier resume point takes back what was said to be safe to read
        record.update_status(self.folder, step=step, steps=steps, committed=self.offset)

    def snapshot(self, step: int, model: nn.Module) -> None:
        checkpoint.save(paths.snapshot(self.folder, step), sp.snapshot(model))

    def save(self, content: dict[str, Any]) -> None:
        """Write a resume point; all lines so far are final then."""
        offset = self.commit()
        checkpoint.save_resume_point(self.folder, {"digest": self.digest, "metrics": offset, **content})
        record.update_status(self.folder, step=content["step"], committed=offset)
        self.reported = time.monotonic()

    def tick(self, step: int) -> None:
        """Say where training is, once a second at most."""
        if time.monotonic() - self.reported > 1:
            record.update_status(self.folder, step=step)
            self.reported = time.monotonic()


class Silence(Journal):
    """The journal of every other process of the stage: it writes nothing."""

    def __init__(self, folder: Path, digest: str, offset: int):
        self.folder = folder

    def write(self, *_: object, **values: object) -> Any:
        """No other process writes, whatever the loop asks for."""

    begin = snapshot = save = tick = commit = close = write
