"""The driver of warm workers: hands out ready stages, replaces workers that die, stops all at the end or when asked."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from common import paths, record
from launch.described import Stage
from launch.local import meeting
from launch.local.order import Order
from launch.local.progress import Event
from launch.runs import locks
from launch.runs.child import GRACE, mark

PAUSE = 0.05  # seconds between looks at what does not report by itself; workers' messages are handled at once
TICK = 0.25  # seconds between progress events
SILENT = "(nothing: the system may have ended them for want of memory; fewer WORKERS= need less)"
LOSSES = 3  # workers that may die under one stage, or in a row before their first one


@dataclass
class Member:
    """One worker as the driver sees it. ``job`` is the submitit job that started it."""

    job: Any
    connection: Connection | None = None
    pid: int = 0
    ready: bool = False
    proven: bool = False  # it started a stage, once
    stage: Stage | None = None
    started: bool = False  # the stage it has

    def send(self, *message: object) -> None:
        with contextlib.suppress(OSError):  # gone: the end of its socket is noticed on the next round
            if self.connection:
                self.connection.send(message)


class Pool:
    """``submit(address, number)`` starts worker ``number`` and returns its job; there are at most ``size`` at once.

    Leaving the ``with`` block stops every worker. ``signals`` counts SIGINT, SIGTERM and SIGHUP; ``error`` says why no
    worker could start.
    """

    def __init__(
        self, order: Order, size: int, progress: Callable[[Event], None], submit: Callable[[str, int], Any]
    ) -> None:
        self.order, self.size, self.progress, self.submit = order, size, progress, submit
        self.members: dict[int, Member] = {}
        self.jobs: list = []
        self.waiting: dict[str, Stage] = {}  # stages that another process holds
        self.handlers: dict[int, Any] = {}
        self.signals = 0
        self.barren = 0  # workers in a row that died before they started a stage
        self.error = ""
        self.leaving = False
        self.place = contextlib.ExitStack()  # the folder of the socket
        self.ticked = 0.0

    def __enter__(self) -> Pool:
        self.address = str(self.place.enter_context(meeting.place()) / meeting.SOCKET)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.address)
        self.socket.listen(128)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
                    self.handlers[number] = signal.signal(number, self.interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.dismiss()
        finally:
            self.socket.close()
            self.place.close()
            for number, handler in self.handlers.items():
                signal.signal(number, handler)
        self.tell("end")

    def interrupt(self, *_: object) -> None:
        self.signals += 1

    def work(self) -> None:
        """Until every stage ended, a signal came, or workers turn out not to start."""
        while not (self.order.over() or self.signals or self.error):
            self.hand_out()
            # No more hands than stages that could use them: those under way and those ready (children may follow any).
            if len(self.members) < self.size and self.order.ready:
                number = min(set(range(self.size)) - set(self.members))
                self.members[number] = Member(self.submit(self.address, number))
                self.jobs.append(self.members[number].job)
            self.listen(PAUSE)
            self.look()
            if not any(member.stage for member in self.members.values()) and not self.order.ready and not self.waiting:
                break  # what is left waits for a stage that was stopped

    def hand_out(self) -> None:
        for member in self.members.values():
            while member.ready and not member.stage and self.order.ready:
                stage = self.order.pop()
                if record.finished(stage.folder):  # another sweep was faster
                    self.end(stage, "done")
                    continue
                member.stage, member.started = stage, False
                # Data differ between tasks and data sets: warm up once for each.
                key = f"{stage.task} {stage.config.get('data')}"
                member.send("run", stage.digest, str(Path(stage.folder).absolute()), key)

    def listen(self, timeout: float) -> None:
        connected = [(number, member) for number, member in self.members.items() if member.connection]
        heard = wait([self.socket, *(member.connection for _, member in connected if member.connection)], timeout)
        for number, member in connected:
            if member.connection is None or member.connection not in heard:
                continue
            try:
                message = member.connection.recv()
            except (EOFError, OSError):
                self.lose(number)
                continue
            self.hear(member, *message)
        if self.socket in heard:
            self.greet(Connection(self.socket.accept()[0].detach()))

    def greet(self, connection: Connection) -> None:
        try:
            _, number, pid = connection.recv()  # a worker's first act
            member = self.members[number]
        except (EOFError, OSError, KeyError):
            connection.close()  # died at once, or was given up as dead before
            return
        member.connection, member.pid = connection, pid
        if self.leaving:
            member.send("stop")

    def hear(self, member: Member, kind: str, *content: Any) -> None:
        if kind == "ready":
            member.ready = True
        elif kind == "broken":
            self.error = self.error or content[0].strip()
        elif kind == "started":
            member.started, member.proven, self.barren = True, True, 0
            self.tell("started", member.stage)
        elif kind == "ended":
            _, outcome, reason, seconds = content
            stage, member.stage = member.stage, None
            if stage is None:
                return
            if outcome == "busy":
                self.waiting[stage.digest] = stage
                self.tell("waiting", stage, seconds, reason)
            else:
                self.end(stage, outcome, reason, seconds)

    def end(self, stage: Stage, outcome: str, reason: str = "", seconds: float = 0.0) -> None:
        blocked = self.order.end(stage.digest, outcome, reason)
        self.tell(outcome, stage, seconds, reason)
        for digest in blocked:
            self.tell("blocked", self.order.stages[digest], reason=self.order.reason[digest])

    def lose(self, number: int) -> None:
        """A worker is gone."""
        member = self.members.pop(number)
        if member.connection:
            member.connection.close()
        if not member.proven and not self.leaving:
            self.barren += 1
            if self.barren >= LOSSES and not self.error:
                log = (member.job.stderr() or "").strip().splitlines()[-20:] or [SILENT]
                head = f"{LOSSES} workers died while starting; {member.job.paths.stderr} ends:"
                self.error = "\n".join([head, *log])
        if (stage := member.stage) is None:
            return
        if not member.started:
            self.order.push(stage.digest)
            return
        self.order.lost[stage.digest] += 1
        if self.order.lost[stage.digest] < LOSSES:
            self.waiting[stage.digest] = stage  # its child may still be writing a checkpoint
        else:
            self.end(stage, *mark(stage.folder, "failed", f"its worker died {LOSSES} times (out of memory?)", -1))

    def look(self) -> None:
        """At what nobody reports: stages held by another process, workers that never came, the clock."""
        for digest, stage in list(self.waiting.items()):
            if record.finished(stage.folder) or not locks.held(paths.lock(stage.folder)):
                del self.waiting[digest]
                status = record.read_status(stage.folder)
                if status.get("state") == "failed" and not record.finished(stage.folder):
                    self.end(stage, "failed", status.get("reason") or "failed in another process")
                else:
                    self.order.push(digest)
        for number, member in list(self.members.items()):
            if not member.connection and member.job.done():
                self.lose(number)
        if time.monotonic() - self.ticked > TICK:
            self.ticked = time.monotonic()
            self.tell("tick")

    def tell(self, kind: str, stage: Stage | None = None, seconds: float = 0.0, reason: str = "") -> None:
        running = [member.stage for member in self.members.values() if member.stage]
        states = [record.read_status(stage.folder) if kind == "tick" else {} for stage in running]
        steps = tuple((stage, state.get("step") or 0, state.get("steps") or 0) for stage, state in zip(running, states))
        order = self.order
        ended = sum(outcome != "stopped" for outcome in order.outcome.values())
        event = Event(kind, stage, seconds, reason, ended, len(order.stages), steps, order.chain(), self.size)
        try:
            self.progress(event)
        except BrokenPipeError:  # say so once; what is left is to stop the workers, in silence
            self.progress = lambda event: None
            raise

    def dismiss(self) -> None:
        """Stop every worker: kindly, which lets stages write checkpoints, then by force. No process stays."""
        self.leaving = True
        if self.signals:
            self.tell("stopping")
        for member in self.members.values():
            member.send("stop")
            if not member.connection and not member.job.done():
                os.kill(int(member.job.job_id), signal.SIGTERM)  # submitit's controller passes it on
        deadline = time.monotonic() + GRACE + 2
        forced = False
        while any(not job.done() for job in self.jobs):
            self.listen(PAUSE)
            if not forced and (self.signals > 1 or time.monotonic() > deadline):
                forced, deadline = True, time.monotonic() + 2
                for member in self.members.values():
                    member.send("kill")
            elif forced and time.monotonic() > deadline:
                for pid in [member.pid for member in self.members.values() if member.connection]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                for job in self.jobs:
                    if not job.done():
                        os.kill(int(job.job_id), signal.SIGKILL)
