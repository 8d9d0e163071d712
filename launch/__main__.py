"""``python -m launch <verb> key=value ...``: one function a verb; ``make <verb>`` calls it with the same words."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from common import paths, registry
from common.errors import UserError, nearest
from launch import grid, words
from launch.words import Request


def plan(request: Request) -> int:
    """what a sweep would train: new, done, shared and why; nothing is started or written"""
    from launch import plan as planner

    wanted = planner.make(request)
    _cluster(request)
    print(json.dumps(planner.document(wanted)) if request.format == "json" else planner.text(wanted))
    return 0


def sweep(request: Request) -> int:
    """train what is missing, then the table, the curves and the MLflow view; repeat it at will"""
    from launch import plan as planner

    _usable(paths.runs(), "RUNS", write=True)
    _usable(paths.reports(), "REPORTS", write=True)
    wanted = planner.make(request)
    workers = _cluster(request)
    print(planner.text(wanted), flush=True)
    code = 0
    if todo := wanted.todo():
        folder = planner.write(wanted)
        from launch import local
        from launch.progress import Progress

        print(f"training {len(todo)} stages here; Ctrl-C stops, the same command goes on from there", flush=True)
        result = local.run(todo, workers, Progress(), folder)
        code = result.code
        if result.error:
            print(f"error: the workers gave up: {result.error}", file=sys.stderr)
        if result.error or result.interrupted:
            return code
    else:
        print("everything asked for is done")
    return _show(wanted) or code


def _show(wanted) -> int:
    """The end of a sweep: table and curves of what was asked for, what failed, MLflow."""
    from launch import records, sync

    found = records.read(wanted.task)
    own = [r for r in found if r.digest in wanted.stages]
    failed = [r for r in own if r.state in ("failed", "blocked")]
    _write_report(wanted.task, found, set(wanted.wished))
    for stage in failed[:10]:
        where = f" (traceback in {paths.error(stage.folder)})" if stage.state == "failed" else ""
        print(f"{stage.state}: {stage.method} {stage.digest}: {stage.status.get('reason')}{where}")
    lost = set(wanted.wished) - {r.digest for r in own if r.state == "done"}
    if len(failed) > 10:
        print(f"... and {len(failed) - 10} more: `make status` lists them")
    print("MLflow is brought up to date ...", flush=True)
    try:
        sync.sync(found, paths.runs())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if len(lost) > len(failed):
        print(f"error: {len(lost)} stages asked for are not finished; `make status` names them", file=sys.stderr)
    print("all runs side by side: make ui (MLflow)")
    return 1 if lost else 0


def _write_report(task: str, found: list, wished: set[str] | None) -> None:
    """Print the table and write the report: of the stages ``wished`` among the records ``found``, or of all."""
    from launch import report

    shown = [r for r in found if wished is None or r.digest in wished]
    print("\n" + report.table(shown) + "\n", flush=True)
    try:
        written = report.write(task, found, shown, paths.reports())
    except OSError as error:
        raise UserError(
            f"cannot write the report to {paths.reports()} ({error.strerror or error}); REPORTS=<folder> chooses "
            f"another. The results themselves are safe in {paths.runs()}"
        ) from None
    for note in written.notes:
        print(f"note: {note}")
    print(f"results: {_short(written.csv)} (every finished stage) and {_short(written.markdown)}")
    for figure in written.figures:
        print(f"figure:  {_short(figure)}")


def _short(path: Path) -> str:
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)


def status(request: Request) -> int:
    """how far every stage is; reads files only"""
    from launch import records
    from launch import status as view

    if "task" in request.given:
        registry.task_part(request.task, "config")
    document = view.status(records.read(request.task if "task" in request.given else None))
    print(json.dumps(document) if request.format == "json" else view.text(document))
    return 0


def report(request: Request) -> int:
    """reports/<task>/results.csv, tables and curves: of all that is done, or of what the same words would sweep"""
    from launch import plan as planner
    from launch import records

    registry.task_part(request.task, "config")
    chosen = set(request.given) - {"task"}
    wished = set(planner.make(request).wished) if chosen else None
    found = records.read(request.task)
    if not any(r.done and (wished is None or r.digest in wished) for r in found):
        raise UserError(
            f"nothing of this is finished for task {request.task} in {paths.runs()}: 'make sweep' with the same words "
            "trains it, 'make status' shows what there is"
        )
    _write_report(request.task, found, wished)
    return 0


def sync(request: Request) -> int:
    """fill MLflow from runs/"""
    from launch import records
    from launch import sync as view

    result = view.sync(records.read(), paths.runs())
    print(f"MLflow has everything: {result.new_runs} new runs, {result.points} new values, {result.skipped} unchanged")
    return 0


def ui(request: Request) -> int:
    """open the MLflow UI, kept up to date while it is open"""
    from launch import ui as view

    view.ui(paths.runs(), _number(request.port or "5000", "port", 1, 65535))
    return 0


def prepare(request: Request) -> int:
    """fetch and check the data a task's settings name, into DATA or data/<task>/"""
    for settings in grid.data_sets(request):
        registry.task_part(request.task, "prepare").prepare(settings)
    return 0


def test(request: Request) -> int:
    """run the tests; ARGS="-k name" for some"""
    try:
        arguments = shlex.split(os.environ.get("ARGS", ""))
    except ValueError as error:
        raise UserError(f"ARGS must be words for pytest, found {os.environ['ARGS']!r} ({error})") from None
    return subprocess.call([sys.executable, "-m", "pytest", *arguments], cwd=paths.root())


def lint(request: Request) -> int:
    """check the style"""
    checks = (["check", "."], ["format", "--check", "."])
    return max(subprocess.call([sys.executable, "-m", "ruff", *check], cwd=paths.root()) for check in checks)


def help(request: Request) -> int:
    """verbs, keys, tasks and methods; METHOD= or TASK= lists their settings"""
    from launch import help as view

    print(view.settings(request) if {"method", "task"} & set(request.given) else view.text(VERBS))
    return 0


def _cluster(request: Request) -> int | None:
    """The number of local workers asked for, None for the default. ``UserError`` for a cluster there is no file for."""
    folder = paths.root() / "launch" / "clusters"
    known = sorted(f.stem for f in folder.glob("*.yaml"))
    if request.cluster not in known:
        hint = nearest(request.cluster, known)
        raise UserError(f"unknown cluster {request.cluster!r}{hint} (launch/clusters has: {', '.join(known)})")
    workers = request.workers or grid.read_yaml(folder / f"{request.cluster}.yaml").get("workers", 0)
    return _number(str(workers), "workers (0: one per core)", 0, 4096) or None


def _number(text: str, name: str, least: int, most: int) -> int:
    try:
        if least <= int(text) <= most:
            return int(text)
    except ValueError:
        pass
    raise UserError(f"{name} must be a whole number from {least} to {most}, found {text!r}")


def _usable(folder: Path, name: str, write: bool = False) -> None:
    """``UserError`` where ``folder`` is no folder and cannot become one, or cannot be written to."""
    try:
        place = next(path for path in (folder, *folder.parents) if path.exists())
        problem = "" if place.is_dir() else f"{place} is not a folder"
    except OSError as error:
        place, problem = folder, error.strerror or str(error)
    if write and not problem and not os.access(place, os.W_OK | os.X_OK):
        problem = f"{place} cannot be written to"
    if problem:
        raise UserError(f"{name} is {folder}: {problem}; {name}=<folder> chooses another")


VERBS = {f.__name__: f for f in (plan, sweep, status, report, ui, sync, prepare, test, lint, help)}


# The words each verb listens to; what others are given is said, so that nobody takes one for a filter.
LISTENS = {
    "plan": {"task", "method", "preset", "data", "cluster", "workers", "format"},
    "sweep": {"task", "method", "preset", "data", "cluster", "workers"},
    "prepare": {"task", "preset", "data"},
    "status": {"task", "format"},
    "report": {"task", "method", "preset", "data"},
    "help": {"task", "method", "preset"},
    "ui": {"port"},
}


def main(arguments: list[str]) -> int:
    """Run one verb; the exit code: 0, 1 (something asked for failed), 2 (a bad request), 130 (interrupted)."""
    name = arguments[0] if arguments else "help"
    name = "help" if name in ("-h", "--help") else name
    try:
        if name not in VERBS:
            raise UserError(f"unknown verb {name!r}{nearest(name, VERBS)} (verbs: {', '.join(VERBS)})")
        request = words.parse(arguments[1:])
        takes_settings = name in ("plan", "sweep", "prepare", "report")
        unused = [k for k in request.given if k not in LISTENS.get(name, ()) and not ("." in k and takes_settings)]
        if unused:
            print(f"note: {name} does not use {', '.join(sorted(unused))}", file=sys.stderr)
        if name not in ("test", "lint", "help", "prepare"):
            _usable(paths.runs(), "RUNS")
        code = VERBS[name](request)
        sys.stdout.flush()  # here, where a reader that is gone is no error
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `make status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if name == "sweep":
            print("error: who read the output is gone; the same command goes on from here", file=sys.stderr)
        return 1 if name == "sweep" else 0


if __name__ == "__main__":
    if sys.stdout is None:  # closed by the caller (>&-)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    sys.stdout.reconfigure(errors="replace")  # a terminal that has no ± still gets its table
    sys.exit(main(sys.argv[1:]))
