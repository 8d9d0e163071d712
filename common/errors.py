"""The one exception a user is meant to read."""

import sys
from collections.abc import Iterable


class UserError(Exception):
    """A mistake the user can mend: says what was expected, what was found, and which command helps."""


def install(requirement: str) -> str:
    """The command that installs a package into the environment in use, wherever that is."""
    return f"{sys.executable} -m pip install {requirement}"


def reason(problem: Exception, most: int = 300) -> str:
    """The kind of an exception and the beginning of what it says, on one line."""
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:most]}"


def nearest(name: object, valid: Iterable[object], alike: float = 0.5) -> str:
    """A hint such as ``; did you mean 'rigl'?`` for a misspelt ``name``, else "". ``alike``: at least so much."""
    import difflib

    match = difflib.get_close_matches(str(name), [str(v) for v in valid], n=1, cutoff=alike)
    return f"; did you mean '{match[0]}'?" if match else ""


def complain(complaints: dict[str, str]) -> None:
    """Complaint -> where it comes from; everything in one ``UserError``."""
    lines = [f"{origin}{complaint}" for complaint, origin in complaints.items()]
    if lines:
        raise UserError(lines[0] if len(lines) == 1 else f"{len(lines)} settings cannot work:\n  " + "\n  ".join(lines))
