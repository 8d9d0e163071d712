"""A job in Slurm's words, and how it ended in ours. What asks Slurm is ``launch/slurm/queue.py``."""

import signal
from dataclasses import dataclass

GONE, UNKNOWN = "GONE", "UNKNOWN"  # the queue answered without the job; nobody answered
NEVER = "DependencyNeverSatisfied"
WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
ACTIVE = {
    *("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING", "POWER_UP_NODE"),
    *("EXPEDITING", "UPDATE_DB"),
}
BAD = {"FAILED", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "LAUNCH_FAILED", "RECONFIG_FAIL"}
ENDED = BAD | {"COMPLETED", "CANCELLED", "TIMEOUT", "PREEMPTED", "REVOKED", GONE}

OUT_OF_MEMORY = 125  # the "signal" by which Slurm marks a step that the kernel's out-of-memory killer met
ENDINGS = {
    "OUT_OF_MEMORY": "its job ran out of memory",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
    "DEADLINE": "its job's deadline passed",
    "LAUNCH_FAILED": "its job could not be started",
    "TIMEOUT": "its job reached the time limit",
    "PREEMPTED": "its job was preempted and not queued again",
    "CANCELLED": "its job was cancelled",
    "COMPLETED": "its job ended before the stage did",
    "REVOKED": "its job was moved to another cluster",
    GONE: "Slurm no longer knows its job",
}


@dataclass(frozen=True)
class Job:
    """Slurm's answer about one job. ``seconds``: used so far; ``limit``: its time limit in seconds (None: none)."""

    state: str  # Slurm's word, or GONE or UNKNOWN
    reason: str = ""
    node: str = ""
    exit_code: str = ""  # "<exit code>:<signal>", as in 1:0 or 0:9
    seconds: float | None = None
    limit: float | None = None
    restarts: int | None = None
    ended: float | None = None  # unix seconds
    source: str = ""  # "squeue", "sacct" or ""

    @property
    def alive(self) -> bool | None:
        """Will it run (again), or does it run? None where that is not known."""
        if self.state == "PENDING" and self.reason == NEVER:
            return False  # Slurm never looks at such a job again, even when its parent is repaired
        if self.state in ENDED:
            return False
        return True if self.state in WAITING | ACTIVE else None


def ending(job: Job) -> str:
    """In words, how a job ended."""
    return ENDINGS.get(job.state) or f"its job ended as {job.state}{exit_words(job.exit_code)}"


def exit_words(code: str) -> str:
    """``3:0`` -> `` with exit code 3``, ``0:9`` -> `` by signal 9 (SIGKILL)``; empty where it says nothing."""
    number, _, name = code.partition(":")
    if name.isdecimal() and int(name):
        known = {s.value: s.name for s in signal.Signals} | {OUT_OF_MEMORY: "out of memory"}
        # others are no signals: 53 stands for files that could not be opened
        return f" by signal {name} ({known[int(name)]})" if int(name) in known else f" with Slurm's own code {code}"
    return f" with exit code {number}" if number.isdecimal() and int(number) else ""
