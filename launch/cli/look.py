"""The verbs that look, and those that tidy up: status, tail, why, report, sync, ui, cancel, clean."""

import json

from common import paths, registry
from common.errors import UserError
from launch import wording
from launch.cli.ask import confirm
from launch.cli.checks import number
from launch.plan import planner, reasons
from launch.plan.planner import Plan
from launch.report.show import write_report
from launch.request import variants
from launch.request.arguments import Request
from launch.runs import records
from launch.runs.records import Record
from launch.slurm import live_records, queue


def status(request: Request) -> int:
    """Print the state of every stage, once or again and again."""
    from launch.monitor import status

    task, asks = _task(request), queue.remembering() if request.watch == "1" else queue.ask
    for name in request.methods:
        registry.method(name)

    def read() -> list[Record]:
        return [r for r in live_records.read(task, asks=asks) if not request.methods or r.method in request.methods]

    if request.watch == "1":
        return status.watch(read)
    names = number(request.last, "last", 1, 100000) if request.last else None
    document = status.status(read())
    print(json.dumps(document) if request.format == "json" else status.text(document, names))
    return 0


def tail(request: Request) -> int:
    """Print the last lines of one stage, and follow it if asked to."""
    from launch.monitor import tail

    lines = number(request.last or "20", "last", 1, 100000)
    return tail.tail(records.find(_named(request), live_records.read(_task(request))), lines, request.watch == "1")


def why(request: Request) -> int:
    """Print what is known about one stage."""
    from launch.monitor import why

    all_stages = live_records.read(_task(request))
    print(why.why(records.find(_named(request), all_stages), all_stages))
    return 0


def cancel(request: Request) -> int:
    """Take stages off the cluster."""
    from launch.monitor import cancel

    return cancel.cancel(*_filtered(request), lambda question: confirm(question, request.yes == "1"))


def clean(request: Request) -> int:
    """Delete what is not needed, or what was asked for."""
    from launch.monitor import clean

    chosen, all_stages = _filtered(request)
    # all leftovers go, whichever stage they are of; weights and whole stages are those asked for
    named = {"method", "run"} | ({"task"} if request.weights == "1" else set())
    whole = chosen if named & set(request.given) else None
    cleaning = clean.plan(all_stages, whole, request.weights == "1", request.descendants == "1")
    return clean.clean(cleaning, lambda question: confirm(question, request.yes == "1"))


def report(request: Request) -> int:
    """Print the tables and write the report."""
    registry.task_part(request.task, "config")
    chosen = set(request.given) - {"task"}
    stages = planner.make(request) if chosen else None
    wished = set(stages.wished) if stages else None
    all_stages = live_records.read(request.task)
    done = [r for r in all_stages if r.done and (wished is None or r.digest in wished)]
    # the dense line comes with every method: alone, it is no report of those asked for
    lacking = [name for name in request.methods if name not in {r.method for r in done}]
    others = _others(all_stages, stages, lacking) if stages and (lacking or not done) else ""
    nothing = f"nothing of {', '.join(lacking) or 'this'}{' with these settings' * bool(others)} is finished"
    if not done or (lacking and lacking == request.methods):
        raise UserError(
            f"{nothing} for task {request.task} in {paths.runs()}: 'make sweep' with the same words trains it, "
            f"'make status' shows what there is{others}{_elsewhere(request)}"
        )
    write_report(request.task, all_stages, wished)
    if lacking:
        print(f"note: {nothing}: `make sweep` with the same words trains it{others}")
    return 0


def _others(all_stages: list[Record], plan: Plan, lacking: list[str]) -> str:
    """What of the methods ``lacking`` (or, of none, of all asked for) is finished with other settings; "" for nothing.

    With the words that lead from one of the stages asked for to the nearest that is there.
    """
    old = records.outdated(all_stages)
    configs = [plan.stages[digest].config for digest in plan.wished]
    wished = {own["method"]: own for own in reversed(configs) if own["method"] in lacking or not lacking}
    alike = {own["label"]: own for own in configs}
    there = [r for r in all_stages if r.done and r.digest not in old and r.method in wished and reasons.whole(r.config)]
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
    example = f", such as {nearest.method} with {' '.join(words)}" if words else ""
    stages = wording.amount(len(there), "stage")
    return f". With other settings there {wording.be(len(there))} {stages} of {methods}{example}"


def _elsewhere(request: Request) -> str:
    """The tasks of which something is finished, where the request names none."""
    if "task" in request.given:
        return ""
    others = sorted({r.task for r in live_records.read() if r.done} - {request.task})
    return f". Of other tasks something is: TASK={', TASK='.join(others)}" if others else ""


def sync(request: Request) -> int:
    """Bring MLflow up to date."""
    from launch.mlflow_view import sync

    result = sync.sync(live_records.read(), paths.runs(), look=True)
    new = f"{wording.amount(result.new_runs, 'new run')}, {wording.amount(result.points, 'new value')}"
    print(f"MLflow has everything: {new}, {result.skipped} unchanged")
    return 0


def ui(request: Request) -> int:
    """Serve the MLflow view until Ctrl-C."""
    from launch.mlflow_view import ui

    ui.ui(paths.runs(), number(request.port or "5000", "port", 1, 65535))
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


def _filtered(request: Request) -> tuple[list[Record], list[Record]]:
    """The records that TASK, METHOD and RUN choose, and those of every task."""
    for name in request.methods:
        registry.method(name)
    task, all_stages = _task(request), live_records.read()
    chosen = [records.find(request.run, all_stages)] if request.run else all_stages
    chosen = [r for r in chosen if task in (None, r.task)]
    return [r for r in chosen if not request.methods or r.method in request.methods], all_stages
