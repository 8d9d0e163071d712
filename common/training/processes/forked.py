"""Child processes: how one ended, in words, and how to make one end with its parent. No torch, for launchers too."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def how(status: int) -> str:
    """How a child ended that could not say so itself, in words; ``status``: what ``os.waitpid`` returned."""
    if not os.WIFSIGNALED(status):
        return f"left with exit code {os.WEXITSTATUS(status)} in the middle of the stage"
    number = os.WTERMSIG(status)
    hint = " (out of memory?)" if number == signal.SIGKILL else ""
    return f"killed by signal {number}, {signal.Signals(number).name}{hint}"


def end_with_parent(number: int) -> None:
    """Have the kernel send this process signal ``number`` when its parent is gone (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
