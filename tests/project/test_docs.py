"""Documents tell the truth: links resolve, commands exist, and the method in docs/method.md works as it stands."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from common import paths, registry
from common.errors import UserError
from common.methods.families import base
from common.settings import schema
from common.settings.run import Run
from common.training.resume import checkpoint
from common.training.state import State
from launch.__main__ import VERBS
from launch.plan import fits_the_model, planner
from launch.report.rows import COLUMNS
from launch.request import arguments, compose, grid
from tests.support.cli import ROOT, copy, launch

LISTED = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True
)
PAGES = [Path(line) for line in LISTED.stdout.splitlines() if (ROOT / line).is_file()]
PAGES = PAGES or [path.relative_to(ROOT) for top in ("*.md", "docs/*.md", "tasks/*/*.md") for path in ROOT.glob(top)]


def text(page: Path | str) -> str:
    return (ROOT / page).read_text()


def anchors(page: Path) -> set[str]:
    """The anchors that headings get on the code host."""
    prose = re.sub(r"```.*?```", "", text(page), flags=re.DOTALL)
    heads = re.findall(r"^#+ +(.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def commands(page: Path | str) -> list[str]:
    """Every ``make ...`` in code, with continued lines joined and trailing comments cut."""
    content = text(page).replace("\\\n", " ")
    blocks = re.findall(r"```(?:\w*)\n(.*?)```", content, re.DOTALL) + re.findall(
        r"(?:^    .*\n?)+", content, re.MULTILINE
    )
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(make [^`]+)`", content)
    return [line for line in lines if re.match(r"make [a-z<]", line)]


def test_there_are_pages():
    assert {"README.md", "docs/method.md", "docs/task.md"} <= {page.as_posix() for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_resolve(page):
    prose = re.sub(r"```.*?```", "", text(page), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (ROOT / page).parent / name if name else ROOT / page
        assert found.exists(), f"{page} links to {target}"
        if anchor and found.suffix == ".md":
            assert anchor in anchors(found.resolve().relative_to(ROOT)), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_exist(page):
    makefile = text("Makefile")
    known = re.search(r"^known := (.*)$", makefile, re.MULTILINE)[1].split()
    verbs = {*re.search(r"^verbs := (.*)$", makefile, re.MULTILINE)[1].split(), "help", "clean-environment"}
    for command in commands(page):
        verb = command.split()[1]
        assert verb in verbs or verb.startswith("<"), command
        for name in re.findall(r"(?<![\w.])([A-Z]+)=", command):
            assert name in known, command


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_settings_in_commands_exist(page):
    """Dotted keys that documents show are settings of the tasks and methods there are."""
    methods = [registry.method(name) for name in registry.methods()]
    known = {
        "run": set(schema.types(Run)),
        "method": {n for m in methods for n in schema.types(m.Config)},
    }
    known["task"] = {n for t in registry.tasks() for n in schema.types(registry.task_part(t, "config").Config)}
    for group, name in re.findall(r"\b(run|task|method)\.([a-z_]+)=", text(page)):
        assert name in known[group], f"{page}: {group}.{name}"
    for preset in re.findall(r"PRESET=([a-z]\w*)", text(page)):
        assert any(preset in compose.presets(task) for task in registry.tasks()), f"{page}: {preset}"


def test_the_structures_that_the_page_on_comparing_shows_fit_the_embedded_network(folders):
    shown = dict.fromkeys(re.findall(r"method\.structure=([\w:]+)", text("docs/compare.md")))
    assert any("x" in form for form in shown) and any(":" in form for form in shown)
    for form in shown:
        asked = arguments.parse(["method=omp_after", f"method.structure={form}", "method.sparsity=0.5", "run.seed=0"])
        fits_the_model.check(planner.make(asked).todo())


def table(first: str, page: str = "README.md") -> list[list[str]]:
    """The rows of the table of a page whose first heading is ``first``."""
    rows = re.search(rf"^\| {first} \|.*\n\|[-:|]+\n((?:\|.*\n)+)", text(page), re.MULTILINE)[1].splitlines()
    return [[cell.strip() for cell in row.strip("| ").split("|")] for row in rows]


def test_the_readme_lists_every_method_where_it_prunes():
    listed = {name: row[0] for row in table("prunes") for name in re.findall(r"`(\w+)`", row[1])}
    assert listed == {name: registry.method(name).facts.when for name in registry.methods()}


PRETRAINED = {
    "classic": ["task.pretrained=weights.pt"],
    "protein": ["task.model=antiberty"],
    "arithmetic": ["task.embedding=pretrained", "task.hub=roberta-base"],
}


def test_the_tables_of_methods_and_tasks_tell_the_truth():
    rows = {row[0].strip("`"): row[1] for row in table("method", "docs/compare.md")}
    assert set(rows) == set(registry.methods())
    for method, said in rows.items():
        works = set()
        for task in registry.tasks():
            start = PRETRAINED[task] if getattr(registry.method(method), "needs_pretrained", False) else []
            asked = arguments.parse([f"task={task}", f"method={method}", "run.seed=0", *start])
            try:
                works |= {task} if grid.cells(asked) else set()
            except UserError as error:
                assert "cannot be pruned by" in str(error)
        only = re.search(r"on ((?:`\w+`(?:, | and )?)+) alone", said)
        assert works == (set(re.findall(r"`(\w+)`", only[1])) if only else set(registry.tasks())), method
    tasks = {name: row[-1] for row in table("task") for name in re.findall(r"`(\w+)`", row[0])}
    assert set(registry.tasks()) <= set(tasks)
    assert {task for task, state in tasks.items() if state == "works"} <= set(registry.tasks())
    assert all(task in registry.tasks() or "not" in state for task, state in tasks.items())


def test_the_readme_names_every_verb_a_user_starts_with():
    shown = {command.split()[1] for command in commands("README.md")}
    assert {"sweep", "plan", "status", "report", "test", "help", "prepare"} <= shown <= {*VERBS, "<verb>"}


def test_the_page_of_commands_has_every_verb_and_key():
    assert [row[0] for row in table("verb", "docs/commands.md")] == [f"`{verb}`" for verb in VERBS]
    known = re.search(r"^known := (.*)$", text("Makefile"), re.MULTILINE)[1].split()
    assert {row[0] for row in table("key", "docs/commands.md")} == {f"`{name}`" for name in known}


def test_the_page_of_numbers_has_every_column():
    listed = [name for row in table("column", "docs/numbers.md") for name in re.findall(r"`([^`]+)`", row[0])]
    assert sorted(listed) == sorted([*COLUMNS, "measurements.<name>"])


EXAMPLES = {"launch/clusters/<name>.yaml"}  # files that a reader is to write
PLACES = ("common", "launch", "tasks", "tests", "requirements", "benchmarks")


@pytest.mark.parametrize("page", [page for page in PAGES if page != Path("CHANGELOG.md")], ids=str)
def test_files_and_folders_that_documents_name_exist(page):
    for name in re.findall(rf"`((?:{'|'.join(PLACES)})/[\w./<>-]*)`", text(page)):
        found = list(ROOT.glob(re.sub(r"<\w+>", "*", name)))
        assert found or name in EXAMPLES, f"{page} names {name}"


def test_the_rooms_of_the_house_are_all_there():
    """docs/internals.md has a row for every package of the code."""
    listed = {name for row in table("folder", "docs/internals.md") for name in re.findall(r"`([\w/]+)/`", row[0])}
    rooms = {path.parent for top in ("common", "launch") for path in (ROOT / top).rglob("__init__.py")}
    assert {room.relative_to(ROOT).as_posix() for room in rooms} - {"launch"} <= listed


def test_what_the_manual_of_methods_lists_exists():
    called = [name for row in table("when", "docs/method.md") for name in re.findall(r"`(\w+)\(", row[1])]
    assert {"start", "on_gradients", "on_step"} <= set(called)
    assert not [name for name in called if not hasattr(base.Method, name)]
    asked = re.findall(r"`state\.(\w+)\(", text("docs/method.md"))
    assert {"set_masks", "learn", "stream"} <= set(asked)
    assert not [name for name in asked if not hasattr(State, name)]


def test_the_methods_in_the_manual_work(tmp_path):
    """Their texts, written to the files their first lines name, are found, planned and trained."""
    blocks = re.findall(r"```python\n(# common/methods/.*?)```", text("docs/method.md"), re.DOTALL)
    names = [re.match(r"# common/methods/(\w+)\.py\n", block)[1] for block in blocks]
    assert len(names) == 2 and not set(names) & set(registry.methods())
    root = copy(tmp_path / "copy")
    for name, block in zip(names, blocks, strict=True):
        (root / "common" / "methods" / f"{name}.py").write_text(block)
    small = ["run.steps=20", "run.evaluate_every=10", "run.seed=0", "method.sparsity=0.7", "run.exclude=[output.*]"]
    done = launch("sweep", f"method={','.join(names)}", *small, "workers=1", root=root, RUNS=tmp_path / "runs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(name in done.stdout for name in names) and "70.00%" in done.stdout
    found = {path.parent: json.loads(path.read_text()) for path in (tmp_path / "runs").glob("classic/*/summary.json")}
    assert all(one["target_met"] for one in found.values())
    (units,) = [folder for folder, one in found.items() if one["method"] == "units_before"]
    weights = checkpoint.load(paths.weights(units))["model"]
    living = [(weights[name] != 0).any(1) for name in ("fc1.weight", "fc2.weight")]
    assert [int(alive.sum()) for alive in living] == [90, 30], "whole units"
