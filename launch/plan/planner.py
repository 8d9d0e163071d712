"""Wishes against folders: cells become a forest of stages, shared parents once, each new, done or in between."""

import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from common import paths, record, registry
from common.errors import UserError
from common.settings import groups
from common.settings.run import Run, cautions
from common.stage import identity
from launch import wording
from launch.described import Stage
from launch.plan import reasons
from launch.request import compose, folds, grid, variants
from launch.request.arguments import Request
from launch.runs import state
from launch.runs.lineage import Lineage
from launch.runs.records import Loader
from launch.slurm import live_records

Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass
class Plan:
    """``stages`` by digest, parents before children; ``wished``: the digests somebody asked for.

    By digest: ``remarks``, what the reader of the data went on with; ``cautions``, what may not be meant.
    """

    task: str
    preset: str
    stages: dict[str, Stage]
    wished: list[str]
    remarks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    cautions: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def todo(self) -> list[Stage]:
        return [stage for stage in self.stages.values() if stage.state != "done"]

    def shared(self) -> dict[str, int]:
        """For every root from which others descend, the number of its descendants."""
        lineage = Lineage(self.stages.values())
        lines = ([*lineage.ancestors(stage)] for stage in self.stages.values())
        return dict(Counter(line[-1].digest for line in lines if line))


class Forest:
    """Adds lines of stages, naming each by its digest; equal ones meet."""

    def __init__(self, composer: compose.Composer) -> None:
        self.composer, self.task = composer, composer.task
        self.stages: dict[str, Stage] = {}
        self.remarks: dict[str, tuple[str, ...]] = {}
        self.cautions: dict[str, tuple[str, ...]] = {}
        self._versions: dict = {}

    def add(self, name: str, settings: dict) -> str:
        """A stage and all its ancestors. The first of them brings its own, so that any method can be one."""
        cls = groups.classes(self.task, name)["method"]
        parent = None
        for ancestor, values in registry.method(name)(groups.build(cls, settings["method"])).ancestors():
            chosen = settings | {"method": self.composer.settings(ancestor)["method"] | values}
            if parent is not None:
                parent = self._stage(ancestor, chosen, parent)
                continue
            if values and (wrong := groups.complaints(self.task, ancestor, chosen)):
                raise UserError(f"{name} starts from {ancestor}, which cannot work: {'; '.join(wrong)}")
            parent = self.add(ancestor, chosen)
        return self._stage(name, settings, parent)

    def _stage(self, method: str, settings: dict, parent: str | None) -> str:
        if method not in self._versions:
            self._versions[method] = identity.versions(self.task, method)
        versions, checked = self._versions[method], self.composer.checked(settings)
        data = checked.fingerprint
        digest = identity.digest(self.task, method, settings, versions, data, parent)
        if digest not in self.stages:
            run = groups.build(Run, settings["run"])
            self.remarks[digest], self.cautions[digest] = checked.remarks, cautions(run, checked.examples(run.seed))
            content = {
                "task": self.task,
                "method": method,
                "digest": digest,
                "parent": parent,
                "seed": settings["run"]["seed"],
                "sparsity": 0.0 if method == "dense" else settings["method"].get("sparsity"),
                "label": _label(self.task, method, settings),
                "variant": variants.variant(self.composer, method, settings, data, checked.published),
                "replicate": folds.text(self.task, settings),
                "versions": versions,
                "source": reasons.source(self.task, method),
                "data": data,
                "published": checked.published,
                "settings": settings,
            }
            folder = paths.stage(self.task, digest)
            depth = 0 if parent is None else self.stages[parent].depth + 1
            self.stages[digest] = Stage(folder, content, depth, *state.of_plan(folder))
        return digest


def _label(task: str, method: str, settings: dict) -> str:
    levels = [(n, settings["method"].get(n)) for n in registry.method(method).levels]
    said = [wording.level(value) if n == "sparsity" else f"{n} {value}" for n, value in levels if value is not None]
    level = "".join(f" {text}" for text in said)
    return f"{method}{level} {folds.pair(folds.text(task, settings), settings['run']['seed'])}"


def make(request: Request) -> Plan:
    """The plan of a request; nothing is written. ``UserError`` where a wish cannot be met."""
    composer, cells = grid.cells(request)
    forest = Forest(composer)
    wished = _add(forest, cells)
    new = {digest: stage.config for digest, stage in forest.stages.items() if stage.state == "new"}
    for digest, reason in reasons.explain(request.task, new).items() if new else ():
        forest.stages[digest] = replace(forest.stages[digest], why=reason)
    _on_their_way(forest.stages)
    _without_weights(forest.stages)
    return Plan(request.task, request.preset, forest.stages, wished, forest.remarks, forest.cautions)


def _add(forest: Forest, cells: list[grid.Cell]) -> list[str]:
    """The digests of ``cells``. What is wrong with any of the data is said at once, of each of them."""
    wished: dict[str, None] = {}
    wrong: dict[str, str] = {}
    for cell in cells:
        data = json.dumps(cell.settings["task"], sort_keys=True)
        if data in wrong:
            continue
        try:
            wished[forest.add(cell.method, cell.settings)] = None
        except UserError as problem:
            wrong[data] = str(problem)
    if wrong:
        raise UserError("\n".join(dict.fromkeys(wrong.values())))
    return list(wished)


def _on_their_way(stages: dict[str, Stage]) -> None:
    """Mark what a cluster is going to train."""
    alive, mute = live_records.in_flight()
    for key in (*alive, *mute):
        stage = stages.get(key.split("/")[1])
        if stage is not None and stage.key == key and stage.state != "done":
            now, why = state.on_cluster(stage.state, alive.get(key))
            stages[stage.digest] = replace(stage, state=now, why=why)


def _without_weights(stages: dict[str, Stage]) -> None:
    """A finished stage whose weights were removed is trained again where a stage that is to do starts from it."""
    for digest in reversed(list(stages)):  # children before parents
        parent = stages.get(stages[digest].parent or "")
        if parent is None or parent.state != "done" or stages[digest].state == "done":
            continue
        if again := state.without_weights(parent.folder):
            stages[parent.digest] = replace(parent, state=again[0], why=again[1])


def write(plan: Plan) -> Path:
    """Create the folders of all stages that are not done, and the sweep's own record; returns the sweep's folder."""
    name = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    todo = [(stage, _content(stage)) for stage in plan.todo()]
    try:
        for stage, content in todo:
            whole = record.finished(stage.folder) and paths.weights(stage.folder).exists()
            if stage.state == state.DAMAGED and not whole:  # nobody healed it meanwhile
                record.reopen(stage.folder)
            stage.folder.mkdir(parents=True, exist_ok=True)
            if content is not None:
                record.write_text(paths.config(stage.folder), content)
        sweep = _fresh(paths.sweeps() / f"{name}-{plan.task}-{os.getpid()}")
        keys = ("digest", "task", "method", "parent", "seed", "sparsity")
        lines = [json.dumps({key: getattr(stage, key) for key in keys}) for stage in plan.stages.values()]
        record.write_text(sweep / "plan.jsonl", "\n".join(lines) + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write to {paths.runs()} ({error.strerror or error}): expected a writable folder with free space; "
            "RUNS=<folder> chooses another. Nothing was started"
        ) from None
    return sweep


def _fresh(folder: Path) -> Path:
    """Create ``folder``, under another name where there is one: two machines may share a second and a process id."""
    number, name = 1, folder.name
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
            folder = folder.with_name(f"{name}.{number}")


def _content(stage: Stage) -> str | None:
    """What is to be written to ``config.yaml``, None when it is there.

    Settings that do not determine results, such as the folder of the data, may have changed since it was written;
    ``UserError`` when anything else did.
    """
    path, content = paths.config(stage.folder), yaml.dump(stage.config, sort_keys=False, Dumper=Dumper)
    try:
        before = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return content
    except OSError as error:
        raise UserError(f"{path} cannot be read now ({error.strerror or error}). Nothing was started") from None
    except ValueError:
        before = ""
    if before == content:
        return None
    if stage.state == state.DAMAGED:  # found out by its checksum, and named in the plan
        return content
    try:
        there = yaml.load(before, Loader=Loader)
        keys = ("task", "method", "settings", "versions", "data", "parent")
        same = identity.digest(*(there[key] for key in keys)) == stage.digest
    except (yaml.YAMLError, UserError, LookupError, TypeError, AttributeError, ValueError):
        same = False
    if same:
        return content
    raise UserError(
        f"{path} is not what was planned: it was changed by hand or is damaged. Give changes as SET=..., and delete "
        "this file to have it written anew (the stage goes on from its checkpoint). Nothing was started"
    )
