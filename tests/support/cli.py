"""For tests of the command line: verbs in processes of their own, and a copy of the checkout to change."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from launch.__main__ import main
from tests.support.forked import forked
from tests.support.places import ROOT

COMMAND = [sys.executable, "-m", "launch"]


def environment(**variables) -> dict[str, str]:
    return {**os.environ, **{name: str(value) for name, value in variables.items()}}


def launch(*words: str, root: Path = ROOT, **variables) -> subprocess.CompletedProcess:
    """Run one verb to its end; ``variables`` are set in its environment."""
    return subprocess.run([*COMMAND, *words], cwd=root, env=environment(**variables), capture_output=True, text=True)


def quick(*words: str, **variables) -> subprocess.CompletedProcess:
    """The same for this checkout and without its imports, which take most of the time of a short verb."""
    return forked(lambda: main(list(words)), environment(**variables), ROOT)


def copy(folder: Path) -> Path:
    """The code and nothing else, to be changed at will."""
    for part in ("common", "launch", "tasks"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def error(done: subprocess.CompletedProcess) -> str:
    """The message of a refused request: exit code 2, nothing on stdout, no traceback."""
    assert done.returncode == 2, done
    assert not done.stdout and done.stderr.startswith("error: ") and "Traceback" not in done.stderr, done
    return done.stderr
