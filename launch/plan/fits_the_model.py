"""Do settings fit the data and the model? The data's reader knows how many examples there are.

Names and shapes of weights are known when the model is built: once, in a process of its own, so that a plan that asks
nothing of them needs no torch, and one that does fails before a parent was trained for hours.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterable

from common import paths, registry
from common.errors import UserError, complain
from common.settings import groups
from common.stage import identity
from launch.described import Stage

_KNOWN: dict[str, dict] = {}  # what the child said, for the life of this process


def check(stages: Iterable[Stage]) -> None:
    """``UserError`` with every complaint about stages whose settings depend on the size of the data, name weights,
    depend on their shapes or give some to start from.
    """
    asked: dict[str, list] = {}
    complaints: dict[str, str] = {}
    examples: dict[str, int | None] = {}
    for stage in stages:
        settings = stage.config["settings"]
        data = json.dumps([stage.task, settings["task"], settings["run"]["seed"]])
        if data not in examples:  # once: it looks at every file
            examples[data] = identity.examples(stage.task, settings)
        if (size := examples[data]) is not None:
            for text in groups.complaints_of_data(stage.task, stage.method, settings, size):
                complaints.setdefault(text, "" if text.startswith("run.") else f"{stage.method}: ")
        cls = groups.classes(stage.task, stage.method)
        method = registry.method(stage.method)(groups.build(cls["method"], settings["method"]))
        pretrained = groups.starts_pretrained(stage.task, groups.build(cls["task"], settings["task"]))
        if method.shaped() or settings["run"]["exclude"] or pretrained:
            asked.setdefault(_key(stage), []).append((stage, method))
    # in order, so that those of one model come one after the other
    if missing := sorted(key for key in asked if key not in _KNOWN):
        first = [asked[key][0][0] for key in missing]
        _KNOWN.update(zip(missing, _built(first), strict=True))
    for key, pairs in asked.items():
        answer, seen = _KNOWN[key], set()
        if "complaint" in answer:
            complaints.setdefault(answer["complaint"], "run.exclude: ")
            continue
        shapes = {name: tuple(shape) for name, shape in answer["shapes"]}
        for stage, method in pairs:
            asks = json.dumps([stage.method, stage.config["settings"]["method"]])
            if method.shaped() and asks not in seen:
                seen.add(asks)
                unfit = [answer["unfit"]] if answer["unfit"] and method.oriented else []
                for text in unfit + method.complaints_about(shapes):
                    complaints.setdefault(text, f"{stage.method}: ")
    complain(complaints)


def _key(stage: Stage) -> str:
    """What a model's prunable weights depend on."""
    settings = stage.config["settings"]
    run = {name: settings["run"][name] for name in ("prune_embeddings", "exclude")}
    return json.dumps([stage.task, settings["task"], run])


def _built(stages: list[Stage]) -> list[dict]:
    """For each stage its weights' ``shapes`` ([name, shape]), and why structures along inputs or outputs are ``unfit``
    ("": they are not); or the ``complaint`` it would end with."""
    questions = [{name: stage.config[name] for name in ("task", "method", "settings")} for stage in stages]
    own = os.pathsep.join(filter(None, (str(paths.root()), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "PYTHONPATH": own, "CUDA_VISIBLE_DEVICES": ""}  # shapes are the same without a GPU
    command, told = [sys.executable, "-m", "launch.plan.fits_the_model"], json.dumps(questions)
    child = subprocess.run(command, input=told, capture_output=True, text=True, errors="replace", env=env)
    try:
        answer = json.loads(child.stdout)
    except ValueError:  # it died, or the model ended it: what it said last may help
        answer = " ".join([f"its process ended with code {child.returncode}", *child.stderr.split()[-60:]])
    if isinstance(answer, dict):
        raise UserError(answer["refused"])
    if isinstance(answer, str):
        raise UserError(
            f"settings name or give weights, or ask for a structure, and the model cannot be built to see: {answer}"
        )
    return answer


def _answer(question: dict, models: dict) -> dict:
    """In the child: build the model as a stage does, unless ``models`` has it, and name its prunable weights."""
    from common import sparsity as sp
    from common.stage import run

    settings = question["settings"]
    key = json.dumps([question["task"], settings["task"]])
    if key not in models:
        stage = {**question, "settings": {**settings, "run": {**settings["run"], "device": "cpu"}}, "data": None}
        worker = run.trainer(stage)
        model = worker.build_seeded("initialisation")
        models.clear()  # one at a time: the next may be as large
        models[key] = model, worker.never_prunable(model)
    model, dense = models[key]
    try:
        asked = model, settings["run"]["prune_embeddings"], (*settings["run"]["exclude"], *dense)
        found = sp.prunable(*asked)
    except ValueError as error:
        return {"complaint": str(error)}
    try:
        sp.prunable(*asked, oriented=True)
        unfit = ""
    except ValueError as error:
        unfit = str(error)
    shapes = [[name, list(weight.shape)] for name, weight in found.items()]
    return {"shapes": shapes, "unfit": unfit}


def main() -> None:
    """The child: questions as JSON on stdin; on stdout the answers, or why there are none: ``refused``, in the task's
    own words, or a text. Whatever a model prints goes to stderr.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    models: dict = {}
    try:
        answer: list[dict] | dict[str, str] | str = [_answer(question, models) for question in json.load(sys.stdin)]
    except UserError as error:  # the task's own word on what it was asked
        answer = {"refused": str(error)}
    except BaseException as error:  # whatever a task's files raise, SystemExit too
        frame = traceback.extract_tb(error.__traceback__)[-1]
        answer = f"{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
    with out:
        json.dump(answer, out)


if __name__ == "__main__":
    main()
