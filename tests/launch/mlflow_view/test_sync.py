"""The MLflow view, against real MLflow: every point once, whatever is repeated, cut off, killed or started twice."""

import http.server
import itertools
import json
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from common import paths
from common.errors import UserError
from launch.mlflow_view import sync
from launch.mlflow_view.address import address, shown
from launch.mlflow_view.sync import establish
from launch.runs import locks, records
from launch.slurm import live_records
from tests.support.fake_slurm import Slurm, make, row, submitted
from tests.support.mlflow_view import (
    METRICS,
    PATIENCE,
    ROOT,
    SYNC,
    View,
    empty_database,
    free_port,
    go,
    plan,
    process,
    recorded,
    stored,
)
from tests.support.stages import START, line, stage


@pytest.fixture
def runs(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "mlflow.db").write_bytes(empty_database())
    return runs


def test_parameters_metrics_tags_times_and_the_parent_run(runs):
    plan(runs, "2025-01-01-first", "abc", "def")
    plan(runs, "2025-02-01-second", "abc")
    stage(runs, "def", "dense", 0.0)
    more = {"collapsed": True, "measurements": {"instability": 1.5, "line_score": [97.0, 96.0]}}
    folder = stage(runs, "abc", "rigl", 0.8, 3, 91.25, parent="def", variant="method.drop=0.5", **more)
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
        "measurements/instability": 1.5,
    }
    assert "measurements/line_score" not in run.data.metrics
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
    code = f"{SYNC}\nprint('mlflow' in sys.modules)"
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
    elif how == "newer":
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    elif how == "two versions":
        with sqlite3.connect(database) as connection:
            connection.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
    elif how == "no stages":
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE experiments SET lifecycle_stage = NULL")
    elif how == "other columns":
        with sqlite3.connect(database) as connection:
            connection.execute("ALTER TABLE metrics RENAME COLUMN step TO steps")
    elif how == "folder":
        database.unlink()
        database.mkdir()
    else:  # a migration that was cut off: its tables are there, its mark is not
        with sqlite3.connect(database) as connection:
            connection.execute("DROP TABLE inputs")
            connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")


NEW = ("newer", "two versions")  # which MLflow looks at once in the life of a process


@pytest.mark.parametrize(
    "how, offsets",
    [
        *itertools.product(["garbage", "truncated", "flipped", "half migrated", "folder"], ["kept", "lost"]),
        *((how, "lost") for how in (*NEW, "no stages", "other columns")),
    ],
)
def test_a_damaged_database_is_moved_aside_and_filled_again(runs, how, offsets):
    stage(runs, "abc")
    if how not in NEW:
        go(runs)
    if offsets == "lost":
        for file in (runs / ".sync").glob("*"):
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


@pytest.mark.parametrize("how", ["garbage", "truncated", "newer", "two versions", "folder"])
def test_a_foreign_database_that_cannot_be_used_is_refused_and_stays(runs, tmp_path, how, capfd):
    foreign = tmp_path / "foreign.db"
    foreign.write_bytes(empty_database())
    broken(foreign, how)
    before = foreign.read_bytes() if foreign.is_file() else None
    stage(runs, "abc")
    start = time.monotonic()
    with pytest.raises(UserError, match="Nothing is lost") as raised:
        go(runs, f"sqlite:///{foreign}")
    assert ("another version of MLflow" in str(raised.value)) == (how in NEW)
    assert before is None or foreign.read_bytes() == before
    assert list(tmp_path.glob("foreign.db*")) == [foreign] and time.monotonic() - start < 30
    assert "Traceback" not in capfd.readouterr().err


ANSWERS = {
    "html": b"<html>welcome</html>",
    "broken": b'{"experiment": ',
    "nothing": b"{}",
    "numbers": b'{"experiment": 3}',
    "another": b'{"experiment": {"experiment_id": "7", "name": "others"}}',
    "no runs": b'{"experiment": {"experiment_id": "7", "name": "toy"}, "runs": 5}',
    "no ids": b'{"experiment": {"experiment_id": "7", "name": "toy"}, "runs": [{}]}',
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_server_whose_answers_are_none(runs, kind):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(ANSWERS[kind])))
            self.end_headers()
            self.wfile.write(ANSWERS[kind])

        do_POST = do_GET

        def log_message(self, *_):
            pass

    stage(runs, "abc")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        try:
            with pytest.raises(
                UserError, match=r"(?s)did not take the records \((it answers, but not|.*JSON).*is lost"
            ):
                go(runs, uri)
        finally:
            server.shutdown()


@pytest.mark.parametrize("what", ["run", "sweep", "experiment renamed", "experiment deleted"])
def test_what_somebody_removed_from_mlflow_is_sent_again(runs, what):
    """``make sync`` looks; a sweep, which syncs after every training, does not take that time."""
    plan(runs, "first", "abc", "def")
    for digest in ("abc", "def"):
        stage(runs, digest)
    go(runs)
    view = View(runs)
    if what == "run":
        view.client.delete_run(view.stages["abc"].info.run_id)
    elif what == "sweep":
        (parent,) = [r for r in view.all if r.data.tags["kind"] == "sweep"]
        view.client.delete_run(parent.info.run_id)
    elif what == "experiment renamed":
        view.client.rename_experiment(view.all[0].info.experiment_id, "mine")
    else:
        view.client.delete_experiment(view.all[0].info.experiment_id)
    assert go(runs) == (0, 0, 2)
    result = sync.sync(records.read(where=runs), runs, look=True)
    assert result.new_runs == {"run": 1, "sweep": 0, "experiment renamed": 2}.get(what, result.new_runs)
    view = View(runs)
    (parent,) = [r for r in view.all if r.data.tags["kind"] == "sweep"]
    assert set(view.stages) == {"abc", "def"} and stored(runs / "mlflow.db") == recorded(runs)
    assert {r.data.tags["mlflow.parentRunId"] for r in view.stages.values()} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"
    assert sync.sync(records.read(where=runs), runs, look=True) == (0, 0, 2)


def test_a_tag_that_somebody_changed(runs):
    stage(runs, "abc")
    go(runs)
    view = View(runs)
    view.client.set_tag(view.stages["abc"].info.run_id, "synced", "all")
    for file in (runs / ".sync").iterdir():
        file.unlink()
    go(runs)
    assert stored(runs / "mlflow.db") == recorded(runs)


def test_a_locked_database_stays_where_it_is(runs):
    from launch.mlflow_view.database import condition, shows_damage

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


def test_an_unreachable_server_is_one_clear_message_and_loses_nothing(runs, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    stage(runs, "abc")
    with pytest.raises(UserError, match="Nothing is lost") as raised:
        go(runs, f"http://somebody:secret@127.0.0.1:{free_port()}")
    assert "secret" not in str(raised.value)
    assert go(runs).new_runs == 1


def test_a_folder_of_files_which_mlflow_takes_no_more_is_one_clear_message(runs, tmp_path, monkeypatch):
    """Nobody is led into that store: without an address the view is a database, which needs no network either."""
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    stage(runs, "abc")
    with pytest.raises(UserError, match=r"mlruns did not take the records .*Nothing is lost"):
        go(runs, str(tmp_path / "mlruns"))
    assert go(runs).new_runs == 1


def test_addresses(runs, monkeypatch):
    assert address(runs) == f"sqlite:///{runs}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:word@host:5000")
    assert shown(address(runs)) == "http://host:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://[::1")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        address(runs)


def statuses(runs):
    view = View(runs)
    return {d: (r.info.status, r.data.tags["state"], r.data.tags.get("reason", "")) for d, r in view.stages.items()}


def test_states_of_the_queue_and_the_run_of_their_sweep(runs, tmp_path, monkeypatch):
    """Running, then its job was cancelled and what stands on it is blocked; a job that failed before it began."""
    slurm = Slurm(tmp_path / "bin", monkeypatch)
    sweep = submitted(runs, ["toy/a"], ["toy/b"], ["toy/c"], ["toy/d"])
    lines = [json.dumps({"task": "toy", "digest": d}) for d in "abcd"]
    (sweep / "plan.jsonl").write_text("\n".join(lines))
    marks = {"job": "12_0", "node": "n1", "attempt": 3, "restarts": 2}
    folder = make(runs, "a", "running")
    paths.status(folder).write_text(json.dumps(json.loads(paths.status(folder).read_text()) | marks))
    for digest, parent in (("b", "a"), ("c", None), ("d", None)):
        make(runs, digest, parent=parent)

    def turn(a, b, c):
        why = "DependencyNeverSatisfied" if a == "CANCELLED" else "Dependency"
        slurm.squeue(row("12_0", a), row("12_1", b, why), row("12_2", c, code=256), row("12_3", "PENDING"))
        sync.sync(live_records.read(where=runs), runs)
        (parent,) = [r for r in View(runs).all if r.data.tags["kind"] == "sweep"]
        return parent.info

    assert turn("RUNNING", "PENDING", "PENDING").status == "RUNNING"
    assert statuses(runs) == {"a": ("RUNNING", "running", "")}  # what waits for its first turn is no run yet
    tags, parameters = View(runs).stages["a"].data.tags, View(runs).stages["a"].data.params
    assert {"job": "12_0", "node": "n1", "attempts": "3", "restarts": "2", "cluster": "here"}.items() <= tags.items()
    assert not {"job", "node", "attempts", "restarts", "cluster"} & set(parameters)
    assert turn("PENDING", "PENDING", "PENDING").status == "SCHEDULED"  # preempted
    assert statuses(runs)["a"][:2] == ("SCHEDULED", "queued")
    assert turn("PREEMPTED", "PENDING", "PENDING").status == "SCHEDULED"  # and cancelled: it is not finished either
    assert statuses(runs)["a"][:2] == ("SCHEDULED", "interrupted")
    assert turn("CANCELLED", "PENDING", "FAILED").status == "SCHEDULED"
    seen = statuses(runs)
    assert seen["a"] == ("KILLED", "cancelled", "its job was cancelled") and seen["c"][:2] == ("FAILED", "failed")
    assert "exit code 1" in seen["c"][2] and View(runs).stages["c"].info.start_time > START * 1000
    assert not {"b", "d"} & set(seen)
    stage(runs, "d")  # it ended well; nobody will start b
    end = turn("CANCELLED", "PENDING", "FAILED")
    assert end.status == "FAILED" and end.end_time and sync.sync(live_records.read(where=runs), runs) == (0, 0, 3)
    stage(runs, "a")  # tried again
    make(runs, "b", "running")
    assert turn("CANCELLED", "RUNNING", "FAILED").status == "RUNNING"
    seen = statuses(runs)
    assert seen["a"] == ("FINISHED", "done", "") and seen["b"] == ("RUNNING", "running", "")


def test_what_the_files_say_meanwhile_is_newer_than_the_queue(runs):
    make(runs, "a", "running")
    old = [replace(record, refined=("queued", "Priority")) for record in records.read(where=runs)]
    sync.sync(old, runs)
    assert statuses(runs)["a"] == ("SCHEDULED", "queued", "Priority")
    stage(runs, "a")
    sync.sync([replace(record, refined=("running", "")) for record in old], runs)
    assert statuses(runs)["a"] == ("FINISHED", "done", "")


def test_the_run_of_a_sweep_ends_also_when_the_sync_broke_off_before(runs, monkeypatch):
    plan(runs, "first", "a", "b")
    stage(runs, "a")
    stage(runs, "b")

    def refuse(*_):
        raise OSError("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(sync.content, "sweeps", lambda *_: [])
        assert go(runs).new_runs == 2
    with monkeypatch.context() as patch:
        patch.setattr(sync.mlflow_runs, "set_status", refuse)
        with pytest.raises(UserError, match="the server is gone"):
            go(runs)
    assert go(runs) == (0, 0, 2) and go(runs) == (0, 0, 2)
    (parent,) = [r for r in View(runs).all if r.data.tags["kind"] == "sweep"]
    assert parent.info.status == "FINISHED"


@pytest.mark.parametrize("turn", range(4))  # MLflow draws the runs' numbers, and so which of two stays
def test_runs_that_another_machine_creates_at_the_same_moment_are_one(runs, monkeypatch, turn):
    from mlflow import MlflowClient

    plan(runs, "first", "a", "b")
    stage(runs, "a", lines=30)
    stage(runs, "b", state="failed")
    create = MlflowClient.create_run

    def twice(self, *arguments, **options):
        create(self, *arguments, **options)
        return create(self, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_run", twice)
    go(runs)
    view = View(runs)
    assert len(view.all) == 3 and stored(runs / "mlflow.db") == recorded(runs)
    (parent,) = [r for r in view.all if r.data.tags["kind"] == "sweep"]
    assert {r.data.tags["mlflow.parentRunId"] for r in view.stages.values()} == {parent.info.run_id}


def test_a_run_that_another_machine_deletes_meanwhile_is_made_again(runs, monkeypatch):
    from mlflow import MlflowClient

    plan(runs, "first", "a")
    stage(runs, "a", lines=400)  # three batches
    batch, deleted = MlflowClient.log_batch, []

    def cut_off(self, run, *arguments, **options):
        batch(self, run, *arguments, **options)
        if not deleted:
            deleted.append(run)
            self.delete_run(run)
            self.delete_run(self.get_run(run).data.tags["mlflow.parentRunId"])

    monkeypatch.setattr(MlflowClient, "log_batch", cut_off)
    go(runs)
    view = View(runs)
    assert len(view.all) == 2 and stored(runs / "mlflow.db") == recorded(runs)
    (parent,) = [r for r in view.all if r.data.tags["kind"] == "sweep"]
    assert parent.info.status == "FINISHED" and deleted
    assert view.stages["a"].data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_two_that_establish_and_one_that_syncs_at_once_on_no_database(runs):
    (runs / "mlflow.db").unlink()
    stage(runs, "a")
    code = (  # each has the patience to wait for the others, however long they take
        "import sys; from launch.mlflow_view import sync; sync.SHORT = 600; print(sync.establish('toy', sys.argv[1]))"
    )
    every = [process(code, runs), process(code, runs), process(SYNC, runs)]
    said = [each.communicate(timeout=PATIENCE)[0] for each in every]
    assert [each.returncode for each in every] == [0, 0, 0], said
    assert [text.splitlines()[-1] for text in said[:2]] == ["True", "True"]
    view = View(runs)
    assert [e.name for e in view.client.search_experiments()].count("toy") == 1 and view.counts() == (1, {"a": 4})
    assert view.experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_establishing_where_that_cannot_be_is_a_note(runs, monkeypatch):
    said = []
    assert establish("toy", runs, said.append) and not said
    with locks.exclusive(runs / ".sync.lock", "sync"):  # by a long sync
        monkeypatch.setattr(sync, "SHORT", 0.2)
        assert not establish("other", runs, said.append)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://somebody:secret@127.0.0.1:{free_port()}")
    start = time.monotonic()
    assert not establish("toy", runs, said.append) and time.monotonic() - start < 20
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://[::1")
    assert not establish("toy", runs, said.append)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-such-scheme://here")
    assert not establish("toy", runs, said.append)
    notes = [text for text in said if text.startswith("note: ")]
    assert len(notes) == 4 and not any("secret" in text or "\n" in text for text in said)


def test_establishing_again_asks_nobody(runs):
    assert establish("toy", runs)
    code = (
        "import sys; "
        "from launch.mlflow_view import sync; print(sync.establish('toy', sys.argv[1]), 'mlflow' in sys.modules)"
    )
    assert process(code, runs).communicate(timeout=PATIENCE)[0] == "True False\n"
    (runs / "mlflow.db").write_bytes(empty_database())  # thrown away: the next sync makes both again
    stage(runs, "a")
    assert go(runs).new_runs == 1 and View(runs).counts() == (1, {"a": 4})
