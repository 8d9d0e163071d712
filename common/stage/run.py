"""One stage from its folder: verify what it depends on, train (or resume), score, write the summary, and DONE last."""

import errno
import fcntl
import math
import os
import socket
import time
import traceback
from pathlib import Path
from typing import IO, Any

import torch

from common import hooks, paths, record, registry
from common.stage import identity, summary
from common.training import optimization
from common.training.interruption import Stop
from common.training.processes import rendezvous
from common.training.processes.forked_ranks import ForkedRanks
from common.training.processes.team import ALONE, BREAK, FAREWELL, Team
from common.training.resume import checkpoint
from common.training.state import Parent
from common.training.trainer import Trainer


def trainer(stage: dict[str, Any], team: Team = ALONE) -> Trainer:
    """The task's trainer for a stage's configuration; ``planned_data``: what it may compare its data with."""
    kind = registry.task_part(stage["task"], "trainer").Trainer
    hooks.check(kind, Trainer)
    worker: Trainer = kind(stage["settings"], stage["method"], stage["task"])
    worker.planned_data, worker.team = stage["data"], team
    return worker


def warm(folder: Path) -> None:
    """Import what training needs and load a stage's data, so that children forked from this process share both."""
    stage = record.read_config(folder)
    identity.fingerprint(stage["task"], stage["settings"])
    worker = trainer({**stage, "data": None})  # other data than planned fail the stage, not the process that warms up
    worker.examples()
    # torch imports its compiler at the first step of any optimizer: a second that every child would spend
    nothing = torch.nn.Parameter(torch.zeros(1))
    nothing.grad = torch.zeros(1)
    optimization.optimizer(worker.run, [{"params": [nothing]}]).step()


class Blocked(RuntimeError):
    """The stage this one starts from is not finished, or is not what the plan says."""


def execute(
    folder: Path, stop: Stop = lambda: None, marks: dict[str, Any] | None = None, team: Team | None = None
) -> str:
    """Bring a stage to its end: ``done``, ``stopped``, ``failed``, ``blocked``, or ``busy`` (another process has it).

    ``stop()`` is asked before every step; it answers as ``common.training.interruption`` says. ``marks``: fields for
    ``status.json``, such as a job's number, there until the next attempt. ``team``: this process's place among those
    that train the stage, by ``rendezvous.join``; every one of them calls this, and has left the team when it returns.
    Without it, the processes that ``run.processes`` asks for are forked here.

    Errors are recorded in ``status.json`` and ``error.txt``; raised only where not even that can be written.
    """
    folder, team = Path(folder), team or ALONE
    try:
        return _lead(folder, stop, marks or {}, team) if team.rank == 0 else _follow(folder, stop, team)
    finally:
        team.close()


def _lead(folder: Path, stop: Stop, marks: dict[str, Any], team: Team) -> str:
    """The first process, and nearly always the only one: it alone locks and writes."""
    warnings = []
    with open(paths.lock(folder), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                return team.tell("busy")
            warnings.append(
                f"{paths.lock(folder)} cannot be locked on this file system ({error.strerror}): nothing keeps a second "
                "process from training this stage at the same time"
            )
        if record.finished(folder):
            checkpoint.remove_resume_points(folder)  # of a process that was killed right after DONE
            return team.tell("done")
        return _attempt(folder, stop, marks, team, lock, warnings)


def _follow(folder: Path, stop: Stop, team: Team) -> str:
    """Every other process: it verifies the same things and trains in step."""
    try:
        answer = team.tell("")  # what the first process says
        if answer != "go":
            return answer
        stage = record.read_config(folder)
        parent = _verify(folder, stage, team)
        trainer(stage, team).fit(folder, stage["digest"], parent, stop)
    except Exception as error:
        team.failure(error, traceback.format_exc())
    return team.finish("failed")


def _number(status: dict[str, Any], name: str) -> float:
    """A value of a status file, which anyone may have damaged: 0 for whatever is no finite number."""
    value = status.get(name)
    return value if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def _begin(folder: Path, marks: dict[str, Any]) -> float:
    """Write the status of a new attempt; returns the seconds spent in earlier ones."""
    try:
        previous = record.read_json(paths.status(folder), {})
    except ValueError:
        previous = None
    if not isinstance(previous, dict):  # a half-written status says nothing; the resume point does
        previous = {}
    spent = _number(previous, "seconds")
    if previous.get("state") == "running":  # killed: its last sign of life says how long it had worked
        began_then = _number(previous, "started")
        spent += max(0.0, _number(previous, "updated") - began_then) if began_then else 0.0
    kept = {name: previous[name] for name in ("step", "steps", "committed") if name in previous}
    own = dict(host=socket.gethostname(), pid=os.getpid(), attempt=int(_number(previous, "attempt")) + 1)
    own |= dict(state="running", started=time.time(), seconds=spent, reason=None)
    record.write_status(folder, **{**kept, **marks, **own})
    return spent


def _attempt(folder: Path, stop: Stop, marks: dict[str, Any], team: Team, lock: IO[str], warnings: list[str]) -> str:
    began, spent, state = time.monotonic(), 0.0, "failed"
    ranks: ForkedRanks | None = None
    try:
        spent = _begin(folder, marks)
        record.remove_leftovers(folder)
        paths.error(folder).unlink(missing_ok=True)  # of an earlier attempt
        _reopen(folder)
        stage = record.read_config(folder)
        size = stage["settings"]["run"].get("processes", 1)
        if team is ALONE and size > 1:
            token = f"{os.getpid()}-{time.time_ns()}"

            def follow(rank: int) -> None:
                lock.close()  # ours stays
                execute(folder, team=rendezvous.join(folder, rank, size, token))

            ranks = ForkedRanks(size, follow)
            team = rendezvous.join(folder, 0, size, token, lost=ranks.lost)
        if team.size != size:
            raise RuntimeError(f"run.processes={size}, and {team.size} processes were started for this stage")
        team.guard(lambda reason: record.update_status(folder, state="failed", reason=reason))
        team.tell("go")
        reason = _train(folder, stage, stop, began - spent, team, warnings)
        state = "stopped" if reason else "done"
    except Blocked as error:
        state, reason = "blocked", str(error)
    except Exception as error:
        reason, text = team.failure(error, traceback.format_exc())
        try:
            record.update_status(folder, state=state, reason=reason, seconds=spent + time.monotonic() - began)
            record.write_text(paths.error(folder), text)
        except OSError:
            raise error from None  # a full disk: the caller must hear of it, since no file can say it
        return state
    finally:
        team.finish(state)
        if ranks is not None:
            team.close()
            ranks.dismiss(BREAK if state == "failed" else FAREWELL)
    try:
        record.update_status(folder, state=state, reason=reason, seconds=spent + time.monotonic() - began)
    except OSError:
        if state != "done":  # which DONE says already
            raise
    return state


def _reopen(folder: Path) -> None:
    """A mark that vouches for other files than there are is none. ``OSError``: what cannot be read may be whole."""
    if record.fault(folder):
        record.reopen(folder)


def _verify(folder: Path, stage: dict[str, Any], team: Team) -> Parent | None:
    """Trust nothing around: this folder's digest, the parent's DONE and digest, the data's checksum."""
    expected = identity.digest(
        stage["task"], stage["method"], stage["settings"], stage["versions"], stage["data"], stage["parent"]
    )
    if not expected == stage["digest"] == folder.name:
        raise RuntimeError(
            f"{paths.config(folder)} was changed after planning: its content has digest {expected}, the folder is "
            f"{folder.name}; give the change to 'make sweep SET=...' instead"
        )
    if stage["versions"] != (now := identity.versions(stage["task"], stage["method"])):
        raise RuntimeError(
            f"planned for code versions {stage['versions']}, this code is {now}: plan again with 'make sweep'"
        )
    if (found := identity.fingerprint(stage["task"], stage["settings"])) != stage["data"]:
        raise RuntimeError(
            f"the data changed since planning (checksum {stage['data']}, now {found}): run 'make sweep' again"
        )
    if stage["parent"] is None:
        return None
    parent = folder.parent / stage["parent"]
    if fault := record.fault(parent):
        raise Blocked(f"the stage it starts from, {parent.name}, is damaged ({fault}); 'make sweep' trains it again")
    if fault is None:
        raise Blocked(f"the stage it starts from, {parent.name}, is not finished")
    return Parent(parent, trainer(stage, team))


def _train(
    folder: Path, stage: dict[str, Any], stop: Stop, began: float, team: Team, warnings: list[str]
) -> str | None:
    """``began``: on the monotonic clock, which nobody sets back, as if earlier attempts lay right before this one."""
    parent = _verify(folder, stage, team)
    worker = trainer(stage, team)
    state = worker.fit(folder, stage["digest"], parent, stop)
    if isinstance(state, str):
        return state
    team.dismiss()
    worker.warnings += [warning for warning in warnings if warning not in worker.warnings]
    content = {"digest": stage["digest"], "model": state.model.state_dict(), "masks": state.masks.state_dict()}
    checkpoint.save(paths.weights(folder), content)
    scored, best = paths.weights(folder), worker.best
    if worker.run.select != "last" and best["step"] != state.step:
        checkpoint.save(paths.selected(folder), {**content, "model": best["model"]})
        scored = paths.selected(folder)
    record.write_json(paths.summary(folder), summary.measured(stage, worker, state, scored, time.monotonic() - began))
    record.seal(folder, stage["digest"])
    checkpoint.remove_resume_points(folder)
    return None
