"""The time limit of an array element: its stage has saved and ended, and the element goes back to the queue.

The notice before it (SIGUSR2) reaches ``on_the_node.py``; how long before is ``signal_seconds`` of the cluster.
"""

import subprocess
import time
from pathlib import Path
from typing import NoReturn

from common import record

STALLED = 3  # attempts in a row without a finished step, after which another would be no use
KILLED = 900  # seconds that Slurm may take to end an element it requeued


def requeue(element: str, folder: Path, begun: int, first: bool, busy: bool) -> NoReturn:
    """Send this ``element`` back to the queue and wait to be ended by Slurm; exits where that cannot be done.

    ``begun``: the step at which the last attempt at the stage in ``folder`` began; ``first``: is this rank 0, which
    speaks for all? ``busy``: another process trains the stage, and writes its status.
    """
    if first:
        if not busy:
            _say_queued(folder, begun)
        if problem := _ask_slurm(element):
            reason = f"Slurm did not requeue it at the time limit: {problem}"
            if not busy:
                record.update_status(folder, state="stopped", reason=reason)
            raise SystemExit(f"error: {reason}; 'make sweep' resumes it from its checkpoint")
        print(f"{element} goes back to the queue", flush=True)
    time.sleep(KILLED)
    raise SystemExit("error: Slurm requeued this element and did not end it")


def _say_queued(folder: Path, begun: int) -> None:
    status = record.read_status(folder)
    stalled = 0 if (status.get("step") or 0) > begun else status.get("stalled", 0) + 1
    if stalled >= STALLED:
        reason = f"{stalled} times in a row the time limit came before a step was finished: raise cluster.time"
        record.update_status(folder, state="failed", reason=reason)
        raise SystemExit(f"error: {reason}")
    record.update_status(folder, state="queued", reason="back in the queue at the time limit", stalled=stalled)


def _ask_slurm(element: str) -> str:
    """Ask Slurm to queue this running element again; what it said where it does not, also not a little later."""
    problem = ""
    for pause in (0, 2, 10):
        time.sleep(pause)
        try:
            command = ["scontrol", "requeue", element]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = str(error)
            continue
        if not done.returncode:
            return ""
        problem = done.stderr.strip()
    return problem
