"""The end of a sweep and of ``make report``: the table on the terminal, and where the files are."""

import os
from pathlib import Path

from common import paths
from common.errors import UserError


def write_report(task: str, found: list, wished: set[str] | None) -> None:
    """Print the table and write the report: of the stages ``wished`` among the records ``found``, or of all."""
    from launch.report import tables

    shown = [r for r in found if wished is None or r.digest in wished]
    table = tables.table(shown, found)
    print(f"\n{table}\n", flush=True)
    try:
        written = tables.write(task, found, shown, paths.reports())
    except OSError as error:
        raise UserError(
            f"cannot write the report to {paths.reports()} ({error.strerror or error}); REPORTS=<folder> chooses "
            f"another. The results themselves are safe in {paths.runs()}"
        ) from None
    for note in written.notes:
        print(f"note: {note}")
    if table == tables.NONE:
        return
    print(f"results: {short(written.csv)} (every finished stage) and {short(written.markdown)}")
    for figure in written.figures:
        print(f"figure:  {short(figure)}")


def short(path: Path) -> str:
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)
