"""The view on a real MLflow server that is killed, comes back, hangs, and is filled by several at once."""

import json
import os
import shutil
import signal
import threading
import time

import pytest

from common import paths
from common.errors import UserError
from tests.support.mlflow_view import (
    PATIENCE,
    SYNC,
    Server,
    View,
    answers,
    empty_database,
    go,
    plan,
    process,
    recorded,
    stage_runs,
    stored,
    wait,
)
from tests.support.stages import START, line, stage

STATUS = {"done": "FINISHED", "failed": "FAILED", "running": "RUNNING", "stopped": "SCHEDULED"}
# As from a machine whose file system has no locks: nothing keeps two syncs apart.
UNLOCKED = (
    "import contextlib; from launch.runs import locks; locks.exclusive = lambda *_, **__: contextlib.nullcontext();"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    (folder / "server.db").write_bytes(empty_database())
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def runs(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    return runs


def growing(runs, digest, task, lines, committed):
    """A stage that is being trained now: heard of a moment ago, from a machine whose locks may not be seen here."""
    folder = stage(runs, digest, state="running", task=task, lines=lines, committed=committed)
    path = paths.status(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"updated": time.time(), "host": "another-machine"}))


def tree(runs, task, number, lines):
    """Stages in four states, in two sweeps that share the first; returns digest -> state."""
    kinds = ("done", "running", "failed", "done", "stopped", "done")
    states = {f"s{i:02d}": kinds[i % len(kinds)] for i in range(number)}
    for digest, state in states.items():
        if state == "running":
            growing(runs, digest, task, lines, lines // 2)
        else:
            stage(runs, digest, state=state, task=task, lines=lines)
    plan(runs, f"first-{task}", *states, task=task)
    plan(runs, f"second-{task}", "s00", task=task)
    return states


def check(runs, server, task, states):
    """Every point of the files is there once, every stage and the sweep is one run, in its state."""
    assert stored(server.database, task) == recorded(runs, task)
    view = View(runs, server.uri, task)
    assert {d: r.info.status for d, r in view.stages.items()} == {d: STATUS[s] for d, s in states.items()}
    (parent,) = [r for r in view.all if r.data.tags["kind"] == "sweep"]
    assert len(view.all) == len(states) + 1 and parent.data.tags["sweep"] == f"first-{task}"
    assert {r.data.tags["mlflow.parentRunId"] for r in view.stages.values()} == {parent.info.run_id}
    order = ("RUNNING", "SCHEDULED", "FAILED", "FINISHED")
    assert parent.info.status == min((STATUS[state] for state in states.values()), key=order.index)


def test_a_server_that_is_killed_in_the_middle_and_returns(runs, server):
    states = tree(runs, "killed", 12, 400)

    def kill_in_the_middle():
        wait(lambda: stage_runs(server.database, "killed") > 4)
        server.kill()

    killer = threading.Thread(target=kill_in_the_middle)
    killer.start()
    try:
        with pytest.raises(UserError, match="Nothing is lost"):
            go(runs, server.uri)
        killer.join()
        there = stage_runs(server.database, "killed")
        assert 4 < there < len(states) and stored(server.database, "killed") != recorded(runs, "killed")
        start = time.monotonic()
        with pytest.raises(UserError, match=r"\([^()]*Connection refused\). Nothing is lost"):
            go(runs, server.uri)  # with nobody there at all
        assert time.monotonic() - start < 15
    finally:
        killer.join()
        server.start()
    assert len(states) - there - 1 <= go(runs, server.uri).new_runs <= len(states) - there
    check(runs, server, "killed", states)
    growing(runs, "s01", "killed", 400, 350)  # its next resume point
    stage(runs, "s07", task="killed", lines=400)  # its end
    points = go(runs, server.uri).points
    assert points == 5 * 150 + 5 * 200 + 7
    check(runs, server, "killed", states | {"s07": "done"})
    assert go(runs, server.uri) == (0, 0, len(states))
    for digest in (d for d, state in states.items() if state in ("running", "stopped")):
        stage(runs, digest, task="killed", lines=400)
    go(runs, server.uri)
    check(runs, server, "killed", {d: "failed" if s == "failed" else "done" for d, s in states.items()})


def test_a_syncer_that_is_killed_again_and_again(runs, server):
    states = tree(runs, "syncer", 15, 300)
    for reached in (1, 5, 9):
        sync = process(SYNC, runs, MLFLOW_TRACKING_URI=server.uri)
        wait(lambda: stage_runs(server.database, "syncer") > reached or sync.poll() is not None)  # noqa: B023
        sync.kill()
        sync.communicate()
        assert sync.returncode == -signal.SIGKILL and stage_runs(server.database, "syncer") < len(states)
    go(runs, server.uri)
    check(runs, server, "syncer", states)


@pytest.mark.parametrize("machines", ["one", "two"])
def test_two_syncs_at_once(runs, server, tmp_path, machines):
    """On one machine they wait for each other; two that share neither locks nor folders meet at the server."""
    task = f"at-once-{machines}"
    states = tree(runs, task, 12, 200)
    places = [runs, runs]
    if machines == "two":
        places[1] = tmp_path / "copy"
        shutil.copytree(runs, places[1])
    code = SYNC if machines == "one" else f"{UNLOCKED}{SYNC}"
    both = [process(code, place, MLFLOW_TRACKING_URI=server.uri) for place in places]
    said = [each.communicate(timeout=PATIENCE)[0] for each in both]
    # Two that meet in the same run may have to leave the rest to the next sync; they say so.
    allowed = {0} if machines == "one" else {0, 1}
    assert {each.returncode for each in both} <= allowed, said
    assert all("Nothing is lost" in text for each, text in zip(both, said) if each.returncode), said
    for place in places if any(each.returncode for each in both) else []:
        go(place, server.uri)
    check(runs, server, task, states)


def test_a_server_that_hangs_costs_seconds(runs, server, monkeypatch):
    """It accepts connections and says nothing. The patience is cut here: 3 attempts of 10 s are the default."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    stage(runs, "a", task="hung")
    os.killpg(server.process.pid, signal.SIGSTOP)
    try:
        start = time.monotonic()
        with pytest.raises(UserError, match="Nothing is lost"):
            go(runs, server.uri)
        assert time.monotonic() - start < 15
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
    wait(lambda: answers(server.port))
    go(runs, server.uri)
    assert stored(server.database, "hung") == recorded(runs, "hung")


def test_an_experiment_that_two_establish_at_once_on_a_server(runs, server, tmp_path):
    code = f"{UNLOCKED}import sys; from launch.mlflow_view import sync; print(sync.establish('both', sys.argv[1]))"
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        place.mkdir()
    both = [process(code, place, MLFLOW_TRACKING_URI=server.uri) for place in places]
    assert [each.communicate(timeout=PATIENCE)[0] for each in both] == ["True\n", "True\n"]
    client = View(runs, server.uri, "Default").client
    assert [e.name for e in client.search_experiments()].count("both") == 1


def test_ui_with_a_server_elsewhere_keeps_syncing(runs, server):
    """A stage that ends and one that appears while it is open; a closed terminal ends it, and the server stays."""
    growing(runs, "a", "open", 10, 4)
    code = "import sys; from launch.mlflow_view import ui; ui.EVERY = 0.3; ui.ui(sys.argv[1])"
    shown = process(code, runs, MLFLOW_TRACKING_URI=server.uri)
    try:
        said = [shown.stdout.readline() for _ in range(4)]
        assert "1 new run," in said[0] and server.uri in said[1] and "experiments/" in said[2] and "Ctrl-C" in said[3]
        assert stored(server.database, "open") == recorded(runs, "open")
        stage(runs, "a", task="open", lines=10)
        stage(runs, "b", task="open", lines=7, state="failed")
        wait(lambda: stored(server.database, "open") == recorded(runs, "open"))
        ends = {"a": "FINISHED", "b": "FAILED"}
        wait(lambda: {d: r.info.status for d, r in View(runs, server.uri, "open").stages.items()} == ends)
    finally:
        shown.send_signal(signal.SIGHUP)
    out, _ = shown.communicate(timeout=PATIENCE)
    assert shown.returncode == 0 and "closed" in out and answers(server.port)


def test_lines_that_a_resumed_stage_writes_again_are_on_a_server_once(runs, server, capsys):
    growing(runs, "a", "again", 8, 5)
    go(runs, server.uri)
    folder = runs / "again" / "a"
    kept = paths.metrics(folder).read_bytes().splitlines(keepends=True)[:5]
    stage(runs, "a", task="again", lines=8)
    paths.metrics(folder).write_bytes(b"".join(kept) + b"".join(line(10 * i, START + 99).encode() for i in (6, 7, 8)))
    go(runs, server.uri)
    assert stored(server.database, "again") == recorded(runs, "again")
    assert not capsys.readouterr().out  # MLflow likes to print two lines a run
