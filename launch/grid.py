"""What is asked for: a request, presets and task files become validated cells, every complaint at once."""

import itertools
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from common import config, paths, registry
from common.errors import UserError, nearest
from launch import replicates
from launch.words import GROUPS, Request


class _Loader(yaml.SafeLoader):
    """Reads ``4:00:00`` as the text it is; YAML 1.1 takes it for a number in base sixty."""


_Loader.yaml_implicit_resolvers = {
    letter: [
        (tag, re.compile(f"(?!.*:)(?:{pattern.pattern})", re.X) if tag.endswith((":int", ":float")) else pattern)
        for tag, pattern in resolvers
    ]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@cache
def read_yaml(path: Path) -> dict:
    try:
        return _mapping(str(path), yaml.load(path.read_text(), Loader=_Loader))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _mapping(origin: str, value, valid: tuple = ()) -> dict:
    """``value``, nothing taken for empty. ``UserError`` when it is no mapping or has a key that is not ``valid``."""
    if not isinstance(value or {}, dict):
        raise UserError(f"{origin} must hold keys and values, found {value!r}")
    for key in value or {}:
        if valid and key not in valid:
            raise UserError(f"{origin}: unknown key {key!r}{nearest(key, valid)} (expected: {', '.join(valid)})")
    return value or {}


def _amounts() -> dict[str, Path]:
    return {f.stem: f for f in sorted((paths.root() / "launch" / "presets").glob("*.yaml"))}


def presets(task: str | None = None) -> list[str]:
    """Names of presets: those of every task, and those a task adds in its config.yaml."""
    return sorted({*_amounts(), *(own_presets(task) if task else ())})


def own_presets(task: str) -> list[str]:
    """The presets that only this task has."""
    own = read_yaml(paths.root() / "tasks" / task / "config.yaml").get("presets")
    return sorted(set(_mapping(f"tasks/{task}/config.yaml: presets", own)) - set(_amounts()))


class Composer:
    """Settings of any method under one task and preset: dataclass < task < its exceptions < preset < command line."""

    def __init__(self, request: Request):
        self.task = request.task
        registry.task_part(self.task, "config")  # an unknown task fails here, with the names
        origin = f"tasks/{self.task}/config.yaml"
        own = read_yaml(paths.root() / "tasks" / self.task / "config.yaml")
        _mapping(origin, own, ("run", "task", "methods", "needs", "presets"))
        known = presets(self.task)
        if request.preset not in known:
            hint = nearest(request.preset, known)
            raise UserError(f"unknown preset {request.preset!r}{hint} (presets of {self.task}: {', '.join(known)})")
        amounts = _amounts()
        amount = read_yaml(amounts.get(request.preset, amounts["default"]))
        special, place = (own.get("presets") or {}).get(request.preset) or {}, f"{origin}: presets.{request.preset}"
        general = f"launch/presets/{request.preset}.yaml"
        _mapping(general, amount, ("compare", "sweep"))
        _mapping(place, special, ("run", "task", "methods", "needs", "compare", "sweep"))
        self.layers = [(origin, own), (place, special)]
        self.needs = [(f"{where}: needs", layer.get("needs")) for where, layer in self.layers]
        for where, layer in self.layers:
            _mapping(f"{where}: methods", layer.get("methods"), tuple(registry.methods()))
        self.axes_origin = f"{place if special.get('sweep') else general}: sweep"
        self.axes = _mapping(self.axes_origin, special.get("sweep") or amount.get("sweep"))
        self.default_methods = special.get("compare") or amount.get("compare")
        if not isinstance(self.default_methods, list) or not self.default_methods:
            raise UserError(f"{general}: compare must be a list of methods, found {self.default_methods!r}")
        self._cache: dict = {}
        self._told: dict = {}

    def axis(self, method: str, key: str) -> list:
        """The preset's values of one dotted key, each as the type of its field."""
        group, name = key.split(".", 1)
        cls = config.classes(self.task, method)[group]
        return [config.merge(cls, group, [(self.axes_origin, {name: value})])[name] for value in self.axes[key]]

    def told(self, method: str) -> dict[str, dict]:
        """The identity of the embedded default, from which variants are told."""
        if method not in self._told:
            base = self.settings(method, embedded=True)
            classes = config.classes(self.task, method)
            self._told[method] = {group: config.identity(cls, base[group]) for group, cls in classes.items()}
        return self._told[method]

    def embedded_data(self) -> str:
        """The checksum of the embedded default's data."""
        return config.fingerprint(self.task, self.settings("dense", embedded=True))

    def settings(self, method: str, embedded: bool = False) -> dict:
        """Resolved values before axes and command line; ``embedded``: without the preset."""
        key = (method, embedded)
        if key not in self._cache:
            layers = self.layers[:1] if embedded else self.layers
            cls = config.classes(self.task, method)
            self._cache[key] = {
                group: config.merge(
                    cls[group],
                    group,
                    [
                        (o, (v.get("methods") or {}).get(method) if group == "method" else v.get(group))
                        for o, v in layers
                    ],
                )
                for group in GROUPS
            }
        return {group: dict(values) for group, values in self._cache[key].items()}


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
            for complaint in config.complaints(composer.task, name, settings):
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
    wished, part = [], registry.task_part(composer.task, "config")
    for values in itertools.product(*(axes[f"task.{name}"] for name in names)):
        wished.append(
            config.build(part.Config, composer.settings("dense")["task"] | dict(zip(names, values, strict=True)))
        )
        complaints |= dict.fromkeys(part.validate(wished[-1]), "")
    complain(complaints)
    return wished


def _overrides(request: Request) -> dict[str, list[str]]:
    """Dotted key -> values as text; DATA is the task's setting of that name."""
    if request.data and "data" not in config.types(registry.task_part(request.task, "config").Config):
        raise UserError(f"task {request.task} takes no DATA folder")
    return {**request.overrides, **({"task.data": [request.data]} if request.data else {})}


def complain(complaints: dict[str, str]) -> None:
    """Complaint -> where it comes from; everything in one ``UserError``."""
    lines = [f"{origin}{complaint}" for complaint, origin in complaints.items()]
    if lines:
        raise UserError(lines[0] if len(lines) == 1 else f"{len(lines)} settings cannot work:\n  " + "\n  ".join(lines))


def _check_axes(composer: Composer, methods: list[str]) -> None:
    """A preset's ``sweep`` names settings that exist, each with a list of values."""
    valid = {
        f"{g}.{n}" for m in methods for g, cls in config.classes(composer.task, m).items() for n in config.types(cls)
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
        valid = {n for m in methods for n in config.types(config.classes(task, m)[group])}
        if name not in valid:
            where = f"method {'/'.join(methods)}" if group == "method" else f"task {task}" if group == "task" else "run"
            known = f"it has: {', '.join(sorted(valid))}" if valid else "it has no settings"
            others = [other for other in config.keys(task, methods) if other.partition(".")[2] == name]
            hint = f"; did you mean {' or '.join(map(repr, others))}?" if others else ""
            hint = hint or nearest(name, valid).replace("'", f"'{group}.", 1)
            found.append(f"unknown key {key}{hint} ({where}: {known})")
    return found


def _axes(composer: Composer, method: str, overrides: dict, complaints: dict) -> dict[str, list]:
    """The typed values of every dotted key that is swept and that this method knows; bad ones go to ``complaints``."""
    cls = config.classes(composer.task, method)
    levels = {f"method.{name}" for name in registry.method(method).levels}
    replaced = levels if levels & set(overrides) else set()  # method.rounds=3 replaces the preset's sparsities
    axes = {}
    for key in dict.fromkeys([*(k for k in composer.axes if k not in replaced), *overrides]):
        group, name = key.split(".", 1)
        known = config.types(cls[group])
        if name not in known:
            continue
        if key not in overrides:
            axes[key] = composer.axis(method, key)
            continue
        axes[key] = []
        for text in overrides[key]:
            try:
                value = config.parse(text, known[name])
            except ValueError as error:
                complaints.setdefault(f"{key}: expected {error}, found {text!r}", "")
                continue
            if key in ("task.data", "task.pretrained") and value:
                value = str(Path(os.path.expanduser(value)).absolute())
            if value not in axes[key]:
                axes[key].append(value)
    return axes


def text(value) -> str:
    """A value as it is given on the command line; in quotes only where they tell a text from nothing, or hold it."""
    if isinstance(value, str) and re.fullmatch(r"[\w.:/+-]+", value) and value.lower() not in ("null", "none"):
        return value
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip()


def variant(composer: Composer, method: str, settings: dict, data: str) -> str:
    """What sets a cell apart from the embedded default, beside the columns every result has: ``run.epochs=5, ...``.

    Other data than the default's are named by their checksum, so that part of a data set is never taken for the whole.
    A fold that is fixed is no part of it, nor is the checksum of that fold's data: see ``legends.variants``. Where the
    seed chooses the fold, that is told even where it is the default.
    """
    columns = {"run.seed", "task.dataset", "task.model", *(f"method.{n}" for n in registry.method(method).levels)}
    splits = replicates.values(composer.task, settings)
    fixed = {key for key, value in splits.items() if value >= 0}
    parts = []
    for group, cls in config.classes(composer.task, method).items():
        other = composer.told(method)[group]
        for name, value in config.identity(cls, settings[group]).items():
            key = f"{group}.{name}"
            if key not in columns | fixed and (value != other.get(name) or key in splits):
                parts.append(f"{key}={text(value)}")
    if not fixed and data != composer.embedded_data():
        parts.append(f"data.checksum={data[:8]}")
    return ", ".join(parts)
