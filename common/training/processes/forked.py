"""Child processes: how one ended, in words, and how it ends with its parent. Without torch, for launchers too."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def how(status: int) -> str:
    """In words, what ``os.waitpid`` says of a child that did not say it itself."""
    if not os.WIFSIGNALED(status):
        return f"left with exit code {os.WEXITSTATUS(status)} in the middle of the stage"
    number = os.WTERMSIG(status)
    hint = " (out of memory?)" if number == signal.SIGKILL else ""
    return f"killed by signal {number}, {signal.Signals(number).name}{hint}"


def end_with_parent(number: int) -> None:
    """Have the kernel send this process signal ``number`` when its parent is gone (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
