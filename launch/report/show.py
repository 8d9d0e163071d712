"""The end of a sweep and of ``make report``: the table on the terminal, and where the files are."""

import os
from pathlib import Path

from common import paths
from common.errors import UserError
from launch.runs.records import Record


def write_report(task: str, all_stages: list[Record], wished: set[str] | None) -> None:
    """Print the table and write the report: of the stages ``wished`` among the records ``all_stages``, or of all."""
    from launch.report import tables

    report = tables.arrange(task, all_stages, [r for r in all_stages if wished is None or r.digest in wished])
    print(f"\n{report.text()}\n", flush=True)
    try:
        written = report.write(paths.reports())
    except OSError as error:
        raise UserError(
            f"cannot write the report to {paths.reports()} ({error.strerror or error}); REPORTS=<folder> chooses "
            f"another. The results themselves are safe in {paths.runs()}"
        ) from None
    for note in written.notes:
        print(f"note: {note}")
    if not report.boards:
        return
    print(f"results: {short(written.csv)} (every finished stage) and {short(written.markdown)}")
    for figure in written.figures:
        print(f"figure:  {short(figure)}")


def short(path: Path) -> str:
    """A path as it is seen from the current folder, where it is in there."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)
