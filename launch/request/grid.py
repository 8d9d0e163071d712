"""What is asked for: a request, presets and task files become validated cells, every complaint at once."""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from common import registry
from common.errors import UserError, complain, nearest
from common.settings import groups, schema
from launch.request.arguments import Request
from launch.request.compose import Composer


@dataclass(frozen=True)
class Cell:
    """One wished result: a method with all its settings."""

    method: str
    settings: dict
    reference: bool = False  # a dense line nobody asked for by name


def cells(request: Request) -> tuple[Composer, list[Cell]]:
    """Every wished cell. ``UserError`` lists everything wrong at once, before anything is written or queued."""
    composer = Composer(request)
    names = list(dict.fromkeys(request.methods or composer.default_methods))
    for name in names:
        registry.method(name)
    overrides = _overrides(request)
    _check_axes(composer, [*names, *composer.default_methods])
    asked = names if "dense" in names else ["dense", *names]
    complaints: dict[str, str] = dict.fromkeys(_unknown_keys(composer.task, names, overrides), "")
    axes = {name: _axes(composer, name, overrides, complaints) for name in asked}
    complain(complaints)
    wished = []
    for name in asked:
        for combination in itertools.product(*axes[name].values()):
            settings = composer.settings(name)
            for key, value in zip(axes[name], combination, strict=True):
                group, field_name = key.split(".", 1)
                settings[group][field_name] = value
            wished.append(Cell(name, settings, reference=name not in names))
            for complaint in groups.complaints(composer.task, name, settings):
                complaints.setdefault(complaint, "" if complaint.startswith(("run.", "task.")) else f"{name}: ")
    complain(complaints)
    return composer, wished


def data_sets(request: Request) -> list:
    """The task's configurations that a request names, for fetching their data; ``UserError`` as for ``cells``."""
    composer, overrides = Composer(request), _overrides(request)
    complaints = dict.fromkeys(_unknown_keys(composer.task, ["dense"], overrides), "")
    axes = _axes(composer, "dense", overrides, complaints)
    complain(complaints)
    names = [key.split(".", 1)[1] for key in axes if key.startswith("task.")]
    config, default = registry.task_part(composer.task, "config").Config, composer.settings("dense")["task"]
    combinations = itertools.product(*(axes[f"task.{name}"] for name in names))
    wished = [groups.build(config, default | dict(zip(names, values, strict=True))) for values in combinations]
    for settings in wished:
        complaints |= dict.fromkeys(groups.complaints_of_task(composer.task, settings), "")
    complain(complaints)
    return wished


def _overrides(request: Request) -> dict[str, list[str]]:
    """Dotted key -> values as text; DATA is the task's setting of that name."""
    if request.data and "data" not in schema.types(registry.task_part(request.task, "config").Config):
        raise UserError(f"task {request.task} takes no DATA folder")
    return {**request.overrides, **({"task.data": [request.data]} if request.data else {})}


def _check_axes(composer: Composer, methods: list[str]) -> None:
    """A preset's ``sweep`` names settings that exist, each with a list of values."""
    valid = {
        f"{g}.{n}" for m in methods for g, cls in groups.classes(composer.task, m).items() for n in schema.types(cls)
    }
    for key, values in composer.axes.items():
        if key not in valid:
            raise UserError(f"{composer.axes_origin}: unknown key {key}{nearest(key, valid)}")
        if not isinstance(values, list) or not values:
            raise UserError(f"{composer.axes_origin}: {key} must be a list of values, found {values!r}")


def _unknown_keys(task: str, methods: list[str], overrides: dict) -> list[str]:
    """Every overridden key must exist in its group; a method's key in at least one of the methods asked for."""
    found = []
    for key in overrides:
        group, name = key.split(".", 1)
        valid = {n for m in methods for n in schema.types(groups.classes(task, m)[group])}
        if name not in valid:
            where = f"method {'/'.join(methods)}" if group == "method" else f"task {task}" if group == "task" else "run"
            known = f"it has: {', '.join(sorted(valid))}" if valid else "it has no settings"
            others = [other for other in groups.keys(task, methods) if other.partition(".")[2] == name]
            hint = f"; did you mean {' or '.join(map(repr, others))}?" if others else ""
            hint = hint or nearest(name, valid).replace("'", f"'{group}.", 1)
            found.append(f"unknown key {key}{hint} ({where}: {known})")
    return found


def _axes(composer: Composer, method: str, overrides: dict, complaints: dict) -> dict[str, list]:
    """The typed values of every dotted key that is swept and that this method knows; bad ones go to ``complaints``."""
    cls = groups.classes(composer.task, method)
    levels = {f"method.{name}" for name in registry.method(method).levels}
    replaced = levels if levels & set(overrides) else set()  # method.rounds=3 replaces the preset's sparsities
    axes = {}
    for key in dict.fromkeys([*(k for k in composer.axes if k not in replaced), *overrides]):
        group, name = key.split(".", 1)
        known = schema.types(cls[group])
        if name not in known:
            continue
        if key not in overrides:
            axes[key] = composer.axis(method, key)
            continue
        axes[key] = []
        for text in overrides[key]:
            try:
                value = schema.parse(text, known[name])
            except ValueError as error:
                complaints.setdefault(f"{key}: expected {error}, found {text!r}", "")
                continue
            if key in ("task.data", "task.pretrained") and isinstance(value, str) and value:
                value = str(Path(os.path.expanduser(value)).absolute())
            if value not in axes[key]:
                axes[key].append(value)
    return axes
