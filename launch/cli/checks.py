"""Checks of the words and folders that every verb shares."""

import os
import re
from pathlib import Path

from common.errors import UserError


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
        place = next(path for path in (folder, *folder.parents) if path.exists())
        problem = "" if place.is_dir() else f"{place} is not a folder"
    except OSError as error:
        place, problem = folder, error.strerror or str(error)
    if re.search(r"%[0-9a-fA-F]{2}|\\", str(folder)):  # MLflow decodes the former, Slurm the latter
        problem = "a backslash, or % with two hexadecimal digits, cannot be part of it"
    if write and not problem and not os.access(place, os.W_OK | os.X_OK):
        problem = f"{place} cannot be written to"
    if problem:
        raise UserError(f"{name} is {folder}: {problem}; {name}=<folder> chooses another")
