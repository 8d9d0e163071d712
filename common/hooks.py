"""Are the names that a class defines those that its base calls? A misspelt hook would be ignored without a word."""

import ast
import inspect
from pathlib import Path
from typing import Any

from common.errors import UserError, nearest

LIKE = 0.8  # how alike two names are of which one is meant to be the other, in [0, 1]


def check(cls: type, base: type) -> None:
    """``UserError`` where ``cls``, or what it inherits from below ``base``, defines a name that is meant as a hook.

    Meant is a public name that the class does not use itself (as ``self.name``, ``super().name`` or called of another
    of its kind) and that its parents do not have, if it is spelt nearly as one of theirs, or takes what one takes.
    """
    line = [one for one in cls.__mro__ if one is not base and issubclass(one, base)]
    used: set[str] | None = None
    wrong = []
    for one in line:
        parents = {name for parent in one.__mro__[1:] for name in vars(parent) if not name.startswith("_")}
        for name in [name for name in vars(one) if not name.startswith("_") and name not in parents]:
            hint = nearest(name, parents, LIKE)
            if not hint and not _taking(vars(one)[name], base):
                continue
            used = _used(line) if used is None else used
            if name not in used:
                takes = "" if hint else f" (hooks: {', '.join(sorted(_hooks(base)))})"
                wrong.append(f"{one.__module__}: nothing calls {one.__name__}.{name}{hint}{takes}")
    if wrong:
        raise UserError(
            "; ".join(wrong) + ". Rename it to the hook that is meant, or begin its name with _ if it is none"
        )


def _hooks(base: type) -> dict[str, tuple[str, ...]]:
    """The base's public functions that are given something, each with the names of its parameters beside self."""
    found = {n: _parameters(value) for n, value in vars(base).items() if not n.startswith("_")}
    return {name: parameters for name, parameters in found.items() if parameters}


def _parameters(value: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(value).parameters)[1:] if inspect.isfunction(value) else ()


def _taking(value: Any, base: type) -> bool:
    """Is it a function that could be called as a hook is?"""
    return _parameters(value) in _hooks(base).values()


def _used(classes: list[type]) -> set[str]:
    """The names of their own that the files of these classes use."""
    files = {inspect.getsourcefile(cls) for cls in classes}
    found: set[str] = set()
    for file in filter(None, files):
        tree = ast.parse(Path(file).read_text())
        imported = {
            n.asname or n.name for x in ast.walk(tree) if isinstance(x, ast.Import | ast.ImportFrom) for n in x.names
        }
        for node in ast.walk(tree):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Attribute) and _own(node.value):
                found.add(node.attr)
            elif isinstance(called, ast.Attribute) and _named(called.value) not in {"", "state", *imported}:
                found.add(called.attr)
    return found


def _named(value: ast.expr) -> str:
    """The variable that it is; "" where it is none."""
    return value.id if isinstance(value, ast.Name) else ""


def _own(value: ast.expr) -> bool:
    """Is it ``self``, ``cls`` or ``super()``?"""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "super"
    return _named(value) in ("self", "cls")
