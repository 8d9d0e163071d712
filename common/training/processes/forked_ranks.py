"""The other processes of a stage that is trained on one machine without a scheduler: forked here, ended with us."""

import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

import torch

from common.training.processes import forked

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)  # the first process decides for all


class ForkedRanks:
    """Forks on creation: ``work(rank)`` runs in each of ranks 1 to ``size`` - 1. To be made before any GPU is used."""

    def __init__(self, size: int, work: Callable[[int], object]):
        self.running: dict[int, int] = {}  # rank to process id
        self.ends: list[str] = []
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        for rank in range(1, size):
            child = os.fork()
            if child == 0:
                _serve(rank, work, parent)
            self.running[rank] = child

    def lost(self) -> str:
        """What became of ranks that did not leave as they should, or ""."""
        for rank, child in list(self.running.items()):
            process, status = os.waitpid(child, os.WNOHANG)
            if not process:
                continue
            del self.running[rank]
            if status:
                self.ends.append(f"rank {rank} {'was ' * os.WIFSIGNALED(status)}{forked.how(status)}")
        return "; ".join(self.ends)

    def dismiss(self, patience: float) -> None:
        """Wait for those that are leaving, and end those that do not."""
        end = time.monotonic() + patience
        while self.running and time.monotonic() < end:
            self.lost()
            time.sleep(0.005)
        for child in self.running.values():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        self.running = {}


def _serve(rank: int, work: Callable[[int], object], parent: int) -> None:
    """In the child; does not return."""
    code = 1
    try:
        gc.freeze()  # what the parent left to be collected may wait for threads that did not survive the fork
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        forked.end_with_parent(signal.SIGKILL)
        if os.getppid() == parent:
            torch.set_num_threads(1)  # the parent's pool of threads did not survive the fork
            work(rank)
            code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
