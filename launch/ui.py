"""``make ui``: the MLflow view in a browser, kept up to date while it is open."""

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
from pathlib import Path

from common.errors import UserError
from launch import records, view
from launch.sync import SETTINGS, address, shown, sync

EVERY = 10  # seconds between two syncs
START = 90  # seconds the server may take to answer

# One worker without the job executor needs a fifth of the memory; the default connection pool is smaller than the
# server's thread pool and answers with errors under load.
SERVER = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}


# Shown at once, also where the output goes to a file.
say = functools.partial(print, flush=True)


def ui(runs: Path, port: int = 5000, report=say) -> None:
    """Sync, serve the view on this machine until Ctrl-C, and sync again every ten seconds meanwhile.

    With ``MLFLOW_TRACKING_URI`` at a server there is nothing to start: sync, and say where to look.
    """
    runs = Path(runs).absolute()
    uri = address(runs)
    if uri.startswith("http"):
        _say(sync(records.read(where=runs), runs, uri, report), report)
        _pages(shown(uri).rstrip("/"), runs, uri, report)
        return
    if not 0 < int(port) < 65536 or not _free(int(port)):
        raise UserError(f"port {port} is taken or not allowed here; choose another: make ui PORT={int(port) + 1}")
    _say(sync(records.read(where=runs), runs, uri, report), report)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends the server, too
    try:
        with tempfile.TemporaryFile() as log:
            server = _start(runs, uri, int(port), log)
            try:
                _await(server, int(port), log)
                _pages(f"http://127.0.0.1:{port}", runs, uri, report)
                report("Ctrl-C ends it")
                _follow(server, runs, uri, report, log)
            except KeyboardInterrupt:
                report("closed; the records stay")
            finally:
                _end(server)
    finally:
        signal.signal(signal.SIGTERM, before)


def _pages(server: str, runs: Path, uri: str, report) -> None:
    """The address of each task's runs; MLflow's front page opens on language-model traces, where there are none."""
    report(f"MLflow: {server}")
    for task, identity in sorted(view.Offsets(runs, uri).experiments.items()):
        report(f"  {task}: {server}/#/experiments/{identity.partition('/')[0]}/runs?workflowType=machine_learning")


def _follow(server: subprocess.Popen, runs: Path, uri: str, report, log) -> None:
    """Keep syncing while the server lives; a sync that fails is reported, and the next one catches up."""
    while True:
        try:
            server.wait(EVERY)
        except subprocess.TimeoutExpired:
            try:
                sync(records.read(where=runs), runs, uri, report)
            except UserError as problem:
                report(str(problem))
            continue
        ended = f"the MLflow server ended by itself (code {server.returncode}); repeat `make ui`"
        raise UserError(f"{ended}. Its last words:{_tail(log)}")


def _start(runs: Path, uri: str, port: int, log) -> subprocess.Popen:
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--artifacts-destination", str(runs / "mlartifacts"), "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {**SETTINGS, **SERVER, **os.environ}
    # A session of its own: Ctrl-C reaches us alone, and we end the server with all its processes.
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def _await(server: subprocess.Popen, port: int, log) -> None:
    """Return when the server answers."""
    end = time.monotonic() + START
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise UserError(f"the MLflow server did not start; its last words:{_tail(log)}")


def _tail(log) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()[-8:] or ["(none)"]
    return "".join(f"\n  {line}" for line in lines)


def _end(server: subprocess.Popen) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if server.poll() is None:
            os.killpg(server.pid, number)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                continue


def _free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _say(result, report) -> None:
    report(f"synced: {result.points} new points, {result.new_runs} new runs, {result.skipped} stages unchanged")
