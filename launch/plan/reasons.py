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


@cache
def source(method: str) -> dict[str, str]:
    """Where a result comes from, recorded beside it: the commit, and a checksum of the method's file."""
    content = (paths.root() / "common" / "methods" / f"{method}.py").read_bytes()
    return {"commit": _commit(), "method": hashlib.sha256(content).hexdigest()[:12]}


def edited(stages: Iterable[Stage]) -> str:
    """A sentence naming the methods whose files are not those that their finished stages were trained with; or ""."""
    changed: dict[str, bool] = {}
    for stage in stages:
        if stage.state == "done" and stage.method not in changed:  # one of them speaks for all
            try:
                then = record.read_config(stage.folder)["source"]["method"]
            except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
                continue
            changed[stage.method] = then != source(stage.method)["method"]
    if not (files := [f"{method}.py" for method, other in changed.items() if other]):
        return ""
    was, its = ("was", "its version") if len(files) == 1 else ("were", "the versions of those")
    names = wording.some(files, MOST_EDITED)
    return f"common/methods/: {names} {was} edited since these were trained; if results change by it, raise {its}"


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
