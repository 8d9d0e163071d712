"""Locks that die with their process: asking whether one is held, and holding one."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common.errors import UserError

PATIENCE = 300  # seconds to wait for another process that does the same work


class Busy(UserError):
    """Another process holds the lock, and goes on holding it."""


def held(path: Path) -> bool | None:
    """Whether some process holds the lock; None where the file system cannot say.

    Asks for a shared lock, so that two readers never disturb each other, and gives it back at once.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError as problem:
        return True if problem.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES) else None
    finally:
        os.close(descriptor)  # also releases the lock


@contextlib.contextmanager
def exclusive(
    path: Path, work: str, report: Callable[[str], object] = print, patience: float = PATIENCE
) -> Iterator[int]:
    """Hold the lock ``path`` while doing ``work`` (a word for messages); a second process waits, and says so.

    Gives the descriptor that holds it: a child process that inherits it holds the lock as well.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as problem:
        raise UserError(
            f"cannot write in {path.parent} ({problem.strerror}); RUNS=<folder> chooses another folder"
        ) from problem
    end, waiting = time.monotonic() + patience, False
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise Busy(
                        f"another {work} of {path.parent} did not end within {patience:.0f} s; end it and repeat"
                    ) from None
                if not waiting:
                    report(f"another {work} is running; waiting for it")
                waiting = True
                time.sleep(0.1)
            except OSError as problem:
                report(f"{path.parent} cannot be locked ({problem.strerror}): do not run two of {work} at once")
                break
        yield descriptor
    finally:
        os.close(descriptor)  # also releases the lock
