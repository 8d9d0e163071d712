"""What `make` hands on, seen by a stand-in for the environment's Python in a folder of its own."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from launch.cli import develop
from tests.support.places import ROOT

VERBS = ("plan", "sweep", "status", "report", "ui", "prepare", "sync", "test", "lint", "docs", "help")
STAND_IN = f"""#!{sys.executable}
import json, os, sys
seen = {{name: os.environ.get(name) for name in ("RUNS", "PYTHONPATH", "ARGS") if name in os.environ}}
print(json.dumps({{"arguments": sys.argv[1:], **seen}}))
sys.exit(int(os.environ.get("STAND_IN_EXIT", "0")))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout with the Makefile and an environment that is ready, whose Python prints what it was called with."""
    folder = tmp_path / "check out"
    (folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    shutil.copy(ROOT / "Makefile", folder)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    (folder / ".venv" / "ready").write_text(f"{folder.resolve() / '.venv'}\n")
    monkeypatch.delenv("RUNS")
    monkeypatch.delenv("WORKERS", raising=False)
    return folder


def make(folder, *words):
    return subprocess.run(["make", "-C", folder, "--no-print-directory", *words], capture_output=True, text=True)


def called(folder, *words):
    done = make(folder, *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_without_values(project, verb):
    assert called(project, verb)["arguments"] == ["-m", "launch", verb]


def test_values_arrive_as_they_are(project):
    words = {
        "TASK": "classic",
        "METHOD": "imp,omp_after",
        "PRESET": "laptop",
        "DATA": '/a folder/it\'s "here"; touch made-by-shell; `touch made-by-shell` *',
        "CLUSTER": "slurm",
        "FORMAT": "json",
        "PORT": "5001",
        "WORKERS": "3",
    }
    given = called(project, "sweep", *(f"{name}={value}" for name, value in words.items()))["arguments"][3:]
    assert sorted(given) == sorted(f"{name.lower()}={value}" for name, value in words.items())
    assert not (project / "made-by-shell").exists()


@pytest.mark.parametrize("name", ["METHOD", "DATA", "SET"])
def test_make_expands_nothing_in_a_value(project, name):
    value = "$(shell touch made-by-make)$$x$(HOME)#1"
    given = called(project, "plan", f"{name}={value}")["arguments"][3:]
    assert given == (value.split(" ") if name == "SET" else [f"{name.lower()}={value}"])
    assert not (project / "made-by-make").exists()
    assert make(project, "help", "PYTHON=$(shell touch made-by-make)").returncode in (0, 2)
    assert not (project / "made-by-make").exists()


def test_settings_are_split_at_spaces_only(project):
    (project / "a.b=c").touch()  # what a star would become
    given = called(project, "plan", "SET=a.b=* d.e=f,g h=[1,2] i=;ls j={k:0.1} l='m'")["arguments"][3:]
    assert given == ["a.b=*", "d.e=f,g", "h=[1,2]", "i=;ls", "j={k:0.1}", "l='m'"]


def test_runs_moves_through_the_environment_and_foreign_packages_stay_out(project, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    seen = called(project, "status", "RUNS=/some folder/runs")
    assert seen == {"arguments": ["-m", "launch", "status"], "RUNS": "/some folder/runs"}


def test_words_for_pytest_arrive_as_they_are(project):
    seen = called(project, "test", "ARGS=-k 'a or b' --maxfail=1")
    assert seen == {"arguments": ["-m", "launch", "test"], "ARGS": "-k 'a or b' --maxfail=1"}


@pytest.mark.parametrize("code", ["1", "2"])
def test_a_failing_verb_fails_make(project, monkeypatch, code):
    monkeypatch.setenv("STAND_IN_EXIT", code)
    assert make(project, "sweep").returncode != 0


@pytest.mark.parametrize("word", ["task=classic", "METHODS=imp", "method.sparsity=0.5"])
def test_unknown_variable_is_refused_before_anything_runs(project, word):
    done = make(project, "sweep", "TASK=classic", word)
    assert done.returncode == 2 and not done.stdout
    assert f"unknown variable: {word.split('=')[0]}." in done.stderr and "METHOD" in done.stderr


@pytest.mark.parametrize("word", ["RUN=", "METHOD=", "TASK=", "RUNS=", "CLUSTER=", "YES="])
def test_a_variable_given_and_empty_is_refused(project, word):
    """An unset shell variable: `make clean RUN=$STAGE WEIGHTS=1 YES=1` would choose every stage there is."""
    done = make(project, "clean", word, "WEIGHTS=1")
    assert done.returncode == 2 and not done.stdout and f"no value: {word[:-1]}." in done.stderr
    assert make(project, "plan", "SET=").returncode == 0


def test_help_is_the_default_and_names_every_verb_and_needs_no_environment(project):
    shutil.rmtree(project / ".venv")
    done = make(project)
    assert done.returncode == 0 and not (project / ".venv").exists()
    assert all(f"make {verb} " in done.stdout for verb in VERBS)


def test_both_helps_name_the_same_verbs_and_variables(project):
    full = subprocess.run([sys.executable, "-m", "launch", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    shutil.rmtree(project / ".venv")
    short = make(project, "help").stdout
    assert len(short.splitlines()) < 25
    assert set(re.findall(r"^make ([a-z]+) ", short, re.MULTILINE)) == set(
        re.findall(r"^  ([a-z]+) ", full, re.MULTILINE)
    )
    known = re.search(r"^known := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    for name in known:
        assert re.search(rf"\b{name}\b", short) and re.search(rf"\b{name}\b", full), name
    for listed in (short, full):
        assert set(re.findall(r"\b([A-Z]{3,})(?==|  )", listed)) <= set(known)


@pytest.mark.parametrize("change", ["moved", "newer list", "no python", "PYTHON="])
def test_environment_is_asked_again_only_when_there_is_reason(project, change):
    assert "environment.py" not in make(project, "-n", "plan").stdout
    words = ["-n", "plan"]
    if change == "moved":
        project = project.rename(project.parent / "elsewhere")
    elif change == "newer list":
        (project / ".venv" / "ready").touch()
        stamp = (project / ".venv" / "ready").stat().st_mtime
        for path in (project / "requirements").iterdir():
            os.utime(path, (stamp + 5, stamp + 5))
    elif change == "no python":
        (project / ".venv" / "bin" / "python").unlink()
    else:
        words.append("PYTHON=python3")
    assert "environment.py" in make(project, *words).stdout


def test_missing_python_is_said(project):
    shutil.rmtree(project / ".venv")
    done = make(project, "plan", "PYTHON=no-such-python")
    assert done.returncode == 2 and "no-such-python not found" in done.stderr


def test_the_list_in_the_makefile_is_what_make_docs_writes():
    text = (ROOT / "Makefile").read_text()
    assert develop.listed(text) == text, "make docs writes it anew"
    assert "sweep" in text and develop.listed(text.replace("sweep", "sweeep")) != text.replace("sweep", "sweeep")
