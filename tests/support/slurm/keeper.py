"""The parents of what ``tests.support.slurm.cluster`` starts; run by path, as processes of their own.

slurm_keeper.py keep ROOT OWNER             parent of a cluster's daemons, for as long as the process OWNER lives
slurm_keeper.py node ROOT NAME slurmd ...   one machine: parent of a slurmd and of all that its jobs start
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of <sys/prctl.h>


def become_reaper() -> None:
    """From now on orphans among this process's descendants become its children."""
    if ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def keep(root: Path, owner: int) -> None:
    """The keeper: starts what it is told on its standard input, reaps, and stops the cluster once ``owner`` is gone."""
    from tests.support.slurm.cluster import Cluster  # now: at the end the checkout may be gone

    become_reaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    watched, text, ends = [0], b"", {}
    try:
        while not owner or os.getppid() == owner:
            if select.select(watched, [], [], 0.2)[0]:
                new = os.read(0, 1 << 16)
                watched = watched if new else []
                *lines, text = (text + new).split(b"\n")
                for request in map(json.loads, lines):
                    with (root / "log" / f"{request['name']}.out").open("ab") as log:
                        daemon = subprocess.Popen(
                            request["words"], env=request["environment"], cwd=root, stdin=subprocess.DEVNULL,
                            stdout=log, stderr=log, start_new_session=True,
                        )  # fmt: skip
                    ends[daemon.pid] = Path(request["ended"])
            with contextlib.suppress(ChildProcessError):
                while (end := os.waitpid(-1, os.WNOHANG))[0]:
                    if path := ends.pop(end[0], None):
                        path.write_text(f"status {end[1]}")
    finally:
        Cluster.open(root).stop()


def node(slurmd: list[str]) -> None:
    """One machine: whatever its jobs leave behind stays below it, is reaped, and found when the machine is lost."""
    become_reaper()
    subprocess.Popen(slurmd)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    if sys.argv[1] == "keep":
        keep(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        node(sys.argv[4:])
