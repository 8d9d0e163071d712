"""Settings of a stage in three groups, composed from layers and checked together.

``run`` (how to train), ``task`` (the folder's Config) and ``method`` (the file's Config). Later layers win; an unknown
key or a wrong type is an error that names the layer it came from.
"""

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from common import registry
from common.errors import UserError, nearest
from common.settings import schema
from common.settings.run import Run, complaints_of_run, complaints_of_size
from common.settings.schema import types


@cache
def classes(task: str, method: str) -> dict[str, Any]:
    """The dataclass of each group."""
    return {"run": Run, "task": registry.task_part(task, "config").Config, "method": registry.method(method).Config}


def keys(task: str, methods: list[str]) -> list[str]:
    """Every setting of a task under some methods: ``run.steps``, ``task.dataset``, ``method.sparsity``, each once."""
    found = [(group, cls) for name in methods for group, cls in classes(task, name).items()]
    return list(dict.fromkeys(f"{group}.{name}" for group, cls in found for name in types(cls)))


def merge(cls: Any, group: str, layers: Sequence[tuple[str, dict | None]]) -> dict[str, Any]:
    """One group's values: the defaults overlaid by ``layers`` (origin, values). ``UserError`` on a bad layer."""
    node = OmegaConf.structured(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    for origin, values in layers:
        if not isinstance(values or {}, dict):
            raise UserError(f"{origin}: {group} must hold keys and values, found {values!r}")
        for key in values or {}:
            if key not in names:
                known = f"{group} has: {', '.join(names)}" if names else f"this {group} has no settings"
                raise UserError(f"{origin}: unknown key {group}.{key}{nearest(key, names)} ({known})")
        try:
            node = OmegaConf.merge(node, values or {})
            OmegaConf.resolve(node)
        except OmegaConfBaseException as error:
            raise UserError(f"{origin}: {group}.{error.full_key}: {str(error).splitlines()[0]}") from None
    return cast(dict[str, Any], schema.one_zero(OmegaConf.to_container(node)))


def build(cls: Any, values: dict) -> Any:
    """The dataclass of a group from its values."""
    return cls(**values)


def complaints_of_task(task: str, config: Any) -> list[str]:
    """Everything wrong with a task's settings: in single fields, and in how they go together."""
    return schema.complaints("task", config) + registry.task_part(task, "config").validate(config)


def complaints(task: str, method: str, settings: dict) -> list[str]:
    """Everything wrong with a stage's settings, from all three groups."""
    part, cls = registry.task_part(task, "config"), classes(task, method)
    run, asked = build(Run, settings["run"]), build(cls["task"], settings["task"])
    found = complaints_of_run(run) + complaints_of_task(task, asked)
    if reason := getattr(part, "refuses", {}).get(method):
        found.append(f"task {task} cannot be pruned by {method}: {reason}; choose another method")
    chosen = registry.method(method)(build(cls["method"], settings["method"]))
    found += schema.complaints("method", chosen.config) + chosen.complaints()
    if 0 < run.steps < 2**63:  # with run.epochs the data say how many: ``complaints_of_data``
        found += chosen.complaints_for(run.steps)
    if settings["method"].get("rewind") == "pretrained" and not starts_pretrained(task, asked):
        found.append("method.rewind=pretrained needs pretrained weights, task.pretrained is empty")
    if getattr(chosen, "needs_pretrained", False) and not starts_pretrained(task, asked):
        found.append(
            f"METHOD={method} prunes pretrained weights, and these settings of task {task} start from random ones; "
            "METHOD=omp_before prunes those, METHOD=omp_no_retraining the trained network"
        )
    if run.select != "last" and settings["task"].get("validation") == 0:
        found.append(f"run.select={run.select} needs a validation split, task.validation is 0")
    return found


def starts_pretrained(task: str, config: Any) -> bool:
    """Do a task's settings name weights to start from? Its function or field ``pretrained`` says so."""
    own = getattr(registry.task_part(task, "config"), "pretrained", lambda config: getattr(config, "pretrained", ""))
    return bool(own(config))


def complaints_of_data(task: str, method: str, settings: dict, examples: int) -> list[str]:
    """What is wrong with a stage's settings on so many training examples; ``complaints`` knows of none."""
    run = build(Run, settings["run"])
    found = complaints_of_size(run, examples)
    if run.steps == 0:
        chosen = registry.method(method)(build(classes(task, method)["method"], settings["method"]))
        found += chosen.complaints_for(run.steps_of(examples))
    return found
