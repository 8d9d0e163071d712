"""Why a stage is new: what sets it apart from the stages that are there."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from common import paths, record
from common.settings import groups
from launch import wording
from launch.described import Stage
from launch.request.arguments import GROUPS
from launch.runs.records import Loader
from launch.runs.state import NEVER

MOST = 2000  # folders looked into; reading a configuration takes a third of a millisecond
MOST_REASONS = 5  # that a plan gives
MOST_EDITED = 8  # files that it names


@cache
def _commit() -> str:
    git = ["git", "-C", str(paths.root()), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git here: the versions in the digest still tell
        return ""


def source(task: str, method: str) -> dict[str, Any]:
    """Where a result comes from, recorded beside it: the commit, and checksums of the method's and the task's files."""
    methods = paths.root() / "common" / "methods"
    return {"commit": _commit(), "method": _sums(methods, f"{method}.py")[f"{method}.py"], "task": _files(task)}


def _files(task: str) -> dict[str, str]:
    """The task's Python files, those in folders of its own too, and their checksums."""
    return _sums(paths.root() / "tasks" / task, "**/*.py")


@cache
def _sums(folder: Path, pattern: str) -> dict[str, str]:
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.glob(pattern))}
    return {name: hashlib.sha256(content).hexdigest()[:12] for name, content in contents.items()}


def edited(stages: Iterable[Stage]) -> list[str]:
    """Sentences that name the files, of methods and of the task, that were edited since finished stages were trained.

    Of each method one stage speaks for all; of before the task's files were recorded, it says nothing of them.
    """
    seen: set[str] = set()
    found: dict[str, dict[str, None]] = defaultdict(dict)  # what to raise -> the files, in the order they were met in
    for stage in stages:
        if stage.state != "done" or stage.method in seen:
            continue
        try:
            then = record.read_config(stage.folder)["source"]
            now, method, files = source(stage.task, stage.method), then["method"], dict(then.get("task", {}))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
            continue
        seen.add(stage.method)
        if method != now["method"]:
            found["common/methods/"][f"{stage.method}.py"] = None
        others = {name for name in files | now["task"] if files.get(name) != now["task"].get(name)} if files else ()
        found[f"tasks/{stage.task}/"] |= dict.fromkeys(sorted(others))
    lines = []
    for folder, names in found.items():
        if not names:
            continue
        was, its = ("was", "its version") if len(names) == 1 else ("were", "the versions of those")
        raised = its if folder == "common/methods/" else f"version in {folder}config.py"
        some = wording.some(list(names), MOST_EDITED)
        lines.append(f"{folder}: {some} {was} edited since these were trained; if results change by it, raise {raised}")
    return lines


def explain(task: str, wanted: dict[str, dict]) -> dict[str, str]:
    """Digest -> reason, for those of ``wanted`` (digest -> configuration) that have a neighbour outside of it.

    A neighbour is of the same method, level, fold and seed on the same data set and model.
    """
    neighbours = _neighbours(paths.runs() / task, wanted)
    reasons = {}
    for digest, own in wanted.items():
        found = [differences(own, other) for other in neighbours[own["label"]] if _place(other) == _place(own)]
        if found:
            few = min(found, key=len)
            reasons[digest] = f"never trained with {wording.some(few, 3)}" if few else "its parent is new"
    return reasons


def tally(stages: Iterable[Stage]) -> list[str]:
    """Lines that add up: how many of the new stages are so for which reason; none where there is nothing to compare."""
    found = Counter(stage.why for stage in stages if stage.state == "new")
    total, names = found.total(), {NEVER: f"{NEVER}, with these settings or others"}
    lines = [f"{n} of {total} new: {names.get(reason, reason)}" for reason, n in found.most_common()]
    more = [f"... and {len(lines) - MOST_REASONS} more reasons"] * (len(lines) > MOST_REASONS)
    return [*lines[:MOST_REASONS], *more] if set(found) - {NEVER} else []


def settings(own: dict, other: dict) -> list[tuple[str, object, object]]:
    """Every setting that determines results and is not the same: its name, the value of ``own`` and of ``other``."""
    found = []
    for group, cls in groups.classes(own["task"], own["method"]).items():
        values = other["settings"][group]
        for f in dataclasses.fields(cls):
            value, there = own["settings"][group][f.name], values.get(f.name, f.metadata.get("neutral", "unknown"))
            if f.metadata.get("identity", True) and value != there:
                found.append((f"{group}.{f.name}", value, there))
    return found


def differences(own: dict, other: dict) -> list[str]:
    """Every setting, version or data set that determines results and is not the same, as text."""
    found = [f"{key}={value} (there is {there})" for key, value, there in settings(own, other)]
    raised = [(name, now, other["versions"].get(name)) for name, now in own["versions"].items()]
    found += [f"{name} version {now} (there is {then})" for name, now, then in raised if now != then]
    return found + (["these data files (there are others)"] if own["data"] != other.get("data") else [])


def _place(content: dict) -> tuple:
    """The data set and the model, where the task has several: what was trained on another is no neighbour."""
    return tuple(content["settings"]["task"].get(name) for name in ("dataset", "model"))


def _neighbours(where: Path, wanted: dict) -> dict[str, list[dict]]:
    """Configurations in folders that are not wanted, by label (method, level, seed); unreadable ones are left out."""
    found: dict[str, list[dict]] = defaultdict(list)
    folders = where.iterdir() if where.is_dir() else ()
    for folder in islice((folder for folder in folders if folder.name not in wanted), MOST):
        try:
            content = yaml.load(paths.config(folder).read_text(), Loader=Loader)
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if whole(content):
            found[content["label"]].append(content)
    return found


def whole(content: object) -> bool:
    """Does a configuration have the parts that are compared here?"""
    try:
        if not isinstance(content, dict):
            return False
        parts = [content["versions"], *(content["settings"][group] for group in GROUPS)]
        return isinstance(content["label"], str) and all(isinstance(part, dict) for part in parts)
    except (LookupError, TypeError):
        return False
