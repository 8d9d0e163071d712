"""The verbs that look, and those that tidy up: status, tail, why, report, sync, ui, cancel, clean, test, lint, docs."""

import json
import os
import shlex
import subprocess
import sys

from common import paths, record, registry
from common.errors import UserError
from launch.cli.checks import number
from launch.report.show import short, write_report
from launch.request.arguments import Request


def status(request: Request) -> int:
    """how far every stage is; METHOD= for some, LAST=1000 for names; WATCH=1 looks until everything has ended"""
    from launch.monitor import status
    from launch.slurm import queue, states

    task = _task(request)
    for name in request.methods:
        registry.method(name)

    def read(asks=queue.ask) -> list:
        return [r for r in states.read(task, asks=asks) if not request.methods or r.method in request.methods]

    if request.watch == "1":
        asks = queue.remembering()
        return status.watch(lambda: read(asks))
    names = number(request.last, "last", 1, 100000) if request.last else None
    document = status.status(read())
    print(json.dumps(document) if request.format == "json" else status.text(document, names))
    return 0


def tail(request: Request) -> int:
    """the last lines that RUN=<first letters> recorded and printed; WATCH=1 follows"""
    from launch.monitor import tail
    from launch.runs import records
    from launch.slurm import states

    lines = number(request.last or "20", "last", 1, 100000)
    return tail.tail(records.find(_named(request), states.read(_task(request))), lines, request.watch == "1")


def why(request: Request) -> int:
    """why RUN=<first letters> is where it is: reason, last lines of the error, node, attempts, time used"""
    from launch.monitor import why
    from launch.runs import records
    from launch.slurm import states

    found = states.read(_task(request))
    print(why.why(records.find(_named(request), found), found))
    return 0


def cancel(request: Request) -> int:
    """take what is queued or running off the cluster: all, or of TASK=, METHOD=, RUN=; asks (YES=1 does not)"""
    from launch.monitor import cancel

    return cancel.cancel(*_filtered(request), _asks(request))


def clean(request: Request) -> int:
    """remove what is no longer needed; WEIGHTS=1 finished weights too, METHOD= or RUN= whole stages; asks"""
    from launch.monitor import clean

    chosen, found = _filtered(request)
    # all leftovers go, whichever stage they are of; weights and whole stages are those asked for
    named = {"method", "run"} | ({"task"} if request.weights == "1" else set())
    whole = chosen if named & set(request.given) else None
    descendants = request.descendants == "1"
    return clean.clean(clean.plan(found, whole, request.weights == "1", descendants), _asks(request))


def report(request: Request) -> int:
    """reports/<task>/results.csv, tables and curves: of all that is done, or of what the same words would sweep"""
    from launch.plan import planner
    from launch.slurm import states

    registry.task_part(request.task, "config")
    chosen = set(request.given) - {"task"}
    stages = planner.make(request) if chosen else None
    wished = set(stages.wished) if stages else None
    found = states.read(request.task)
    done = [r for r in found if r.done and (wished is None or r.digest in wished)]
    # the dense line comes with every method: alone, it is no report of those asked for
    lacking = [name for name in request.methods if name not in {r.method for r in done}]
    others = _others(found, stages, lacking) if stages and (lacking or not done) else ""
    nothing = f"nothing of {', '.join(lacking) or 'this'}{' with these settings' * bool(others)} is finished"
    if not done or (lacking and lacking == request.methods):
        raise UserError(
            f"{nothing} for task {request.task} in {paths.runs()}: 'make sweep' with the same words trains it, "
            f"'make status' shows what there is{others}{_elsewhere(request)}"
        )
    write_report(request.task, found, wished)
    if lacking:
        print(f"note: {nothing}: `make sweep` with the same words trains it{others}")
    return 0


def _others(found: list, plan, lacking: list[str]) -> str:
    """What of the methods ``lacking`` (or, of none, of all asked for) is finished with other settings; "" for nothing.

    With the words that lead from one of the stages asked for to the nearest that is there.
    """
    from launch.plan import reasons
    from launch.request import variants
    from launch.runs import records, wording

    old = records.outdated(found)
    wished = [plan.stages[digest].config for digest in reversed(plan.wished)]
    wished = {own["method"]: own for own in wished if own["method"] in lacking or not lacking}
    alike = {own["label"]: own for own in (plan.stages[digest].config for digest in plan.wished)}
    there = [r for r in found if r.done and r.digest not in old and r.method in wished and reasons.whole(r.config)]
    if not there:
        return ""
    pairs = [(alike.get(r.config["label"], wished[r.method]), r) for r in there]
    own, nearest = min(pairs, key=lambda pair: len(reasons.differences(pair[0], pair[1].config)))
    words = [
        f"{key}={variants.text(value)}".replace(", ", ",") for key, _, value in reasons.settings(own, nearest.config)
    ]
    if own["data"] != nearest.config.get("data"):
        words.append(f"task.data={nearest.config['settings']['task'].get('data') or '<other data>'}")
    methods = ", ".join(dict.fromkeys(r.method for r in there))
    told = f", such as {nearest.method} with {' '.join(words)}" if words else ""
    are = "is" if len(there) == 1 else "are"
    return f". With other settings there {are} {wording.amount(len(there), 'stage')} of {methods}{told}"


def _elsewhere(request: Request) -> str:
    """The tasks of which something is finished, where the request names none."""
    from launch.slurm import states

    others = sorted({r.task for r in states.read() if r.done} - {request.task}) if "task" not in request.given else []
    return f". Of other tasks something is: TASK={', TASK='.join(others)}" if others else ""


def sync(request: Request) -> int:
    """fill MLflow from runs/"""
    from launch.mlflow_view import sync
    from launch.runs import wording
    from launch.slurm import states

    result = sync.sync(states.read(), paths.runs())
    new = f"{wording.amount(result.new_runs, 'new run')}, {wording.amount(result.points, 'new value')}"
    print(f"MLflow has everything: {new}, {result.skipped} unchanged")
    return 0


def ui(request: Request) -> int:
    """open the MLflow UI, kept up to date while it is open"""
    from launch.mlflow_view import ui

    ui.ui(paths.runs(), number(request.port or "5000", "port", 1, 65535))
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


def docs(request: Request) -> int:
    """write docs/methods.md anew, from the code of the methods"""
    from launch.cli import methods_page

    path, page = paths.root() / "docs" / "methods.md", methods_page.text()
    silent = [name for name in registry.methods() if not methods_page.declared(name)]
    try:
        same = path.exists() and path.read_text() == page
        if not same:
            path.parent.mkdir(exist_ok=True)
            record.write_text(path, page)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror or error})") from None
    print(f"{short(path)} {'is what the code says' if same else 'is written'}")
    if silent:
        print(f"without {', '.join(silent)}: no facts = Facts(...) in class Method (common/methods/families/facts.py)")
    return 0


def _task(request: Request) -> str | None:
    """The task asked for, checked; None for all."""
    if "task" not in request.given:
        return None
    registry.task_part(request.task, "config")
    return request.task


def _named(request: Request) -> str:
    if not request.run:
        raise UserError(
            "which stage? expected RUN=<the first letters of its name>: `make status LAST=1000` names those that are "
            "not done, reports/<task>/results.csv those that are"
        )
    return request.run


def _filtered(request: Request) -> tuple[list, list]:
    """The records that TASK, METHOD and RUN choose, and those of every task."""
    from launch.runs import records
    from launch.slurm import states

    for name in request.methods:
        registry.method(name)
    task, found = _task(request), states.read()
    chosen = [records.find(request.run, found)] if request.run else found
    chosen = [r for r in chosen if task in (None, r.task)]
    return [r for r in chosen if not request.methods or r.method in request.methods], found


def _asks(request: Request):
    """What asks before something is lost; YES=1 answers it."""
    from launch.cli.ask import confirm

    return lambda question: confirm(question, request.yes == "1")
