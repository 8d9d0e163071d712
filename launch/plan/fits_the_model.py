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

_BARE = " (its module does not say what for: two dimensions are larger than 1)"
_KNOWN: dict[str, dict] = {}  # what the child said, for the life of this process


def check(stages: Iterable[Stage]) -> None:
    """``UserError`` with every complaint about stages whose settings depend on the size of the data, name weights,
    depend on their shapes or give some to start from.
    """
    asked: dict[str, list] = {}
    complaints: dict[str, str] = {}
    sized: dict[str, identity.Checked] = {}
    alike: set[str] = set()
    for stage in stages:
        settings = stage.config["settings"]
        if (data := json.dumps([stage.task, settings["task"]])) not in sized:
            sized[data] = identity.checked(stage.task, settings)
        examples = sized[data].examples(settings["run"]["seed"])
        # those that differ in seeds alone fit alike
        asks = json.dumps([stage.method, examples, settings | {"run": settings["run"] | {"seed": 0}}])
        if asks in alike:
            continue
        alike.add(asks)
        if examples is not None:
            for text in groups.complaints_of_data(stage.task, stage.method, settings, examples):
                complaints.setdefault(text, "" if text.startswith("run.") else f"{stage.method}: ")
        cls = groups.classes(stage.task, stage.method)
        method = registry.method(stage.method)(groups.build(cls["method"], settings["method"]))
        pretrained = groups.starts_pretrained(stage.task, groups.build(cls["task"], settings["task"]))
        if method.shaped() or settings["run"]["exclude"] or pretrained:
            asked.setdefault(_key(stage), []).append((stage, method))
    _ask({key: pairs[0][0] for key, pairs in asked.items()})
    for key, pairs in asked.items():
        answer, seen = _KNOWN[key], set()
        if "complaint" in answer:
            complaints.setdefault(answer["complaint"], "run.exclude: ")
            continue
        shapes = {name: tuple(shape) for name, shape, word in answer["layers"] if word.startswith("pruned")}
        for stage, method in pairs:
            asks = json.dumps([stage.method, stage.config["settings"]["method"]])
            if method.shaped() and asks not in seen:
                seen.add(asks)
                unfit = [answer["unfit"]] if answer["unfit"] and method.oriented else []
                for text in unfit + method.complaints_about(shapes):
                    complaints.setdefault(text, f"{stage.method}: ")
    complain(complaints)


def layers(stages: Iterable[Stage]) -> dict[str, list[tuple[str, list[int], str]]]:
    """By the name of each network its parameters of two or more dimensions: name, shape, and if they are pruned.

    That is a word that begins with ``pruned`` or ``dense``, and what there is to say of it.

    ``UserError`` where a network cannot be built, or nothing of it pruned.
    """
    asked = {_key(stage): stage for stage in stages}
    _ask(asked)
    complain({_KNOWN[key]["complaint"]: "run.exclude: " for key in asked if "complaint" in _KNOWN[key]})
    found: dict[str, list] = {}
    for key, stage in asked.items():
        name = " · ".join(filter(None, (stage.task, stage.dataset, stage.model)))
        alike = [text for text, told in found.items() if text.startswith(name) and told == _KNOWN[key]["layers"]]
        if not alike:
            number = sum(text.startswith(name) for text in found)
            found[f"{name} ({number + 1})" if number else name] = _KNOWN[key]["layers"]
    return found


def _ask(stages: dict[str, Stage]) -> None:
    """Have ``_KNOWN`` answer for these keys, of which each has a stage."""
    # in order, so that those of one model come one after the other
    if missing := sorted(key for key in stages if key not in _KNOWN):
        _KNOWN.update(zip(missing, _built([stages[key] for key in missing]), strict=True))


def _key(stage: Stage) -> str:
    """What a model's prunable weights depend on."""
    settings = stage.config["settings"]
    run = {name: settings["run"][name] for name in ("prune_embeddings", "exclude")}
    return json.dumps([stage.task, settings["task"], run])


def _built(stages: list[Stage]) -> list[dict]:
    """For each stage its model's ``layers`` (see there), and why structures along inputs or outputs are ``unfit`` ("":
    they are not); or the ``complaint`` it would end with."""
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
    import torch

    from common import sparsity as sp
    from common.stage import run

    settings = question["settings"]
    key = json.dumps([question["task"], settings["task"]])
    if key not in models:
        stage = {**question, "settings": {**settings, "run": {**settings["run"], "device": "cpu"}}, "data": None}
        worker = run.trainer(stage)
        # without weights to load, shapes alone: however large the network, it takes no memory
        loads = groups.starts_pretrained(question["task"], worker.task)
        with torch.device("cpu" if loads else "meta"):
            model = worker.build_seeded("initialisation")
        models.clear()  # one at a time: the next may be as large
        models[key] = model, worker.never_prunable(model)
    model, dense = models[key]
    try:
        asked = model, settings["run"]["prune_embeddings"], (*settings["run"]["exclude"], *dense)
        sp.prunable(*asked)
    except ValueError as error:
        return {"complaint": str(error)}
    try:
        sp.prunable(*asked, oriented=True)
        unfit = ""
    except ValueError as error:
        unfit = str(error)
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    bare = sp.bare(model)
    told = {
        name: f"dense: {why}" if why else f"pruned{_BARE * (name in bare)}" for name, why in sp.reasons(*asked).items()
    }
    return {"layers": [[name, shapes[name], word] for name, word in told.items()], "unfit": unfit}


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
