"""Ask before something is lost."""

import sys

from common.errors import UserError


def confirm(question: str, yes: bool = False) -> bool:
    """Put ``question`` to who sits at the terminal; ``yes`` answers it. ``UserError`` where nobody can be asked."""
    if yes:
        return True
    if not (sys.stdin and sys.stdin.isatty()):
        raise UserError(f"{question} Nobody can be asked here: expected a terminal, or YES=1. Nothing was changed")
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
