"""What names a stage: a digest of everything that determines its result, its data among it."""

import dataclasses
import hashlib
import json
from functools import cache
from typing import Any

from common import registry
from common.data.checked import Checked
from common.errors import UserError
from common.settings.groups import build, classes

Settings = dict[str, dict[str, Any]]  # values by name in the groups run, task and method

CORE_VERSION = 2  # part of every digest: raised when a fix in the core or the loop changes results


def determining(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """The values that determine results: without ``identity=False`` fields and those at their ``neutral`` value.

    A field added later carries ``neutral=<the value that has no effect>``, so that older digests stay valid; values
    written before it was added may lack it.
    """
    return {n: values[n] for n, neutral in _fields(cls) if not neutral or (values.get(n, neutral[0]),) != neutral}


@cache
def _fields(cls: type) -> list[tuple[str, tuple]]:
    """The fields that are part of the identity, each with its neutral value in a tuple; () where there is none."""
    chosen = [f for f in dataclasses.fields(cls) if f.metadata.get("identity", True)]
    return [(f.name, (f.metadata["neutral"],) if "neutral" in f.metadata else ()) for f in chosen]


def digest(task: str, method: str, settings: Settings, versions: dict[str, int], data: str, parent: str | None) -> str:
    """The name of a stage: SHA-256 (first 16 hex digits) of everything that determines its result, and nothing else."""
    chosen = {group: determining(cls, settings[group]) for group, cls in classes(task, method).items()}
    content = dict(task=task, method=method, settings=chosen, versions=versions, data=data, parent=parent)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def versions(task: str, method: str) -> dict[str, int]:
    """The versions of the core, of the task and of the method: raised when a fix changes results."""
    own = {"task": registry.task_part(task, "config").version, "method": registry.method(method).version}
    return {"core": CORE_VERSION, **own}


@cache  # reading the data takes a second, and a sweep asks once per stage
def _checked(task: str, values: str, stamp: tuple) -> Checked:
    """``stamp`` belongs to the key alone: files replaced since the last call are read again."""
    return registry.task_part(task, "prepare").check(_task_settings(task, values))


def fingerprint(task: str, settings: Settings) -> str:
    """The checksum of the data a stage trains on, as its task computes it; ``UserError`` where one is missing."""
    return checked(task, settings)[0]


def examples(task: str, settings: Settings) -> int | None:
    """How many examples the stage trains on; None where its task does not say. ``UserError`` as for ``fingerprint``."""
    return checked(task, settings).examples(settings["run"]["seed"])


def checked(task: str, settings: Settings) -> Checked:
    """What the task says of the data a stage trains on. ``UserError`` where one is missing."""
    values, prepare = json.dumps(settings["task"], sort_keys=True), registry.task_part(task, "prepare")
    try:
        stamp = prepare.stamp(_task_settings(task, values)) if hasattr(prepare, "stamp") else ()
        return _checked(task, values, stamp)
    except OSError as error:
        raise UserError(f"task {task}: cannot read its data: {error}") from None


@cache
def _task_settings(task: str, values: str) -> Any:
    return build(registry.task_part(task, "config").Config, json.loads(values))
