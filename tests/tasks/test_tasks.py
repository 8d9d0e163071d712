"""Every task is the same seven files that say the same things."""

import dataclasses
import inspect

import pytest
import yaml

from common import paths, registry
from common.settings import groups, schema
from common.settings.run import Run, complaints_of_run
from common.stage import identity
from common.training.trainer import Trainer
from launch.request import arguments, compose

SKELETON = ("README.md", "config.py", "config.yaml", "prepare.py", "data.py", "model.py", "trainer.py")
SAYS = ("load", "build", "examples", "batch", "loss", "evaluate", "baseline")  # what a task's trainer tells the loop
MAY_SAY = ("__init__", "parameter_groups", "data_order", "never_prunable")
KEEPS = {name for name, value in vars(Trainer).items() if callable(value)} - {*SAYS, *MAY_SAY}


@pytest.fixture(params=registry.tasks())
def task(request):
    return request.param


def default(task: str):
    return registry.task_part(task, "config").Config()


def test_skeleton(task):
    folder = paths.root() / "tasks" / task
    missing = [name for name in SKELETON if not (folder / name).is_file() or not (folder / name).stat().st_size]
    assert not missing
    strange = [path.name for path in folder.iterdir() if path.suffix not in (".py", ".md", ".yaml") and path.is_file()]
    assert not strange


def test_config(task):
    part = registry.task_part(task, "config")
    assert isinstance(part.version, int) and dataclasses.is_dataclass(part.Config)
    for field in dataclasses.fields(part.Config):
        assert field.metadata.get("help"), f"{field.name} has no help text"
    found = part.validate(default(task))
    assert isinstance(found, list) and all(isinstance(text, str) for text in found)
    if "data" in schema.types(part.Config):  # a folder is not what is in it
        assert {f.name: f.metadata.get("identity", True) for f in dataclasses.fields(part.Config)}["data"] is False


def test_splits_are_whole_numbers_that_determine_results(task):
    """Means over them would hide a setting otherwise, or count one training several times."""
    cls = registry.task_part(task, "config").Config
    for field in dataclasses.fields(cls):
        assert field.metadata.get("replicate", False) in (True, False)
        if field.metadata.get("replicate"):
            assert schema.types(cls)[field.name] is int and field.metadata.get("identity", True), field.name


def test_config_yaml(task):
    content = yaml.safe_load((paths.root() / "tasks" / task / "config.yaml").read_text())
    assert set(content) <= {"run", "task", "methods", "needs", "presets"}
    run = groups.merge(Run, "run", [("config.yaml", content.get("run"))])
    values = groups.merge(type(default(task)), "task", [("config.yaml", content.get("task"))])
    assert not complaints_of_run(groups.build(Run, run))
    assert not groups.complaints_of_task(task, groups.build(type(default(task)), values))


def test_prepare(task):
    part = registry.task_part(task, "prepare")
    for function in (part.check, part.prepare):
        assert len(inspect.signature(function).parameters) >= 1
    assert part.check.__doc__ and part.prepare.__doc__


def test_what_a_plan_knows_of_the_data_is_what_a_stage_trains_on(task):
    part, config = registry.task_part(task, "prepare"), default(task)
    settings = {"run": {"seed": 3}, "task": dataclasses.asdict(config)}
    run = {**dataclasses.asdict(Run()), "seed": 3}
    worker = registry.task_part(task, "trainer").Trainer({**settings, "run": run, "method": {}}, "dense", task)
    assert identity.examples(task, settings) == worker.examples() == part.check(config).sizes[0]
    if hasattr(config, "fold") and task == "protein":
        sizes = part.check(dataclasses.replace(config, fold=-1)).sizes
        assert len(sizes) == 10 and sum(sizes) > 9 * sizes[0] * 0.9


def test_trainer(task):
    own = registry.task_part(task, "trainer").Trainer
    assert issubclass(own, Trainer) and own is not Trainer
    assert isinstance(own.metric, str)
    for name in SAYS:
        assert getattr(own, name) is not getattr(Trainer, name), f"{name} is not said"
        assert list(inspect.signature(getattr(own, name)).parameters) == list(
            inspect.signature(getattr(Trainer, name)).parameters
        )
    changed = {name for name in KEEPS if getattr(own, name) is not getattr(Trainer, name)}
    assert not changed, f"the loop is not a task's to change: {changed}"


def test_readme(task):
    text = (paths.root() / "tasks" / task / "README.md").read_text()
    assert text.startswith("# ")
    for word in ("licen", "metric"):
        assert word in text.lower()


# What the authors' own files say: SMC-Bench's finetune_sup*.py (AdamW with its own weight decay, 1,022 tokens with
# the first special) and if1_*.py, and its table of models and data sets; Renda et al.'s cifar10_main.py.
PUBLISHED = {
    ("protein", "paper"): {
        "run.weight_decay": 0.01, "task.head": "hidden", "task.hidden": 512, "task.length": 1021, "task.model": "esm",
    },
    ("protein", "paper-tape"): {"run.learning_rate": 1e-4, "task.dataset": "hp-s", "task.model": "tape"},
    ("protein", "paper-if1"): {
        "run.weight_decay": 0.05, "task.head": "hidden", "task.hidden": 128, "task.dataset": "hp-s2c5",
    },
    ("classic", "resnet20"): {"run.weight_decay": 1e-4, "run.milestones": [0.5, 0.75], "task.validation": 5000},
    ("classic", "resnet20-renda"): {"run.weight_decay": 2e-4, "run.steps": 71108, "task.validation": 10},
}  # fmt: skip


@pytest.mark.parametrize(("task", "preset"), PUBLISHED)
def test_presets_named_after_papers_have_the_settings_of_the_authors_code(task, preset):
    found = compose.Composer(arguments.parse([f"task={task}", f"preset={preset}"])).settings("dense")
    for name, value in PUBLISHED[task, preset].items():
        group, key = name.split(".")
        assert found[group][key] == value, name


def test_the_rate_of_renda_et_al_drops_where_their_code_drops_it():
    """At epochs 91 and 136 of 50,000 images in batches of 128, counted in whole steps."""
    run = compose.Composer(arguments.parse(["task=classic", "preset=resnet20-renda"])).settings("dense")["run"]
    first = [min(s for s in range(run["steps"]) if s >= share * run["steps"]) for share in run["milestones"]]
    assert all(abs(step - epoch * 50_000 / 128) <= 1 for step, epoch in zip(first, (91, 136), strict=True))
