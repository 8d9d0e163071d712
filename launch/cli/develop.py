"""The verbs for who works on the code: test, lint, docs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from common import paths, record, registry
from common.errors import UserError
from launch.cli import methods_page, verbs
from launch.report.show import short
from launch.request.arguments import Request

PACKAGES = ("common", "launch", "tasks")
LIST = re.compile(r"(?<=^# >>> written by `make docs` from launch/cli/verbs.py\n).*?(?=^# <<<$)", re.M | re.S)


def test(request: Request) -> int:
    """Run pytest with the words of ARGS."""
    try:
        arguments = shlex.split(os.environ.get("ARGS", ""))
    except ValueError as error:
        raise UserError(f"ARGS must be words for pytest, found {os.environ['ARGS']!r} ({error})") from None
    return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=paths.root())


def lint(request: Request) -> int:
    """Run every checker to its end; 0 where none complains."""
    checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", *PACKAGES])
    return max(subprocess.call([sys.executable, "-m", *check], cwd=paths.root()) for check in checks)


def docs(request: Request) -> int:
    """Write docs/methods.md and the list in the Makefile."""
    pages = {paths.root() / "docs" / "methods.md": methods_page.text()}
    makefile = paths.root() / "Makefile"
    if makefile.exists():  # a copy of the packages alone has none
        pages[makefile] = listed(makefile.read_text())
    for path, page in pages.items():
        print(f"{short(path)} {'is written' if _write(path, page) else 'is what the code says'}")
    if silent := [name for name in registry.methods() if not methods_page.declared(name)]:
        print(f"without {', '.join(silent)}: no facts = Facts(...) in class Method (common/methods/families/facts.py)")
    return 0


def listed(makefile: str) -> str:
    """The text of the Makefile with its list of verbs and variables as ``verbs.py`` has them."""
    return LIST.sub(lambda _: verbs.makefile(), makefile)


def _write(path: Path, page: str) -> bool:
    """Was there anything to write?"""
    try:
        if path.exists() and path.read_text() == page:
            return False
        path.parent.mkdir(exist_ok=True)
        record.write_text(path, page)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror or error})") from None
    return True
