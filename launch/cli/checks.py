"""Checks of the words and folders that every verb shares."""

import os
import re
from pathlib import Path

from common.errors import UserError

# MLflow ends the path of its database at a question mark and decodes %20; Slurm replaces %j, %4a and the like in the
# names of logs, and drops backslashes; neither takes control characters, or bytes that are no UTF-8.
_BARRED = re.compile(r"%[0-9A-Za-z%]|[?\\\x00-\x1f\x7f\ud800-\udfff]")


def number(text: str, name: str, least: int, most: int) -> int:
    """A whole number from ``least`` to ``most``; ``UserError`` otherwise."""
    try:
        if least <= int(text) <= most:
            return int(text)
    except ValueError:
        pass
    raise UserError(f"{name} must be a whole number from {least} to {most}, found {text!r}")


def usable(folder: Path, name: str, write: bool = False) -> None:
    """``UserError`` where ``folder`` is no folder and cannot become one, or cannot be written to."""
    try:
        place = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
        problem = "" if place.is_dir() else f"{place} is not a folder"
        if place.is_symlink() and not place.exists():
            problem = f"{place} is a link to {os.readlink(place)}, which is not there"
    except OSError as error:
        place, problem = folder, error.strerror or str(error)
    if not str(folder).strip():
        problem = "nothing but white space names no folder"
    if barred := _BARRED.search(str(folder)):
        problem = f"{barred[0]!r} cannot be part of it (MLflow or Slurm would read another path)"
    if write and not problem and not os.access(place, os.W_OK | os.X_OK):
        problem = f"{place} cannot be written to"
    if problem:
        shown = str(folder).encode(errors="backslashreplace").decode()
        raise UserError(f"{name} is {shown}: {problem}; {name}=<folder> chooses another")
