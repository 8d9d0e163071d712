"""The processes of this machine as a tree, and how to end a part of it for certain."""

import contextlib
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One line of ``/proc`` that is not a zombie."""

    pid: int
    parent: int
    name: str
    words: list[str]


def processes() -> dict[int, Process]:
    found = {}
    for folder in Path("/proc").iterdir():
        # A process may be gone between two looks.
        with contextlib.suppress(ValueError, FileNotFoundError, ProcessLookupError):
            pid = int(folder.name)
            name, fields = re.fullmatch(r"\d+ \((.*)\) (.*)", (folder / "stat").read_text(), re.S).groups()
            state, parent = fields.split()[:2]
            if state not in "ZX":
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
                found[pid] = Process(pid, int(parent), name, words)
    return found


def below(roots: set[int], listing: dict[int, Process]) -> set[int]:
    """``roots`` and all that descends from them."""
    found, new = set(), roots & set(listing)
    while new:
        found |= new
        new = {pid for pid, process in listing.items() if process.parent in new} - found
    return found


def send(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end(roots: set[int], seconds: float = 20) -> None:
    """SIGKILL for ``roots`` and their descendants, held still first so that none escapes by forking; returns when all
    are gone, and raises TimeoutError if that takes longer than ``seconds``. The caller itself is spared.
    """
    held: set[int] = set()
    while new := below(roots, processes()) - held - {os.getpid()}:
        send(new, signal.SIGSTOP)
        held |= new
    send(held, signal.SIGKILL)
    limit = time.monotonic() + seconds
    while left := held & set(processes()):
        if time.monotonic() > limit:
            raise TimeoutError(f"processes survive SIGKILL: {left}")
        time.sleep(0.01)
