"""For tests of training: small stages on the digits, trained in this process or in one that dies on the way."""

import io
import itertools
import json
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import nn

from common import paths, record, registry
from common import sparsity as sp
from common.stage import run
from common.training.resume import checkpoint
from common.training.state import Parent
from common.training.trainer import Trainer
from launch.plan import planner
from launch.request import arguments

SMALL = {
    "run.seed": 0, "run.steps": 60, "run.batch_size": 20, "run.evaluate_every": 10, "run.log_every": 5,
    "run.checkpoint_every": 10, "run.select": "best_loss",
}  # fmt: skip
# What a method needs beside a sparsity to show within 60 steps what it does.
SHORT = {
    "rigl": {"method.every": 7, "method.batches": 2},
    "gmp": {"method.every": 7},
    "snip": {"method.batches": 3},
    "grasp": {"method.batches": 3},
    "synflow": {"method.iterations": 10},
    "random_search": {"method.candidates": 3, "method.batches": 2},
    "reshuffle": {"method.settings": "{batches:4}"},  # a stage of its own: that of snip is trained by other tests
    "imp": {"method.rate": 0.5},
    "obd": {"method.gradients": 6},
    "obert": {"method.gradients": 6, "method.block": 20},
    "imp_reinit": {"method.rate": 0.5},
    "instability": {"method.rate": 0.5, "method.points": 5},
    "gradual_random": {"method.every": 7},
    "granet": {"method.every": 7},
    "magnitude_v2": {"method.every": 7},
    "set": {"method.every": 7},
}
MOST = {"magnitude_v2": 0.5}  # the sparsest that a method can make of LeNet-300-100 on digits


def settings_of(method: str, values: dict | None = None, sparsity: float = 0.8) -> dict:
    """Command-line keys and values of a small stage of ``method``."""
    level = {"method.sparsity": min(sparsity, MOST.get(method, 1))}
    level = {} if method == "dense" or "method.rounds" in (values or {}) else level
    start = {"task.pretrained": pretrained()} if getattr(registry.method(method), "needs_pretrained", False) else {}
    return {**SMALL, **SHORT.get(method, {}), **level, **start, **(values or {})}


def pretrained() -> Path:
    """A file of weights below RUNS, always the same, for LeNet-300-100 on digits: larger ones than its initial ones."""
    path, config = paths.runs() / "pretrained.pt", registry.task_part("classic", "config").Config()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng():
            torch.manual_seed(7)
            weights = registry.task_part("classic", "model").build(config).state_dict()
        torch.save({name: 1.5 * value for name, value in weights.items()}, path)
    return path


def line(method: str, values: dict | None = None, sparsity: float = 0.8, task: str = "classic") -> list[Path]:
    """The folders, with their config.yaml, of a stage of ``method`` and of all it stands on, parents first."""
    settings = [f"{key}={value}" for key, value in settings_of(method, values, sparsity).items()]
    made = planner.make(arguments.parse([f"task={task}", f"method={method}", *settings]))
    stage = made.stages[made.wished[-1]]
    assert stage.method == method
    stages = [stage]
    while stages[0].parent:
        stages.insert(0, made.stages[stages[0].parent])
    for stage in stages:
        stage.folder.mkdir(parents=True, exist_ok=True)
        if not paths.config(stage.folder).exists():
            record.write_text(paths.config(stage.folder), yaml.safe_dump(stage.config, sort_keys=False))
    return [stage.folder for stage in stages]


def train(folders: list[Path]) -> None:
    for folder in folders:
        outcome = run.execute(folder)
        assert outcome == "done", (outcome, record.read_json(paths.status(folder)))


def trained(method: str, values: dict | None = None, sparsity: float = 0.8) -> Path:
    """The folder of a stage that is done."""
    folders = line(method, values, sparsity)
    train(folders)
    return folders[-1]


def begun(method: str, values: dict | None = None, sparsity: float = 0.8, start: bool = True):
    """(trainer, state) of a stage at its beginning, its parents trained: to be stepped by hand."""
    folders = line(method, values, sparsity)
    train(folders[:-1])
    stage = record.read_config(folders[-1])
    worker = run.trainer(stage)
    state = worker.begin(Parent(folders[-2], worker) if stage["parent"] else None)
    if start:
        worker.method.start(state)
    return worker, state


def copy(weights: dict) -> dict:
    return {name: value.detach().clone() for name, value in weights.items()}


def equal(first: dict, second: dict) -> bool:
    """Bit for bit."""
    return set(first) == set(second) and all(torch.equal(value, second[name]) for name, value in first.items())


def lines(folder: Path) -> list[dict]:
    """The metric lines, without the time of day."""
    found = [json.loads(text) for text in paths.metrics(folder).read_text().splitlines()]
    return [{key: value for key, value in entry.items() if key != "time"} for entry in found]


def summary(folder: Path) -> dict:
    return json.loads(paths.summary(folder).read_text())


def masks(folder: Path) -> dict[str, torch.Tensor]:
    content = checkpoint.load(paths.weights(folder))
    return {n: sp.unpack(bits, content["model"][n].shape) for n, bits in content["masks"]["bits"].items()}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(paths.weights(folder))["model"]


def result(folder: Path) -> dict:
    """Everything a stage leaves that must not depend on how often it was interrupted."""
    tensors = {}
    for path in sorted(folder.glob("*.pt")):
        content = checkpoint.load(path)
        tensors[path.name] = sp.checksum(content.get("model", content)), str(content.get("masks", {}).get("checksum"))
    values = {key: value for key, value in summary(folder).items() if key not in ("seconds", "warnings")}
    # the last status is written after DONE: a kill then leaves half of it beside the one before, for ever
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".status.json."))
    return {"summary": values, "metrics": lines(folder), "tensors": tensors, "files": names}


def answers(at: dict):
    """A ``stop`` that gives the answers of ``at`` before the steps of its keys, from 0 on; functions are called."""
    calls = itertools.count()

    def stop():
        answer = at.get(next(calls))
        return answer() if callable(answer) else answer

    return stop


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# --- processes that die -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Death:
    """Where a process kills itself: before its ``call``-th ``step``, or at the ``call``-th write of file ``name``:

    ``writing`` (half of the bytes are there), ``before`` or ``after`` the renaming that puts it in place. ``event``
    counts all of these together with every flush to disk, whatever the file.
    """

    when: str
    name: str = ""
    call: int = 1


def attempt(folder: Path, death: Death | None = None) -> int:
    """Train in a process of its own; 0 when the stage is done, 1 otherwise, -9 when the process was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(run.execute(folder, _arm(death)) != "done")
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _arm(death: Death | None):
    """Set the trap; returns the ``stop`` for ``execute``."""
    calls = 0

    def reached(when: str, name: str) -> bool:
        nonlocal calls
        anything = death is not None and death.when == "event" and when != "step"
        if death is None or not (anything or (when, name) == (death.when, death.name)):
            return False
        calls += 1
        return calls == death.call

    def pass_by(when: str, name: str = "") -> None:
        if reached(when, name):
            die()

    write_bytes, replace, fsync = record.write_bytes, os.replace, os.fsync

    def dying_write(path, write):
        if not reached("writing", Path(path).name):
            return write_bytes(path, write)

        def half(file):
            whole = io.BytesIO()
            write(whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            die()

        return write_bytes(path, half)

    def dying_replace(source, target):
        pass_by("before", Path(target).name)
        replace(source, target)
        pass_by("after", Path(target).name)

    def dying_fsync(file):
        pass_by("fsync")
        fsync(file)

    record.write_bytes, os.replace, os.fsync = dying_write, dying_replace, dying_fsync
    return lambda: pass_by("step")


# --- a task of a few numbers ------------------------------------------------------------------------------------------


class Toy(Trainer):
    """Regression on random numbers; tests say what the model and the inputs are."""

    metric = "fit"
    size = 64

    def __init__(self, settings: dict, method: str = "dense", task: str = "classic"):
        super().__init__(settings, method, task)
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(self.size, 12, generator=generator)
        self.targets = torch.randn(self.size, 3, generator=generator)
        self.evaluated: list[str] = []

    def build(self) -> nn.Module:
        return nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 3))

    def examples(self):
        return self.size

    def batch(self, indices, position):
        return self.inputs[indices], self.targets[indices]

    def loss(self, model, batch):
        return (model(batch[0]) - batch[1]).square().mean()

    @torch.no_grad()
    def evaluate(self, model, split):
        self.evaluated.append(split)
        loss = self.loss(model, (self.inputs, self.targets)).item()
        return {"score": -loss, "loss": loss, "constant": False}

    def baseline(self):
        return -1.0


class Noisy(Toy):
    """With random numbers in training (dropout) and with buffers (batch normalisation)."""

    def build(self):
        middle = nn.Sequential(nn.Linear(12, 20), nn.BatchNorm1d(20), nn.Tanh(), nn.Dropout(0.5))
        return nn.Sequential(middle, nn.Linear(20, 3))


def toy(kind=Toy, method: str = "dense", values: dict | None = None, sparsity: float = 0.8, start: bool = True):
    """(trainer, state) of a toy at its beginning; only for methods without parents."""
    config = record.read_config(line(method, {"run.learning_rate": 0.01, **(values or {})}, sparsity)[-1])
    worker = kind(config["settings"], method)
    state = worker.begin(None)
    if start:
        worker.method.start(state)
    return worker, state


def toy_with(made, kind=Toy, values: dict | None = None, start: bool = True):
    """(trainer, state) of a toy that is trained by the method ``made``, an instance of a class of the test's own."""
    config = record.read_config(line("dense", {"run.learning_rate": 0.01, **(values or {})})[-1])
    worker = kind(config["settings"])
    worker.method = made
    state = worker.begin(None)
    if start:
        made.start(state)
    return worker, state


def fit(made, kind=Toy, values: dict | None = None, stop=lambda: None):
    """The same through the whole of ``Trainer.fit``, resume points included: (trainer, what it returned)."""
    folder = line("dense", {"run.learning_rate": 0.01, **(values or {})})[-1]
    worker = kind(record.read_config(folder)["settings"])
    worker.method = made
    return worker, worker.fit(folder, folder.name, None, stop)
