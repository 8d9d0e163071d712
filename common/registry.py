"""Tasks and methods by name: ``TASK=protein`` is ``tasks/protein/``, ``METHOD=rigl`` is ``common/methods/rigl.py``."""

import traceback
from functools import cache
from importlib import import_module
from typing import Any

from common import hooks, paths
from common.errors import UserError, nearest

METHODS_BASE = "common.methods.families.base"  # where the class is that every method inherits from


def tasks() -> list[str]:
    """The names of all tasks, sorted."""
    return sorted(f.parent.name for f in (paths.root() / "tasks").glob("*/config.py"))


def methods() -> list[str]:
    """The names of all methods, sorted."""
    return sorted(f.stem for f in (paths.root() / "common" / "methods").glob("*.py") if f.stem != "__init__")


def _known(kind: str, name: str, valid: list[str]) -> None:
    if name not in valid:
        hint = nearest(name, valid)
        raise UserError(f"unknown {kind} {name!r}{hint} ({kind}s: {', '.join(valid)}; 'make help' lists them)")


@cache  # a plan of ten thousand stages asks a hundred thousand times
def task_part(task: str, part: str) -> Any:
    """The module ``tasks.<task>.<part>``: config, prepare, data, model or trainer."""
    _known("task", task, tasks())
    return import_module(f"tasks.{task}.{part}")


@cache
def method(name: str) -> Any:
    """The ``Method`` class of ``common/methods/<name>.py``; no torch is imported. ``UserError``: it has a mistake."""
    _known("method", name, methods())
    try:
        module = import_module(f"common.methods.{name}")
    except SyntaxError as error:
        raise UserError(f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}") from error
    except Exception as error:  # whatever the lines of a file under work raise
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if f.filename.endswith(f"methods/{name}.py")] or frames
        raise UserError(f"{own[-1].filename}, line {own[-1].lineno}: {type(error).__name__}: {error}") from error
    if not hasattr(module, "Method"):
        raise UserError(f"common/methods/{name}.py must define a class named Method (docs/method.md shows one)")
    base = next((one for one in _line(module.Method) if one.__module__ == METHODS_BASE), None)
    if base is None:
        raise UserError(
            f"common/methods/{name}.py: class Method must inherit from {METHODS_BASE}.Method (docs/method.md)"
        )
    hooks.check(module.Method, base)
    return module.Method


def _line(cls: Any) -> tuple[type, ...]:
    return cls.__mro__ if isinstance(cls, type) else ()
