"""What MLflow holds compared with the files, a real MLflow server, and syncs as processes of their own."""

import functools
import json
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from pathlib import Path

from common import paths
from launch.mlflow_view.address import address
from launch.mlflow_view.sync import sync
from launch.runs import records
from tests.support.places import ROOT

PATIENCE = 600  # seconds; only ever waited for in full when something is broken
METRICS = ("loss", "learning_rate", "sparsity", "validation_loss", "validation_score")
SYNC = """
import sys
from launch.mlflow_view import sync
from launch.runs import records
sync.sync(records.read(where=sys.argv[1]), sys.argv[1])
"""


@functools.cache
def empty_database() -> bytes:
    """MLflow takes two seconds to make a database; the tests start from copies of one."""
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        MlflowClient(f"sqlite:///{path}").search_experiments()
        return path.read_bytes()


def plan(runs, name, *digests, task="toy"):
    folder = runs / ".sweeps" / name
    folder.mkdir(parents=True)
    (folder / "plan.jsonl").write_text("".join(json.dumps({"task": task, "digest": d}) + "\n" for d in digests))


def go(runs, uri=None, report=print):
    return sync(records.read(where=runs), runs, uri, report)


def process(code, *arguments, **variables):
    """Python code as a process of its own; what it says can be read."""
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


class View:
    """What MLflow holds, by digest."""

    def __init__(self, runs, uri=None, task="toy"):
        from mlflow import MlflowClient

        self.client = MlflowClient(uri or address(runs))
        self.experiment = self.client.get_experiment_by_name(task)
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


def stored(database, task="toy") -> list[tuple]:
    """Every point of the stages' lines that a database shows: (digest, name, step, milliseconds, value)."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            "SELECT tags.value, metrics.key, step, timestamp, metrics.value, is_nan FROM metrics "
            "JOIN runs USING (run_uuid) JOIN tags USING (run_uuid) JOIN experiments USING (experiment_id) "
            "WHERE runs.lifecycle_stage = 'active' AND tags.key = 'digest' AND experiments.name = ?",
            (task,),
        ).fetchall()
    points = [(digest, name, step, moment, None if nan else value) for digest, name, step, moment, value, nan in rows]
    return sorted((p for p in points if p[1] in METRICS and (p[1] != "sparsity" or p[4] == 0)), key=repr)


def recorded(runs, task="toy") -> list[tuple]:
    """What the files say should be there: all lines of what is done, else those that a resume point vouches for."""
    points = []
    for folder in (runs / task).iterdir():
        content = paths.metrics(folder).read_bytes()
        if not paths.done(folder).exists():
            content = content[: json.loads(paths.status(folder).read_text())["committed"]]
        for line in map(json.loads, content.splitlines()):
            step, moment = line.pop("step"), round(line.pop("time") * 1000)
            points += [(folder.name, k, step, moment, None if math.isnan(v) else v) for k, v in line.items()]
    return sorted(points, key=repr)


def stage_runs(database, task="toy") -> int:
    """Runs of stages that are shown; 0 where there is no database yet."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            query = (
                "SELECT count(*) FROM runs JOIN tags USING (run_uuid) JOIN experiments USING (experiment_id) "
                "WHERE runs.lifecycle_stage = 'active' AND tags.key = 'digest' AND experiments.name = ?"
            )
            return connection.execute(query, (task,)).fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def free_port():
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return trial.getsockname()[1]


def answers(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).status == 200
    except OSError:
        return False


def wait(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class Server:
    """A real MLflow server on this machine, which can be killed and started again."""

    def __init__(self, folder):
        self.port, self.process, self.database = free_port(), None, Path(folder) / "server.db"
        self.uri = f"http://127.0.0.1:{self.port}"
        self.command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{self.database}"]
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
