"""The settings that a task and a preset give, from YAML files: dataclass < task < its exceptions < preset."""

import json
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from common import paths, registry
from common.errors import UserError, nearest
from common.settings import groups
from common.stage import identity
from launch.request.arguments import Request


class AsWritten(yaml.SafeLoader):
    """Leaves every scalar the text that is written, but nothing at all and null: each field converts by its own type.

    YAML 1.1 takes 0755 for 493, 4:00:00 for a number in base sixty, and ``no`` for false. A key that is given twice is
    an error, where YAML's readers silently take the last.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for number, key in enumerate(keys):
            if key.value in [earlier.value for earlier in keys[:number]]:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
        return super().construct_mapping(node, deep)


AsWritten.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@cache
def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file, of texts. ``UserError`` where it cannot be read, or holds anything else."""
    try:
        return mapping(str(path), yaml.load(path.read_text(), Loader=AsWritten))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def mapping(origin: str, value: Any, valid: tuple[str, ...] = ()) -> dict:
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
    return sorted(set(mapping(f"tasks/{task}/config.yaml: presets", own)) - set(_amounts()))


class Composer:
    """Settings of any method under one task and preset: dataclass < task < its exceptions < preset < command line."""

    def __init__(self, request: Request) -> None:
        self.task = request.task
        registry.task_part(self.task, "config")  # an unknown task fails here, with the names
        origin = f"tasks/{self.task}/config.yaml"
        own = read_yaml(paths.root() / "tasks" / self.task / "config.yaml")
        mapping(origin, own, ("run", "task", "methods", "needs", "presets"))
        known = presets(self.task)
        if request.preset not in known:
            hint = nearest(request.preset, known)
            raise UserError(f"unknown preset {request.preset!r}{hint} (presets of {self.task}: {', '.join(known)})")
        amounts = _amounts()
        amount = read_yaml(amounts.get(request.preset, amounts["default"]))
        special, place = (own.get("presets") or {}).get(request.preset) or {}, f"{origin}: presets.{request.preset}"
        general = f"launch/presets/{request.preset}.yaml"
        mapping(general, amount, ("compare", "sweep"))
        mapping(place, special, ("run", "task", "methods", "needs", "compare", "sweep"))
        self.layers = [(origin, own), (place, special)]
        self.needs = [(f"{where}: needs", layer.get("needs")) for where, layer in self.layers]
        for where, layer in self.layers:
            mapping(f"{where}: methods", layer.get("methods"), tuple(registry.methods()))
        self.axes_origin = f"{place if special.get('sweep') else general}: sweep"
        self.axes = mapping(self.axes_origin, special.get("sweep") or amount.get("sweep"))
        compare = special.get("compare") or amount.get("compare")
        if not isinstance(compare, list) or not compare:
            raise UserError(f"{general}: compare must be a list of methods, found {compare!r}")
        self.default_methods: list[str] = compare
        self._cache: dict[tuple[str, bool], dict[str, dict]] = {}
        self._defaults: dict[str, dict[str, dict]] = {}
        self._checked: dict[str, identity.Checked] = {}

    def axis(self, method: str, key: str) -> list:
        """The preset's values of one dotted key, each as the type of its field."""
        group, name = key.split(".", 1)
        cls = groups.classes(self.task, method)[group]
        return [groups.merge(cls, group, [(self.axes_origin, {name: value})])[name] for value in self.axes[key]]

    def defaults(self, method: str) -> dict[str, dict]:
        """What determines results in the embedded default, from which variants differ."""
        if method not in self._defaults:
            base = self.settings(method, embedded=True)
            classes = groups.classes(self.task, method)
            self._defaults[method] = {group: identity.determining(cls, base[group]) for group, cls in classes.items()}
        return self._defaults[method]

    @cached_property
    def embedded_data(self) -> str:
        """The checksum of the embedded default's data."""
        return self.checked(self.settings("dense", embedded=True)).fingerprint

    def checked(self, settings: dict) -> identity.Checked:
        """What the task says of its data; once for this request, which may have thousands of stages."""
        values = json.dumps(settings["task"], sort_keys=True)
        if values not in self._checked:
            self._checked[values] = identity.checked(self.task, settings)
        return self._checked[values]

    def settings(self, method: str, embedded: bool = False) -> dict:
        """Resolved values before axes and command line; ``embedded``: without the preset."""
        key = (method, embedded)
        if key not in self._cache:
            layers = self.layers[:1] if embedded else self.layers
            own = [(origin, {**layer, "method": (layer.get("methods") or {}).get(method)}) for origin, layer in layers]
            self._cache[key] = {
                group: groups.merge(cls, group, [(origin, layer.get(group) or {}) for origin, layer in own])
                for group, cls in groups.classes(self.task, method).items()
            }
        return {group: dict(values) for group, values in self._cache[key].items()}
