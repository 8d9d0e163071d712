"""Stand-ins for squeue, sacct and scancel that print as Slurm 22.05 does, and sweeps that were submitted."""

import json
import os
import shlex
import time
from pathlib import Path

from common import paths
from launch.runs import ledger
from launch.runs.jobs import ENDED, Job
from launch.slurm.queue import COLUMNS
from tests.support.stages import stage

OFF = "Slurm accounting storage is disabled"


class Slurm:
    """Programs in ``folder``, put first on PATH; every call is noted in ``calls``."""

    def __init__(self, folder: Path, monkeypatch):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        self.squeue()
        self.sacct(error=OFF, code=1)
        self.program("scancel")

    def program(self, name: str, out: str = "", error: str = "", code: int = 0, before: str = "") -> None:
        """``before``: shell commands that run first."""
        for kind, text in (("out", out), ("error", error)):
            (self.folder / f"{name}.{kind}").write_text(text)
        here = shlex.quote(str(self.folder))
        script = f'#!/bin/sh\nhere={here}\necho {name} "$@" >>$here/calls\n{before}\ncat $here/{name}.out\n'
        aside = self.folder / f".{name}"  # a shell must not read a program that is being written
        aside.write_text(f"{script}cat $here/{name}.error >&2\nexit {code}\n")
        aside.chmod(0o755)
        aside.rename(self.folder / name)

    def squeue(self, *rows: str, **options) -> None:
        self.program("squeue", "".join(f"{row}\n" for row in rows), **options)

    def sacct(self, *rows: str, **options) -> None:
        self.program("sacct", "".join(f"{row}\n" for row in rows), **options)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


def row(
    job: str,
    state: str,
    reason: str = "None",
    node: str = "",
    code: int = 0,
    derived: int = 0,
    restarts: int = 0,
    used: str = "0:00",
    limit: str = "10:00",
    end: str = "N/A",
    name: str = "array-one",
) -> str:
    """A line of squeue. ``code`` and ``derived`` as wait() gives them: 768 is exit code 3, 15 is SIGTERM."""
    values = (job, state, reason, node, code, derived, restarts, used, limit, end, name)
    return "".join(str(value).ljust(width)[:width] for value, width in zip(values, COLUMNS.values()))


def submitted(
    runs: Path, *elements: list[str], job: str | None = "12", array: str = "array-one", ago: float = 3600.0, **more
) -> Path:
    """A sweep whose array ``job`` holds ``elements`` (lists of ``task/digest``); returns the sweep's folder."""
    sweep = runs / ".sweeps" / f"sweep-{array}"
    folder = sweep / array
    folder.mkdir(parents=True, exist_ok=True)
    code = runs / ".code" / "abc"
    code.mkdir(parents=True, exist_ok=True)
    content = {"cluster": "here", "code": str(code), "folder": str(folder), "elements": list(elements), **more}
    ledger.write(sweep, "intent", array=array, **content)
    if job:
        ledger.write(sweep, "submitted", array=array, job=job)
    path = ledger.path(sweep)
    now = time.time()
    path.write_text(_dated(path.read_text(), now - ago))
    return sweep


def _dated(text: str, moment: float) -> str:
    return "".join(json.dumps(json.loads(line) | {"time": moment}) + "\n" for line in text.splitlines())


def make(runs: Path, digest: str, state: str = "new", ago: float = 60.0, **options) -> Path:
    """A stage folder whose status was written ``ago`` seconds ago; ``new``: it has none."""
    folder = stage(runs, digest, state="queued" if state == "new" else state, **options)
    path = paths.status(folder)
    if state == "new":
        path.unlink()
    else:
        now = time.time()
        path.write_text(json.dumps(json.loads(path.read_text()) | {"updated": now - ago, "started": now - ago - 60}))
    long_ago = time.time() - 7200  # planned before it was submitted
    os.utime(paths.config(folder), (long_ago, long_ago))
    return folder


def snapshot(runs: Path) -> dict:
    """Everything below a folder: times, contents, names."""
    return {p: (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else sorted(p.iterdir())) for p in runs.rglob("*")}


def job(state: str, reason: str = "", **facts) -> Job:
    """An answer of squeue's, as ``ask`` gives it."""
    facts = {"ended": time.time() - 1 if state in ENDED else None, "source": "squeue"} | facts
    return Job(state, reason, "n1", **facts)
