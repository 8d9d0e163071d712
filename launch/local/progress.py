"""What a person sees while a sweep runs: one refreshed line on a terminal, a line now and then in a log."""

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from launch import wording
from launch.described import Stage
from launch.request import folds

REFRESH = 0.1  # seconds between two drawings on a terminal
INTERVAL = 10.0  # seconds between two lines in a log, unless a tenth of the sweep went by


@dataclass(frozen=True)
class Event:
    """One piece of news from an executor.

    ``kind``: ``started``, ``done``, ``failed``, ``blocked``, ``stopped`` and ``waiting`` (another process trains it)
    concern ``stage``; ``tick`` comes a few times a second, ``stopping`` once after Ctrl-C, ``end`` last.
    ``seconds``: how long the stage ran in this call. ``ended`` of ``total`` stages need nothing more from this call.
    ``running``: one ``(stage, step, steps)`` each, steps 0 where unknown. ``chain``: stages in the longest chain left.
    """

    kind: str
    stage: Stage | None = None
    seconds: float = 0.0
    reason: str = ""
    ended: int = 0
    total: int = 0
    running: tuple = ()
    chain: int = 0
    workers: int = 1


def label(stage: Stage) -> str:
    """A few words that tell a stage from its neighbours: ``imp 0.738 seed 1``, with its fold where it has one."""
    level = stage.digest[:6] if stage.sparsity is None else wording.level(stage.sparsity, 3)
    return f"{stage.method} {level} {folds.pair(stage.config.get('replicate', ''), stage.seed)}"


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 05 s``, ``2 h 07 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


class Progress:
    """Prints events; call it with each ``Event``. ``clock`` returns seconds, ``stream`` decides terminal or log."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, width: int | None = None
    ) -> None:
        self.stream = sys.stdout if stream is None else stream
        self.clock = clock
        self.terminal = self.stream.isatty()
        self.width = width
        self.began = clock()
        self.seconds: list[float] = []  # of every stage this call finished
        self.failures = 0
        self.stopping = False
        self.drawn = float("-inf")  # when the last line was written
        self.tenth = 0  # tenths of the sweep behind us at the last line of a log
        self.dirty = False  # a refreshed line stands on the terminal

    def __call__(self, event: Event) -> None:
        if event.kind == "done" and event.seconds:
            self.seconds.append(event.seconds)
        elif event.kind == "failed":
            self.failures += 1
            reason = (event.reason.strip().splitlines() or ["no reason was recorded"])[-1]
            self.line(f"failed: {label(event.stage) if event.stage else 'a stage'}: {reason}")
        elif event.kind == "stopping":
            self.stopping = True
            self.line("stopping: running stages finish their step and write a checkpoint (Ctrl-C again kills them)")
        if event.kind == "end":
            self.line(self.text(event))
        elif event.kind != "stopping" and self.due(event):
            self.draw(event)

    def due(self, event: Event) -> bool:
        since = self.clock() - self.drawn
        if self.terminal:
            return since >= REFRESH
        if self.drawn == float("-inf"):  # a log starts with the first news, not with an empty line
            return event.kind != "tick"
        return since >= INTERVAL or (event.kind == "done" and 10 * event.ended // max(event.total, 1) > self.tenth)

    def draw(self, event: Event) -> None:
        self.drawn = self.clock()
        self.tenth = 10 * event.ended // max(event.total, 1)
        text = self.text(event)
        if self.terminal:
            width = self.width or shutil.get_terminal_size().columns
            text = "\r\x1b[K" + (text if len(text) < width else text[: width - 2] + "…")
        self.dirty = self.terminal
        self.stream.write(text if self.terminal else text + "\n")
        self.stream.flush()

    def line(self, text: str) -> None:
        """A line that stays."""
        self.stream.write(("\r\x1b[K" if self.dirty else "") + text + "\n")
        self.stream.flush()
        self.dirty = False

    def text(self, event: Event) -> str:
        parts = [f"{event.ended}/{event.total} stages"]
        if self.failures:
            parts[0] += f", {self.failures} failed"
        if event.kind == "end":
            rest = "; stopped, the same command goes on from here" if self.stopping else ""
            return f"{parts[0]} in {duration(self.clock() - self.began)}{rest}"
        if (left := self.left(event)) is not None:
            parts.append(f"about {duration(left)} left")
        names = [label(stage) + (f" {step}/{steps}" if steps else "") for stage, step, steps in event.running]
        if names or not event.ended:
            parts.append(wording.some(names, 4) or "starting workers")
        return " | ".join(parts)

    def left(self, event: Event) -> float | None:
        """Estimated seconds to the end: the work left over all workers, but never less than the longest chain."""
        if not self.seconds:
            return None
        fractions = [step / steps for _, step, steps in event.running if steps]
        work = max(event.total - event.ended - sum(fractions), 0.0)
        chain = max(event.chain - min(fractions, default=0.0), 0.0)
        return sum(self.seconds) / len(self.seconds) * max(work / max(event.workers, 1), chain)
