"""One stage from its folder: verify what it stands on, train (or resume), score, write the summary, and DONE last."""

import fcntl
import math
import os
import socket
import time
import traceback
from pathlib import Path

import torch

from common import config, paths, record, registry
from common import sparsity as sp
from common.training import checkpoint, optimization
from common.training.state import Parent


def is_done(folder: Path) -> bool:
    return paths.done(folder).exists()


def trainer(stage: dict):
    """The task's trainer for a stage's configuration; ``planned_data``: what it may compare its data with."""
    worker = registry.task_part(stage["task"], "trainer").Trainer(stage["settings"], stage["method"], stage["task"])
    worker.planned_data = stage["data"]
    return worker


def warm(folder: Path) -> None:
    """Import what training needs and load a stage's data, so that children forked from this process share both."""
    stage = record.read_config(folder)
    config.fingerprint(stage["task"], stage["settings"])
    worker = trainer({**stage, "data": None})  # other data than planned fail the stage, not the process that warms up
    worker.examples()
    # torch imports its compiler at the first step of any optimizer: a second that every child would spend
    nothing = torch.nn.Parameter(torch.zeros(1))
    nothing.grad = torch.zeros(1)
    optimization.optimizer(worker.run, [{"params": [nothing]}]).step()


class Blocked(RuntimeError):
    """The stage this one starts from is not finished, or is not what the plan says."""


def execute(folder: Path, stop=lambda: None) -> str:
    """Bring a stage to its end: ``done``, ``stopped``, ``failed``, ``blocked``, or ``busy`` (another process has it).

    ``stop()`` is asked before every step; a reason (text) makes the stage save and leave as ``stopped``. Errors are
    recorded in ``status.json`` and ``error.txt``; raised only where not even that can be written.
    """
    folder = Path(folder)
    with open(paths.lock(folder), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "busy"
        if is_done(folder):
            checkpoint.remove_resume_points(folder)  # of a process that was killed right after DONE
            return "done"
        return _locked(folder, stop)


def _number(status: dict, name: str) -> float:
    """A value of a status file, which anyone may have damaged: 0 for whatever is no finite number."""
    value = status.get(name)
    return value if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def _locked(folder: Path, stop) -> str:
    began = time.time()
    try:
        previous = record.read_json(paths.status(folder), {})
    except ValueError:
        previous = None
    if not isinstance(previous, dict):  # a half-written status says nothing; the resume point does
        previous = {}
        paths.status(folder).unlink(missing_ok=True)
    spent = _number(previous, "seconds")
    if previous.get("state") == "running":  # killed: its last sign of life says how long it had worked
        began_then = _number(previous, "started")
        spent += max(0.0, _number(previous, "updated") - began_then) if began_then else 0.0
    attempt = int(_number(previous, "attempt")) + 1
    mark = dict(host=socket.gethostname(), pid=os.getpid(), attempt=attempt, started=began, seconds=spent, reason=None)
    try:
        record.update_status(folder, state="running", **mark)
        record.remove_leftovers(folder)
        paths.error(folder).unlink(missing_ok=True)  # of an earlier attempt
        reason = _train(folder, stop, began - spent)
        state = "stopped" if reason else "done"
    except Blocked as error:
        state, reason = "blocked", str(error)
    except Exception as error:
        state, reason = "failed", f"{type(error).__name__}: {error}".splitlines()[0][:1000]
        try:
            record.update_status(folder, state=state, reason=reason, seconds=spent + time.time() - began)
            record.write_text(paths.error(folder), traceback.format_exc())
        except OSError:
            raise error from None  # a full disk: who called is told, since the files cannot be
        return state
    record.update_status(folder, state=state, reason=reason, seconds=spent + time.time() - began)
    return state


def _verify(folder: Path, stage: dict) -> Parent | None:
    """Trust nothing around: this folder's digest, the parent's DONE and digest, the data's checksum."""
    expected = config.digest(
        stage["task"], stage["method"], stage["settings"], stage["versions"], stage["data"], stage["parent"]
    )
    if not expected == stage["digest"] == folder.name:
        raise RuntimeError(
            f"{paths.config(folder)} was changed after planning: its content has digest {expected}, the folder is "
            f"{folder.name}; give the change to 'make sweep SET=...' instead"
        )
    if stage["versions"] != (now := config.versions(stage["task"], stage["method"])):
        raise RuntimeError(
            f"planned for code versions {stage['versions']}, this code is {now}: plan again with 'make sweep'"
        )
    if (found := config.fingerprint(stage["task"], stage["settings"])) != stage["data"]:
        raise RuntimeError(
            f"the data changed since planning (checksum {stage['data']}, now {found}): run 'make sweep' again"
        )
    if stage["parent"] is None:
        return None
    parent = folder.parent / stage["parent"]
    if not is_done(parent) or paths.done(parent).read_text().strip() != stage["parent"]:
        raise Blocked(f"the stage it starts from, {stage['parent']}, is not finished")
    return Parent(parent, trainer(stage))


def _train(folder: Path, stop, began: float) -> str | None:
    """``began``: unix seconds, as if the time spent in earlier attempts lay right before now."""
    stage = record.read_config(folder)
    parent = _verify(folder, stage)
    worker = trainer(stage)
    state = worker.fit(folder, stage["digest"], parent, stop)
    if isinstance(state, str):
        return state
    content = {"digest": stage["digest"], "model": state.model.state_dict(), "masks": state.masks.state_dict()}
    checkpoint.save(paths.weights(folder), content)
    scored, best = paths.weights(folder), worker.best
    if worker.run.select != "last" and best["step"] != state.step:
        checkpoint.save(paths.selected(folder), {**content, "model": best["model"]})
        scored = paths.selected(folder)
    record.write_json(paths.summary(folder), _summary(stage, worker, state, scored, time.time() - began))
    record.write_text(paths.done(folder), stage["digest"] + "\n")
    checkpoint.remove_resume_points(folder)
    return None


def _summary(stage: dict, worker, state, scored: Path, seconds: float) -> dict:
    """Everything is measured on the weights as saved: read back, counted, and the test set touched this once."""
    saved = checkpoint.load(scored)
    state.load(saved["model"])
    zeros = 0
    for name, weight in state.weights.items():
        mask = sp.unpack(saved["masks"]["bits"][name], weight.shape).to(weight.device)
        if bool(torch.count_nonzero(weight[~mask])):
            raise RuntimeError(
                f"{name} has living weights outside its mask: the saved weights are not as sparse as claimed"
            )
        zeros += weight.numel() - int(torch.count_nonzero(weight))
    masks = state.masks
    pruned = masks.total - masks.kept
    state.model.eval()
    test = worker.evaluate(state.model, "test")
    empty = [name for name, kept in masks.counts.items() if kept == 0]
    reasons = [f"empty layer {name}" for name in empty] + ["constant prediction"] * bool(test["constant"])
    last = worker.run.select == "last"
    values = stage["settings"]
    return {
        "task": stage["task"],
        "dataset": values["task"].get("dataset", stage["task"]),
        "model": values["task"].get("model", ""),
        "method": stage["method"],
        "sparsity_target": state_target(stage, worker, state),
        "sparsity": pruned / masks.total,
        "sparsity_all": pruned / sp.count(state.model),
        "seed": stage["seed"],
        "metric": worker.metric,
        "score": test["score"],
        "score_validation": worker.last_validation if last else worker.best["score"],
        "steps": state.steps,
        "epochs": state.steps * worker.batch_size / worker.examples(),
        "collapsed": bool(reasons),
        "digest": stage["digest"],
        "parent": stage["parent"],
        "variant": stage["variant"],
        "collapse": reasons,
        "zeros": zeros / masks.total,
        "selection": worker.run.select,
        "scored_step": state.steps if last else worker.best["step"],
        "best_step": worker.best.get("step"),
        "baseline": worker.baseline(),
        "test_loss": test["loss"],
        "unmoved": worker.unmoved(state),
        "layers": {n: {"total": w.numel(), "kept": masks.counts[n]} for n, w in state.weights.items()},
        "masks": masks.checksum(),
        "weights": sp.checksum(saved["model"]),
        "seconds": round(seconds, 3),
        "device": str(worker.device),
        "torch": torch.__version__,
        "commit": stage.get("source", {}).get("commit"),
        "warnings": worker.warnings,
    }


def state_target(stage: dict, worker, state) -> float:
    """The sparsity asked for; where rounds or layers decide it, the one their rule leads to."""
    if stage["sparsity"] is not None:
        return stage["sparsity"]
    pools = getattr(worker.method, "pools", None)
    return 0.0 if pools is None else 1 - sum(pool.keep for pool in pools(state.weights)) / state.masks.total
