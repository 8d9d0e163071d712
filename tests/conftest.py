"""For every test: one thread, its own runs/ and reports/, nothing sent anywhere."""

import os

# Before anything imports torch or mlflow, and inherited by every process a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# What the caller set for runs of their own must not steer a test, nor a test reach the caller's server or queue.
INHERITED = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")
VARIABLES = ("TASK", "METHOD", "PRESET", "DATA", "CLUSTER", "SET", "FORMAT", "PORT", "WORKERS", "ARGS", "PYTHON")
for name in (*INHERITED, *VARIABLES, "MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS"):
    os.environ.pop(name, None)

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """RUNS and REPORTS below the test's own ``tmp_path``, which is returned."""
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("REPORTS", str(tmp_path / "reports"))
    return tmp_path
