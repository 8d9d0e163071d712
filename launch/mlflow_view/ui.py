"""``make ui``: the MLflow view in a browser, kept up to date while it is open."""

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from common.errors import UserError
from launch import wording
from launch.mlflow_view.address import address, shown
from launch.mlflow_view.offsets import Offsets
from launch.mlflow_view.sync import SETTINGS, Report, sync
from launch.slurm import live_records

EVERY = 10  # seconds between two syncs
START = 90  # seconds the server may take to answer

# One worker without the job executor needs a fifth of the memory; the default connection pool is smaller than the
# server's thread pool and answers with errors under load.
SERVER = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}

# Shown at once, also where the output goes to a file.
say = functools.partial(print, flush=True)


def ui(runs: Path, port: int = 5000, report: Report = say) -> None:
    """Sync, serve the view on this machine until Ctrl-C, and sync again every ten seconds meanwhile.

    With ``MLFLOW_TRACKING_URI`` at a server there is nothing to start: sync, say where to look, and keep syncing.
    """
    runs = Path(runs).absolute()
    uri = address(runs)
    remote = uri.startswith("http")
    if not remote and (not 0 < int(port) < 65536 or not _free(int(port))):
        raise UserError(f"port {port} is taken or not allowed here; choose another: make ui PORT={int(port) + 1}")
    with _ctrl_c() as go_on:
        result = sync(live_records.read(where=runs), runs, uri, report)
        new = f"{wording.amount(result.points, 'new point')}, {wording.amount(result.new_runs, 'new run')}"
        report(f"synced: {new}, {wording.amount(result.skipped, 'stage')} unchanged")
        try:
            if remote:
                _pages(shown(uri).rstrip("/"), runs, uri, report)
                report("Ctrl-C ends the syncing; the server stays")
                while go_on():
                    time.sleep(EVERY)
                    _catch_up(runs, uri, report)
            with tempfile.TemporaryFile() as log, _server(runs, uri, int(port), log) as server:
                _await(server, int(port), log)
                _pages(f"http://127.0.0.1:{port}", runs, uri, report)
                report("Ctrl-C ends it")
                _follow(server, runs, uri, report, log, go_on)
        except KeyboardInterrupt:
            report("closed; the records stay")


@contextlib.contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """A polite kill or a closed terminal ends the server, too.

    Yields a function that raises KeyboardInterrupt once more where one was asked for before: Python drops what is
    raised inside a callback of a weak reference, of which the libraries of a sync have many.
    """
    asked: list[int] = []

    def end(number: int, frame: object) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    def go_on() -> bool:
        if asked:
            raise KeyboardInterrupt
        return True

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # as under nohup
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield go_on
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pages(server: str, runs: Path, uri: str, report: Report) -> None:
    """The address of each task's runs; MLflow's front page opens on language-model traces, where there are none."""
    report(f"MLflow: {server}")
    for task, identity in sorted(Offsets(runs, uri).experiments.items()):
        report(f"  {task}: {server}/#/experiments/{identity.partition('/')[0]}/runs?workflowType=machine_learning")


def _follow(
    server: subprocess.Popen, runs: Path, uri: str, report: Report, log: IO[bytes], go_on: Callable[[], bool]
) -> None:
    """Keep syncing while the server lives and ``go_on`` lets it."""
    while go_on():
        try:
            server.wait(EVERY)
        except subprocess.TimeoutExpired:
            _catch_up(runs, uri, report)
            continue
        ended = f"the MLflow server ended by itself (code {server.returncode}); repeat `make ui`"
        raise UserError(f"{ended}. Its last words:{_tail(log)}")


def _catch_up(runs: Path, uri: str, report: Report) -> None:
    """A sync that fails is reported; the next one makes up for it."""
    try:
        sync(live_records.read(where=runs), runs, uri, report)
    except UserError as problem:
        report(str(problem))


@contextlib.contextmanager
def _server(runs: Path, uri: str, port: int, log: IO[bytes]) -> Iterator[subprocess.Popen]:
    """An MLflow server, ended with all its processes."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--artifacts-destination", str(runs / "mlartifacts"), "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {**SETTINGS, **SERVER, **os.environ}
    # A session of its own: Ctrl-C reaches us alone.
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield server
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):  # the second for what outlived its parent
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(10)


def _await(server: subprocess.Popen, port: int, log: IO[bytes]) -> None:
    """Return when the server answers."""
    end = time.monotonic() + START
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise UserError(f"the MLflow server did not start; its last words:{_tail(log)}")


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()[-8:] or ["(none)"]
    return "".join(f"\n  {line}" for line in lines)


def _free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return True
    return False
