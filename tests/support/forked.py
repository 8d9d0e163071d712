"""Work in a process of its own that need not import anything first, as it is a fork of this one."""

import gc
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

PATIENCE = 300  # seconds until a process that hangs is ended


def forked(work: Callable[[], int | None], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess:
    """Run ``work`` in ``folder``; its exit code (None: 0), and what it wrote. To be called from the main thread."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                gc.freeze()  # what earlier tests left behind is theirs to collect
                signal.alarm(PATIENCE)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                os.environ.clear()
                os.environ.update(environment)
                os.chdir(folder)
                with open(os.devnull) as nothing:
                    os.dup2(nothing.fileno(), 0)
                os.dup2(out.fileno(), 1)
                os.dup2(errors.fileno(), 2)
                sys.stdin = open(0, closefd=False)  # noqa: SIM115
                sys.stdout, sys.stderr = (open(n, "w", 1, closefd=False, errors="replace") for n in (1, 2))  # noqa: SIM115
                code = work() or 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
                print(end.code, file=sys.stderr)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return subprocess.CompletedProcess([], code, *texts)
