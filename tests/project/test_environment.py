"""Setting up .venv (nothing is installed: a stand-in plays pip), the pinned lists, and the files about the project."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from requirements import environment
from tests.support.places import ROOT

HERE = sys.version_info[:2]


@pytest.fixture
def venv(tmp_path, monkeypatch):
    """A folder to set up, and what pip was asked for; pip and venv (seconds each) are replaced by stand-ins."""
    calls = []

    def create(folder, python):
        for path in Path(folder).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink() if path.name != "lock" else None
        (Path(folder) / "bin").mkdir()
        (Path(folder) / "bin" / "python").symlink_to(python)

    monkeypatch.setattr(environment, "pip", lambda folder, title, arguments: calls.append(arguments))
    monkeypatch.setattr(environment, "create", create)
    return tmp_path / "a folder" / ".venv", calls


def executable(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def fake_python(path, version, complete=True):
    """A program that answers ``probe`` as a Python of that version would."""
    lines = [version.replace(".", " "), str(path)] + ["complete"] * complete
    return executable(path, "#!/bin/sh\nprintf '%s\\n' " + " ".join(f"'{line}'" for line in lines) + "\n")


def test_first_set_up_installs_torch_alone_and_first_and_a_second_nothing(venv):
    folder, calls = venv
    assert environment.prepare(str(folder)) is True
    assert [argument for argument in calls[0] if argument.startswith("torch")] == ["torch==2.13.0"]
    assert "--requirement" not in calls[0] and "--requirement" in calls[1] and len(calls) == 2
    assert (folder / "bin" / "python").exists()
    assert environment.prepare(str(folder)) is False
    assert len(calls) == 2


def test_interrupted_set_up_starts_over(venv, monkeypatch):
    folder, _ = venv

    def broken(folder, title, arguments):
        (Path(folder) / "half-installed").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environment, "pip", broken)
        with pytest.raises(KeyboardInterrupt):
            environment.prepare(str(folder))
    assert not (folder / "ready").exists()
    assert environment.state(str(folder)) == "missing"
    assert environment.prepare(str(folder)) is True
    assert not (folder / "half-installed").exists()
    assert environment.state(str(folder)) == "ready"


def test_changed_list_is_installed_on_top_and_is_not_ready_meanwhile(venv, monkeypatch):
    folder, calls = venv
    environment.prepare(str(folder))
    (folder / "kept").touch()
    ready = folder / "ready"
    ready.write_text("\n".join([*ready.read_text().splitlines()[:2], "another digest"]) + "\n")
    assert environment.state(str(folder)) == "outdated"
    monkeypatch.setattr(environment, "pip", lambda *_: calls.append(ready.exists()))
    environment.prepare(str(folder))
    assert calls[2:] == [False, False]
    assert environment.state(str(folder)) == "ready" and (folder / "kept").exists()


def test_moved_or_copied_folder_is_made_anew_but_a_second_name_is_not(venv, tmp_path):
    folder, _ = venv
    environment.prepare(str(folder))
    link = tmp_path / "link"
    link.symlink_to(folder.parent)
    assert environment.state(str(link / ".venv")) == "ready"
    subprocess.run(["cp", "-a", folder.parent, tmp_path / "copy"], check=True)
    assert environment.state(str(tmp_path / "copy" / ".venv")) == "missing"
    folder.parent.rename(tmp_path / "moved")
    assert environment.state(str(tmp_path / "moved" / ".venv")) == "missing"


def test_another_python_or_a_vanished_one_makes_it_anew(venv):
    folder, _ = venv
    environment.prepare(str(folder))
    other = next(version for version in environment.SUPPORTED if version != HERE)
    assert environment.state(str(folder), HERE) == "ready"
    assert environment.state(str(folder), other) == "missing"
    (folder / "bin" / "python").unlink()
    assert environment.state(str(folder)) == "missing"


@pytest.mark.parametrize("text", ["", "one line", "a\nb\nc\n", "/nowhere\npython 3.11\nabc\n", "\x00\x00\x00"])
def test_damaged_stamp_counts_as_none(venv, text):
    folder, _ = venv
    environment.prepare(str(folder))
    (folder / "ready").write_text(text)
    assert environment.state(str(folder)) == "missing"


def test_two_set_ups_at_once_install_once(venv, capsys):
    folder, calls = venv
    folder.mkdir(parents=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = []
        both = [threading.Thread(target=lambda: results.append(environment.prepare(str(folder)))) for _ in range(2)]
        for thread in both:
            thread.start()
        both[0].join(timeout=0.5)
        assert both[0].is_alive() and not calls
    for thread in both:
        thread.join(timeout=60)
    assert sorted(results) == [False, True] and len(calls) == 2
    assert "waiting" in capsys.readouterr().out


def test_unsupported_python_is_refused_with_what_was_found(tmp_path, monkeypatch):
    old = fake_python(tmp_path / "python3", "3.9")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(environment.SetupError, match=r"3\.10, 3\.11 or 3\.12 is needed; found: .*python3 is 3\.9"):
        environment.choose(old)


def test_a_supported_python_on_the_path_is_found_past_stand_ins_that_fail(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    executable(tmp_path / "python3.12", "#!/bin/sh\necho 'version not installed' >&2\nexit 127\n")
    good = fake_python(tmp_path / "python3.11", "3.11")
    assert environment.choose(fake_python(tmp_path / "python3", "3.13")) == ((3, 11), good)


def test_python_without_venv_module_names_the_package_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(environment.SetupError, match=r"ensurepip.*\n.*apt install python3\.11-venv"):
        environment.choose(fake_python(tmp_path / "python3", "3.11", complete=False))


def test_new_environment_replaces_whatever_was_there_but_the_lock(tmp_path):
    for name in ("lock", "rest"):
        (tmp_path / name).touch()
    (tmp_path / "lib").symlink_to("/nowhere")
    environment.create(str(tmp_path), sys.executable)
    assert (tmp_path / "lock").exists() and not (tmp_path / "rest").exists() and not (tmp_path / "lib").is_symlink()
    code = "import pip, sys; assert sys.prefix != sys.base_prefix"
    subprocess.run([tmp_path / "bin" / "python", "-c", code], check=True)


def test_failing_pip_ends_with_its_last_lines_and_exit_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(environment, "ROOT", str(tmp_path))
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "python{}.{}.txt".format(*HERE)).write_text("torch==0.0.0.impossible\n")
    assert environment.main(["--this-python"]) == 2
    shown = capsys.readouterr()
    assert "error:" in shown.err and "impossible" in shown.err and "setup.log" in shown.err
    assert "impossible" in (tmp_path / ".venv" / "setup.log").read_text()
    assert not (tmp_path / ".venv" / "ready").exists()


def test_script_needs_no_package_and_no_present_day_syntax():
    source = (ROOT / "requirements" / "environment.py").read_text(encoding="utf-8")
    assert compile(source, "environment.py", "exec", dont_inherit=True)
    assert not re.search(r":=|^from __future__|\bmatch \w+:|capture_output|removeprefix", source, re.M)
    code = "import ast, sys; ast.parse(sys.stdin.read(), feature_version=(3, 7))"
    subprocess.run([sys.executable, "-c", code], input=source, text=True, check=True)


@pytest.mark.parametrize("version", environment.SUPPORTED)
def test_every_list_pins_all_and_names_nothing_of_one_platform(version):
    lines = Path(environment.requirements(version)).read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*", line) for line in pins)
    assert pins[0] == "torch==2.13.0" and pins[1:] == sorted(pins[1:], key=lambda line: line.split("==")[0])
    names = {line.split("==")[0] for line in pins}
    assert not [name for name in names if name.startswith(("nvidia", "cuda", "triton"))]
    direct = [line for line in (ROOT / "requirements" / "direct.txt").read_text().splitlines() if line[:1].isalpha()]
    assert {re.split("[=<>]", line)[0] for line in direct} <= names


def test_citation_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "MIT"
    assert all(citation[key] for key in ("message", "title", "authors", "version"))
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{citation["version"]}"' in project


def test_continuous_integration_script_is_executable():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_code_host_runs_the_script_on_every_python_there_is_a_list_for():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["ci"]
    assert job["strategy"]["matrix"]["python"] == ["{}.{}".format(*version) for version in environment.SUPPORTED]
    assert job["steps"][-1]["run"] == ".ci/run" and 0 < job["timeout-minutes"] <= 60
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads `on` as true


def test_hooks_before_a_commit_run_pinned_tools_without_a_network():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [source["repo"] for source in hooks] == ["local"]
    direct = (ROOT / "requirements" / "direct.txt").read_text(encoding="utf-8").split()
    for hook in hooks[0]["hooks"]:
        python, _, tool = hook["entry"].split()[:3]
        assert hook["language"] == "system" and python == ".venv/bin/python" and tool in direct, hook
