"""The MLflow view, against real MLflow: every point once, whatever is repeated, cut off, killed or started twice."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from stages import START, line, stage

from common import paths
from common.errors import UserError
from launch import records
from launch.sync import address, shown, sync
from launch.ui import ui

ROOT = Path(__file__).parent.parent
METRICS = ("loss", "learning_rate", "sparsity", "validation_loss", "validation_score")
SYNC = "import sys; from launch import records, sync; sync.sync(records.read(where=sys.argv[1]), sys.argv[1])"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """MLflow takes two seconds to make a database; the tests start from copies of one."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


@pytest.fixture
def runs(tmp_path, empty_database):
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "mlflow.db").write_bytes(empty_database)
    return runs


def plan(runs, name, *digests):
    folder = runs / ".sweeps" / name
    folder.mkdir(parents=True)
    (folder / "plan.jsonl").write_text("".join(json.dumps({"task": "toy", "digest": d}) + "\n" for d in digests))


def go(runs, uri=None, report=print):
    return sync(records.read(where=runs), runs, uri, report)


class View:
    """What MLflow holds, by digest."""

    def __init__(self, runs, uri=None):
        from mlflow import MlflowClient

        self.client = MlflowClient(uri or address(runs))
        self.experiment = self.client.get_experiment_by_name("toy")
        self.all = self.client.search_runs([self.experiment.experiment_id], max_results=1000)
        self.stages = {r.data.tags["digest"]: r for r in self.all if r.data.tags["kind"] == "stage"}

    def history(self, digest, name):
        """(step, milliseconds, value) of one metric."""
        found = self.client.get_metric_history(self.stages[digest].info.run_id, name)
        return sorted((m.step, m.timestamp, m.value) for m in found)

    def counts(self):
        """Number of per-step points of each stage, and of stage runs."""
        numbers = {d: len(self.history(d, "loss")) for d in self.stages}
        return len([r for r in self.all if r.data.tags["kind"] == "stage"]), numbers


def test_parameters_metrics_tags_times_and_the_parent_run(runs):
    plan(runs, "2025-01-01-first", "abc", "def")
    plan(runs, "2025-02-01-second", "abc")
    stage(runs, "def", "dense", 0.0)
    folder = stage(runs, "abc", "rigl", 0.8, 3, 91.25, parent="def", variant="method.drop=0.5", collapsed=True)
    assert go(runs).new_runs == 2
    view = View(runs)
    run = view.stages["abc"]
    for name, value in {"task.dataset": "digits", "run.learning_rate": "0.1", "method.rates": "[0.2, 0.1]"}.items():
        assert run.data.params[name] == value
    wanted = {"task": "toy", "dataset": "digits", "model": "lenet", "method": "rigl", "sparsity": "0.8", "seed": "3"}
    assert wanted.items() <= run.data.params.items() and wanted.items() <= run.data.tags.items()
    tags = {"digest": "abc", "state": "done", "variant": "method.drop=0.5", "parent": "def", "collapsed": "true"}
    tags |= {"sweep": "2025-01-01-first", "sweeps": "2025-01-01-first 2025-02-01-second"}
    assert tags.items() <= run.data.tags.items()
    final = {
        "score": 91.25,
        "score_validation": 90.25,
        "sparsity": 0.8,
        "sparsity_all": 0.9 * 0.8,
        "epochs": 2.0,
        "zeros": 5,
    }
    assert final.items() <= run.data.metrics.items()
    assert "seed" not in run.data.metrics and "collapsed" not in run.data.metrics
    milliseconds = round(START * 1000)
    assert view.history("abc", "loss") == [(s, milliseconds + s * 1000 + 125, 1 / s) for s in (10, 20, 30, 40)]
    assert [value != value for _, _, value in view.history("abc", "validation_loss")] == [True] * 4  # NaN stays NaN
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", milliseconds, milliseconds + 10**6)
    (parent,) = [r for r in view.all if r.data.tags["kind"] == "sweep"]
    assert parent.info.run_name == "2025-01-01-first" and parent.info.status == "FINISHED"
    assert {r.data.tags["mlflow.parentRunId"] for r in view.stages.values()} == {parent.info.run_id}
    assert {a.path for a in view.client.list_artifacts(run.info.run_id)} == {"config.yaml", "summary.json"}
    assert (runs / "mlartifacts").is_dir() and paths.config(folder).exists()


def test_nothing_new_is_quick_and_imports_no_mlflow(runs):
    stage(runs, "abc")
    assert go(runs)[:2] == (1, 4 * len(METRICS) + 7)
    code = f"{SYNC}; print('mlflow' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code, str(runs)], cwd=ROOT, capture_output=True, text=True)
    assert out.stdout == "False\n", out.stderr
    assert go(runs) == (0, 0, 1)


@pytest.mark.parametrize("lost", ["offsets", "offsets and tag"])
def test_a_replay_doubles_nothing(runs, lost):
    plan(runs, "first", "abc", "def")
    stage(runs, "abc", lines=300)  # two batches
    stage(runs, "def", state="failed")
    go(runs)
    before = View(runs)
    for file in (runs / ".sync").iterdir():
        file.unlink()
    if "tag" in lost:  # as if the first sync had been killed after its last batch of values
        for run in before.stages.values():
            before.client.delete_tag(run.info.run_id, "synced")
    assert go(runs).new_runs == 0
    after = View(runs)
    assert after.counts() == before.counts() == (2, {"abc": 300, "def": 4}) and len(after.all) == 3
    for name in (*METRICS, "score"):
        assert repr(after.history("abc", name)) == repr(before.history("abc", name))
    assert after.stages["def"].info.status == "FAILED"


def test_only_committed_lines_are_sent_and_rewritten_lines_appear_once(runs):
    folder = stage(runs, "abc", state="running", lines=4, committed=2)
    go(runs)
    assert [step for step, _, _ in View(runs).history("abc", "loss")] == [10, 20]
    assert View(runs).stages["abc"].data.tags["state"] == "interrupted"
    # killed; resumed from the checkpoint: the lines after it are cut and written again, later
    kept = paths.metrics(folder).read_bytes().splitlines(keepends=True)[:2]
    stage(runs, "abc", lines=4)
    paths.metrics(folder).write_bytes(b"".join(kept) + (line(30, START + 99) + line(40, START + 99)).encode())
    go(runs)
    view = View(runs)
    times = [round(1000 * (START + late + step + 0.125)) for step, late in ((10, 0), (20, 0), (30, 99), (40, 99))]
    assert [(step, time) for step, time, _ in view.history("abc", "loss")] == list(zip((10, 20, 30, 40), times))
    assert view.stages["abc"].info.status == "FINISHED" and len(view.all) == 1


@pytest.mark.parametrize("offsets", ["kept", "lost"])
def test_a_stage_trained_again_replaces_its_run(runs, offsets):
    """Its folder was deleted, or it fell back to the checkpoint before the last: same digest, other time stamps."""
    stage(runs, "abc", lines=3)
    go(runs)
    stage(runs, "abc", lines=5, start=START + 5000)
    if offsets == "lost":
        for file in (runs / ".sync").iterdir():
            file.unlink()
    go(runs)
    view = View(runs)
    assert view.counts() == (1, {"abc": 5})
    assert view.history("abc", "loss")[0][1] == round(1000 * (START + 5010.125))


def test_a_sparsity_known_only_at_the_end_becomes_a_parameter_then(runs):
    stage(runs, "abc", sparsity=None, state="running")
    go(runs)
    assert "sparsity" not in View(runs).stages["abc"].data.params
    stage(runs, "abc", sparsity=None, sparsity_target=0.488)
    go(runs)
    assert View(runs).stages["abc"].data.params["sparsity"] == "0.488"


def test_the_view_may_be_deleted_or_emptied(runs):
    stage(runs, "abc")
    for _ in range(2):  # processes of their own, as MLflow keeps a file open that is deleted under it
        subprocess.run([sys.executable, "-c", SYNC, str(runs)], cwd=ROOT, check=True)
        assert (runs / "mlflow.db").exists()
        kept = (runs / "mlflow.db").read_bytes()
        (runs / "mlflow.db").unlink()
    (runs / "mlflow.db").write_bytes(kept)
    assert View(runs).counts() == (1, {"abc": 4})
    view = View(runs)
    view.client.delete_run(view.stages["abc"].info.run_id)  # in the UI
    stage(runs, "abc", lines=5)
    go(runs)
    assert View(runs).counts() == (1, {"abc": 5})


def broken(database, how):
    if how == "garbage":
        database.write_bytes(b"no database at all" * 500)
    elif how == "truncated":
        database.write_bytes(database.read_bytes()[:20_000])
    elif how == "flipped":  # every page but the first
        content = database.read_bytes()
        database.write_bytes(content[:4096] + bytes(byte ^ 0x55 for byte in content[4096:]))
    else:  # a migration that was cut off: its tables are there, its mark is not
        with sqlite3.connect(database) as connection:
            connection.execute("DROP TABLE inputs")
            connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")


@pytest.mark.parametrize("how", ["garbage", "truncated", "flipped", "half migrated"])
@pytest.mark.parametrize("offsets", ["kept", "lost"])
def test_a_damaged_database_is_moved_aside_and_filled_again(runs, how, offsets):
    stage(runs, "abc")
    go(runs)
    if offsets == "lost":
        for file in (runs / ".sync").iterdir():
            file.unlink()
    if how == "half migrated":
        stage(runs, "def")
    broken(runs / "mlflow.db", how)
    (runs / "mlflow.db-journal").touch()
    start = time.monotonic()
    said = []
    assert go(runs, report=said.append).new_runs == (2 if how == "half migrated" else 1)
    (aside,) = runs.glob("mlflow.db.damaged-*[0-9]")
    assert len(said) == 1 and aside.name in said[0] and time.monotonic() - start < 30
    assert go(runs).new_runs == 0
    code = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute("
        "\"SELECT count(*) FROM tags WHERE key = 'kind' AND value = 'stage'\").fetchone()[0])"
    )
    out = subprocess.run([sys.executable, "-c", code, str(runs / "mlflow.db")], capture_output=True, text=True)
    assert out.stdout == ("2\n" if how == "half migrated" else "1\n"), out.stderr


def test_a_locked_database_stays_where_it_is(runs):
    from launch.database_file import condition, shows_damage

    stage(runs, "abc")
    go(runs)
    holder = sqlite3.connect(runs / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert condition(runs / "mlflow.db", thorough=True) == "usable" and go(runs) == (0, 0, 1)
    holder.close()
    for text in ("database is locked", "database or disk is full", "attempt to write a readonly database"):
        assert not shows_damage(sqlite3.OperationalError(text))


@pytest.mark.parametrize("content", ["[]", "null", '{"stages": null}', '{"stages": {"toy/abc": {"run": 1}}}', "\udcff"])
def test_damaged_offsets_are_read_from_the_runs_again(runs, content):
    stage(runs, "abc")
    go(runs)
    (file,) = (runs / ".sync").iterdir()
    file.write_bytes(content.encode(errors="surrogateescape"))
    assert go(runs).new_runs == 0
    assert View(runs).counts() == (1, {"abc": 4})


def test_offsets_that_cannot_be_written_are_one_clear_message(runs):
    stage(runs, "abc")
    (runs / ".sync").write_text("a file")
    with pytest.raises(UserError, match="Nothing is lost"):
        go(runs)
    with pytest.raises(UserError, match="did not take"):  # the first error is the one to tell
        go(runs, "sqlite:////dev/null/mlflow.db")
    (runs / ".sync").unlink()
    assert go(runs).new_runs == 0 and View(runs).counts() == (1, {"abc": 4})


def test_a_status_of_wrong_types_is_shown_as_far_as_it_goes(runs):
    folder = stage(runs, "abc", state="running")
    paths.status(folder).write_text('{"state": "running", "started": "x", "updated": [], "committed": "all"}')
    with open(paths.metrics(folder), "a") as file:
        file.write('{"step": 1, "time": Infinity}\n')
    assert go(runs) == (1, 0, 0)
    done = stage(runs, "def", steps="many")
    paths.status(done).write_text('{"started": "x", "updated": {}}')
    assert go(runs).new_runs == 1


def test_damaged_and_unstarted_stages_are_passed_over(runs):
    folder = stage(runs, "bad")
    paths.config(folder).write_text("a: [")
    waiting = stage(runs, "queued", state="queued")
    paths.status(waiting).write_text('{"state": "queued"}')
    assert go(runs) == (0, 0, 0)
    torn = stage(runs, "torn")
    paths.metrics(torn).write_text(line(10) + '{"step": 2\n' + line(30).replace(": 0.1", ": Infinity"))
    assert go(runs).new_runs == 1
    view = View(runs)
    assert [step for step, _, _ in view.history("torn", "loss")] == [10, 30]
    assert view.history("torn", "learning_rate")[1][2] != view.history("torn", "learning_rate")[1][2]  # sent as NaN


def test_two_syncs_at_once_double_nothing(runs):
    plan(runs, "first", *(f"s{i}" for i in range(6)))
    for i in range(6):
        stage(runs, f"s{i}")
    command = [sys.executable, "-c", SYNC, str(runs)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    view = View(runs)
    assert view.counts() == (6, {f"s{i}": 4 for i in range(6)}) and len(view.all) == 7
    assert sum("waiting" in text for text in said) <= 1


def test_an_unreachable_server_is_one_clear_message_and_loses_nothing(runs, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    stage(runs, "abc")
    with pytest.raises(UserError, match="Nothing is lost") as raised:
        go(runs, f"http://somebody:secret@127.0.0.1:{free_port()}")
    assert "secret" not in str(raised.value)
    assert go(runs).new_runs == 1


def test_addresses(runs, monkeypatch):
    assert address(runs) == f"sqlite:///{runs}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:word@host:5000")
    assert shown(address(runs)) == "http://host:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://[::1")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        address(runs)


def free_port():
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def answers(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).status == 200
    except OSError:
        return False


class Server:
    """A real MLflow server on this machine, which can be killed and started again."""

    def __init__(self, folder):
        self.port, self.process = free_port(), None
        self.command = [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--backend-store-uri",
            f"sqlite:///{folder}/server.db",
        ]
        self.command += ["--artifacts-destination", f"{folder}/artifacts", "--host", "127.0.0.1", "--workers", "1"]
        self.command += ["--port", str(self.port)]

    def start(self):
        variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        self.process = subprocess.Popen(self.command, env=os.environ | variables, **quiet)
        wait(lambda: answers(self.port))

    def kill(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)


def wait(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_a_server_that_is_killed_and_returns_loses_and_doubles_nothing(runs, tmp_path, empty_database, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    stages, lines = 12, 400
    plan(runs, "first", *(f"s{i:02d}" for i in range(stages)))
    for i in range(stages):
        stage(runs, f"s{i:02d}", lines=lines)
    (tmp_path / "server.db").write_bytes(empty_database)
    server = Server(tmp_path)
    uri = f"http://127.0.0.1:{server.port}"
    try:
        server.start()

        def kill_in_the_middle():
            from mlflow import MlflowClient

            client = MlflowClient(f"sqlite:///{tmp_path}/server.db")
            wait(lambda: (e := client.get_experiment_by_name("toy")) and len(client.search_runs([e.experiment_id])) > 4)
            server.kill()

        killer = threading.Thread(target=kill_in_the_middle)
        killer.start()
        with pytest.raises(UserError, match="Nothing is lost"):
            go(runs, uri)
        killer.join()
        reached = View(runs, f"sqlite:///{tmp_path}/server.db").counts()[0]
        server.start()
        assert 0 < reached < stages and go(runs, uri).new_runs == stages - reached
        view = View(runs, uri)
        assert view.counts() == (stages, {f"s{i:02d}": lines for i in range(stages)}) and len(view.all) == stages + 1
    finally:
        server.kill()


def test_ui_syncs_serves_and_ends_with_its_server(runs):
    stage(runs, "abc")
    port = free_port()
    code = "import sys; from pathlib import Path; from launch.ui import ui; ui(Path(sys.argv[1]), int(sys.argv[2]))"
    command = [sys.executable, "-c", code, str(runs), str(port)]  # into a pipe, where nothing is shown unless flushed
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        said = [process.stdout.readline() for _ in range(2)]
        assert "1 new runs" in said[0] and f"http://127.0.0.1:{port}" in said[1] and answers(port)
        with pytest.raises(UserError, match="PORT="):
            ui(runs, port)
    finally:
        process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "closed" in out and not answers(port)


def test_the_last_words_of_a_server_that_died(tmp_path):
    from launch.ui import _follow

    with open(tmp_path / "log", "w+b") as log:
        command = [sys.executable, "-c", "import sys; print('the disk is full'); sys.exit(3)"]
        server = subprocess.Popen(command, stdout=log)
        with pytest.raises(UserError, match=r"(?s)code 3.*the disk is full"):
            _follow(server, tmp_path, "", print, log)
