"""Who may import what, read from the source: layers stay layers, heavy libraries stay where they are used."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from common import registry
from tests.support.places import ROOT

FILES = sorted(path.relative_to(ROOT) for top in ("common", "launch", "tasks") for path in (ROOT / top).rglob("*.py"))
WHERE = {  # libraries that only these files may import, at any depth of their code
    "mlflow": {"launch/mlflow_view/sync.py", "launch/mlflow_view/mlflow_runs.py"},
    "submitit": {"launch/local/sweep.py", "launch/slurm/sbatch.py", "launch/slurm/on_the_node.py"},
    "matplotlib": {"launch/report/figure.py"},
    "transformers": {"common/data/hub.py"},
}
DECLARING = ("common.settings.schema.", "common.settings.task")  # what a task's config.py may use beside the library
LIGHT = ("data.files", "data.published", "data.hub")  # of common, for what a login node runs of a task


def imports(path: Path, everywhere: bool = True) -> set[str]:
    """Dotted names that a file imports; with ``everywhere=False`` only those at its top level."""
    tree = ast.parse((ROOT / path).read_text())
    found = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def tops(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def check(path: Path) -> set[str]:
    """What a file imports and must not."""
    names, part = imports(path), path.parts
    used = tops(names) - set(sys.stdlib_module_names)
    wrong = {library for library in used & set(WHERE) if path.as_posix() not in WHERE[library]}
    if part[:2] == ("common", "sparsity"):
        return wrong | {
            n for n in names if n.split(".")[0] in used - {"torch", "numpy"} and not n.startswith("common.sparsity")
        }
    if part[0] == "common":
        return wrong | used & {"tasks", "launch", "mlflow", "submitit", "transformers", "fairseq"}
    if part[0] == "launch":
        return wrong | used & {"tasks", "fairseq"}
    wrong |= used & {"launch", "mlflow", "submitit"}
    return wrong | {n for n in names if n.startswith("tasks.") and not f"{n}.".startswith(f"tasks.{part[1]}.")}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_only_what_its_layer_allows(path):
    assert not check(path)


@pytest.mark.parametrize("task", registry.tasks())
def test_a_tasks_configuration_and_data_check_need_no_heavy_library(task):
    names = imports(Path("tasks", task, "config.py"))
    assert not {n for n in names if n.split(".")[0] not in sys.stdlib_module_names and not n.startswith(DECLARING)}
    allowed = {*sys.stdlib_module_names, "numpy"}
    names = imports(Path("tasks", task, "prepare.py"), everywhere=False)
    light = (*(f"common.{name}." for name in ("errors", *LIGHT)), f"tasks.{task}.")
    assert not {n for n in names if n.split(".")[0] not in allowed and not f"{n}.".startswith(light)}


@pytest.mark.parametrize("name", LIGHT)
def test_what_data_checks_share_is_of_the_standard_library(name):
    names = imports(Path("common", f"{name.replace('.', '/')}.py"), everywhere=False)
    light = tuple(f"common.{other}." for other in ("errors", *LIGHT))
    assert not {n for n in names if n.split(".")[0] not in sys.stdlib_module_names and not n.startswith(light)}


@pytest.mark.parametrize("name", ["schema", "task"])
def test_what_declares_settings_is_of_the_standard_library(name):
    names = imports(Path("common", "settings", f"{name}.py"), everywhere=False)
    light = ("common.errors.", *DECLARING)
    assert not {n for n in names if n.split(".")[0] not in sys.stdlib_module_names and not n.startswith(light)}


@pytest.mark.parametrize("task", registry.tasks())
def test_planning_a_task_loads_no_torch(task):
    code = f"import sys, tasks.{task}.config, tasks.{task}.prepare; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "huggingface_hub", "sklearn", "mlflow"} & set(done.stdout.split())


def test_the_rules_catch_what_they_forbid(tmp_path, monkeypatch):
    """A table that forbids nothing would pass as well."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    for name, line in (
        ("common/sparsity/x.py", "import scipy"),
        ("common/sparsity/x.py", "from common.settings import groups"),
        ("common/training/x.py", "from tasks.classic import data"),
        ("common/stage/run.py", "def f():\n    import mlflow"),
        ("launch/plan/planner.py", "from tasks import classic"),
        ("launch/plan/planner.py", "import submitit"),
        ("launch/monitor/status.py", "import mlflow.tracking"),
        ("launch/plan/planner.py", "import transformers"),
        ("common/data/files.py", "from transformers import AutoModel"),
        ("tasks/classic/x.py", "def f():\n    import transformers"),
        ("tasks/classic/x.py", "from launch.plan import planner"),
        ("tasks/classic/x.py", "from tasks.other import data"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line)
        assert check(Path(name)), line


def test_our_packages_are_ours():
    for name in ("common", "launch", "tasks"):
        assert Path(importlib.import_module(name).__file__).parent == ROOT / name


def test_the_loop_names_no_task_and_no_method():
    text = (ROOT / "common" / "training" / "trainer.py").read_text()
    code = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
    assert not code & {*registry.tasks(), *registry.methods()}
    assert not imports(Path("common/training/trainer.py")) & {f"common.methods.{name}" for name in registry.methods()}


def edges(top: str, package: bool) -> dict[str, set[str]]:
    """Which files (or packages) of one of ours import which others, at any depth of their code."""
    files = {".".join(path.with_suffix("").parts): path for path in FILES if path.parts[0] == top}
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        names = imports(path)  # for annotations too
        used = {file for file in files if file in names or any(other.startswith(f"{file}.") for other in names)}
        used -= {file for file in used if file.endswith(".__init__")}
        home = ".".join(name.split(".")[:2]) if package else name
        used = {".".join(other.split(".")[:2]) for other in used} if package else used
        found.setdefault(home, set()).update(used - {home})
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """What is left of a graph when all that leads into no circle is taken away."""
    graph = dict(graph)
    while free := [name for name, used in graph.items() if not used & set(graph)]:
        for name in free:
            del graph[name]
    return sorted(graph)


@pytest.mark.parametrize("top", ["common", "launch"])
@pytest.mark.parametrize("package", [True, False], ids=["packages", "files"])
def test_imports_run_one_way(top, package):
    graph = edges(top, package)
    assert len(graph) > 5
    assert not circle(graph)
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_no_two_classes_of_launch_share_a_name():
    trees = [ast.parse((ROOT / path).read_text()) for path in FILES if path.parts[0] == "launch"]
    names = [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert sorted(names) == sorted(set(names))


def test_a_module_is_imported_under_its_own_name():
    for path in (path for path in FILES if path.parts[0] == "launch"):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            for alias in node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
                source = getattr(node, "module", None) or alias.name
                ours = source.split(".")[0] in ("common", "launch", "tasks")
                assert not ours or alias.asname in (None, alias.name, "sp"), f"{path}: {alias.name} as {alias.asname}"
