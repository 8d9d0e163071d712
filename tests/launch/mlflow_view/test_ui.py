"""``make ui`` with its own server: syncs first, keeps syncing while open, and leaves no process behind."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from common.errors import UserError
from launch.mlflow_view.ui import ui
from tests.support.fake_slurm import Slurm, make, row, submitted
from tests.support.mlflow_view import (
    PATIENCE,
    View,
    answers,
    empty_database,
    free_port,
    process,
    recorded,
    stored,
    wait,
)
from tests.support.stages import stage

UI = "import sys; from launch.mlflow_view import ui; ui.EVERY = 0.3; ui.ui(sys.argv[1], int(sys.argv[2]))"


@pytest.fixture
def runs(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "mlflow.db").write_bytes(empty_database())
    return runs


def processes(port):
    """Those of this machine that were started for a port: ours and the server's."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read()
        except OSError:  # it ended meanwhile
            continue
        if f"\0{port}\0".encode() in command:
            found.append(int(pid))
    return found


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_it_syncs_serves_follows_and_ends_with_its_server(runs, tmp_path, monkeypatch, end):
    slurm = Slurm(tmp_path / "bin", monkeypatch)
    submitted(runs, ["toy/a"], ["toy/b"])
    slurm.squeue(row("12_0", "RUNNING"), row("12_1", "PENDING"))
    make(runs, "a", "running")
    make(runs, "b")
    port = free_port()
    shown = process(UI, runs, port)  # into a pipe, where nothing is seen unless flushed
    try:
        said = [shown.stdout.readline() for _ in range(2)]
        assert "1 new run," in said[0] and f"http://127.0.0.1:{port}" in said[1] and answers(port)
        uri = f"http://127.0.0.1:{port}"

        def status(digest):
            found = View(runs, uri).stages.get(digest)
            return found and (found.info.status, found.data.tags["state"])

        assert status("a") == ("RUNNING", "running")
        if end == signal.SIGINT:
            with pytest.raises(UserError, match="PORT="):
                ui(runs, port)
            slurm.squeue(row("12_0", "NODE_FAIL"), row("12_1", "RUNNING"))  # the file of a says running for ever
            stage(runs, "b", lines=9)
            wait(lambda: status("b") == ("FINISHED", "done") and status("a") == ("FAILED", "failed"))
            assert stored(runs / "mlflow.db") == recorded(runs)
        assert len(processes(port)) > 1
    finally:
        shown.send_signal(end)
    out, _ = shown.communicate(timeout=PATIENCE)
    assert shown.returncode == 0 and "closed" in out and not answers(port) and not processes(port)


def test_the_last_words_of_a_server_that_died(tmp_path):
    from launch.mlflow_view.ui import _follow

    with open(tmp_path / "log", "w+b") as log:
        command = [sys.executable, "-c", "import sys; print('the disk is full'); sys.exit(3)"]
        server = subprocess.Popen(command, stdout=log)
        with pytest.raises(UserError, match=r"(?s)code 3.*the disk is full"):
            _follow(server, tmp_path, "", print, log, lambda: True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_end_that_a_sync_swallows_is_an_end_all_the_same(tmp_path, monkeypatch, number):
    """Python drops what a signal raises inside a weak reference's callback; one Ctrl-C in sixty was lost so."""
    syncs, said = [], []

    class Nothing:
        points = new_runs = skipped = 0

    def swallowing(*arguments):
        syncs.append(arguments)
        assert len(syncs) < 4, "it goes on"
        if len(syncs) == 2:
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        return Nothing

    monkeypatch.setattr("launch.mlflow_view.ui.sync", swallowing)
    monkeypatch.setattr("launch.mlflow_view.ui.address", lambda runs: "http://nowhere")
    monkeypatch.setattr("launch.mlflow_view.ui._pages", lambda *arguments: None)
    monkeypatch.setattr("launch.mlflow_view.ui.EVERY", 0.01)
    before = signal.getsignal(number)
    ui(tmp_path, report=said.append)
    assert said[-1] == "closed; the records stay" and len(syncs) == 2 and signal.getsignal(number) == before
