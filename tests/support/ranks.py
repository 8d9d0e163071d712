"""For tests of stages that several processes train: each rank a process of its own, as a launcher starts them."""

import contextlib
import gc
import os
import signal
import time
import traceback
from pathlib import Path

from common import record
from common.stage import run
from common.training.processes import rendezvous

PATIENCE = 40.0  # seconds until whatever hangs is killed, and the test with it
REST = 20.0  # seconds for the others once one has left with an error: Slurm ends them as well


def together(folder: Path, stops: dict | None = None, token: str = "1_0-0", size: int = 2) -> list[str]:
    """The outcome of ``run.execute`` in each rank, "killed" or "left" (with another exit code than 0)."""
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            code = 1
            gc.freeze()  # what earlier tests left behind is theirs to collect
            try:
                team = rendezvous.join(folder, rank, size, token, patience=PATIENCE)
                outcome = run.execute(folder, (stops or {}).get(rank, lambda: None), {"job": token}, team)
                record.write_text(folder / f"outcome-{rank}", outcome)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    found, end, end_all = {}, time.monotonic() + PATIENCE, None
    while len(found) < size and time.monotonic() < end:
        for rank, child in enumerate(children):
            if rank not in found:
                process, status = os.waitpid(child, os.WNOHANG)
                found |= {rank: status} if process else {}
        time.sleep(0.005)
        if end_all is None and any(found.values()):
            end_all = end = time.monotonic() + REST
    for rank, child in enumerate(children):
        if rank not in found:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    names = {}
    for rank, status in found.items():
        names[rank] = "killed" if os.WIFSIGNALED(status) else "left" if status else read(folder, rank)
    return [names.get(rank, "hung") for rank in range(size)]


def read(folder: Path, rank: int) -> str:
    path = folder / f"outcome-{rank}"
    text = path.read_text()
    path.unlink()
    return text


def gone(process: int, patience: float = 5.0) -> bool:
    """Does a process end by itself within so many seconds?"""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
            if state != "Z":
                time.sleep(0.01)
                continue
        return True
    return False
