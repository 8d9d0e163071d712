"""Which stage comes next: each stage waits for its parent; pure bookkeeping, no processes, no files."""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from launch.described import Stage
from launch.runs.lineage import Lineage


@dataclass
class Result:
    """What became of the stages: lists of ``Stage``; ``left`` never got a worker, or waited for one that stopped."""

    done: list = field(default_factory=list)
    failed: list = field(default_factory=list)
    blocked: list = field(default_factory=list)
    stopped: list = field(default_factory=list)
    left: list = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)  # by digest, of those failed, blocked or stopped
    interrupted: bool = False  # by Ctrl-C, SIGTERM or SIGHUP
    error: str = ""  # why no worker could start

    @property
    def code(self) -> int:
        """The exit code this deserves."""
        if self.interrupted:
            return 130
        return 1 if self.error or self.failed or self.blocked or self.stopped or self.left else 0


class Order:
    """Stages to do. A parent that is not among them counts as done already."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        self.stages = {stage.digest: stage for stage in stages}
        self.position = {digest: number for number, digest in enumerate(self.stages)}
        self.lineage = Lineage(self.stages.values())
        self.height = self.lineage.heights()
        self.width = sum(not self.lineage.children(digest) for digest in self.stages)  # most that ever run at once
        self.outcome: dict[str, str] = {}
        self.reason: dict[str, str] = {}
        self.lost: Counter = Counter()  # times a stage's worker died under it
        self.ready: list[tuple] = []
        for digest, stage in self.stages.items():
            if stage.parent not in self.stages:
                self.push(digest)

    def push(self, digest: str) -> None:
        """Longest chain first, so that a chain of ten starts before ten leaves; then the order of the plan."""
        heapq.heappush(self.ready, (-self.height[digest], self.position[digest], digest))

    def pop(self) -> Stage:
        return self.stages[heapq.heappop(self.ready)[-1]]

    def end(self, digest: str, outcome: str, reason: str = "") -> list[str]:
        """Note how a stage ended; returns the descendants that are blocked by it."""
        self.outcome[digest], self.reason[digest] = outcome, reason
        if outcome == "done":
            for stage in self.lineage.children(digest):
                self.push(stage.digest)
        if outcome not in ("failed", "blocked"):
            return []
        blocked = [stage.digest for stage in self.lineage.descendants([digest])]
        for child in blocked:
            self.outcome[child], self.reason[child] = "blocked", f"its ancestor {digest} {outcome}"
        return blocked

    def over(self) -> bool:
        return len(self.outcome) == len(self.stages)

    def chain(self) -> int:
        """Stages in the longest chain still to do."""
        return max((self.height[digest] for digest in self.stages if digest not in self.outcome), default=0)

    def ended(self, outcome: str) -> list[Stage]:
        return [self.stages[digest] for digest, known in self.outcome.items() if known == outcome]

    def result(self) -> Result:
        done, failed, blocked, stopped = map(self.ended, ("done", "failed", "blocked", "stopped"))
        left = [stage for digest, stage in self.stages.items() if digest not in self.outcome]
        return Result(done, failed, blocked, stopped, left, {name: text for name, text in self.reason.items() if text})
