"""For every test: one thread, its own runs/ and reports/, nothing sent anywhere."""

import contextlib
import os
import sys

# Before anything imports torch or mlflow, and inherited by every process a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# Compiled modules are kept: the tests' processes import ours a thousand times.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# What the caller set for runs of their own must not steer a test, nor a test reach the caller's server or queue.
INHERITED = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID")
VARIABLES = ("TASK", "METHOD", "PRESET", "DATA", "CLUSTER", "SET", "FORMAT", "PORT", "WORKERS", "ARGS", "PYTHON")
for name in (*INHERITED, *VARIABLES, "MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS"):
    os.environ.pop(name, None)

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

from tests.support.slurm import cluster as slurm_cluster  # noqa: E402
from tests.support.slurm import files as slurm_files  # noqa: E402
from tests.support.together import together  # noqa: E402

for name in [name for name in os.environ if name.startswith(slurm_cluster.FOREIGN)]:
    del os.environ[name]

settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("project")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """RUNS and REPORTS below the test's own ``tmp_path``, which is returned."""
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("REPORTS", str(tmp_path / "reports"))
    return tmp_path


def pytest_xdist_auto_num_workers(config) -> int:
    """Processes that share the tests: none for files or tests that are named, or for ``-k``, as each costs its imports.

    Otherwise one a processor and one more, as the tests on a real Slurm, in two of them, mostly wait.
    """
    named = all(".py" in word for word in config.args)
    if named or config.option.keyword or getattr(config.option, "lf", False):
        return 0
    return min(len(os.sched_getaffinity(0)), 8) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What uses a Slurm is marked, and comes first."""
    for item in items:
        if {"slurm_session", "slurm_session_accounting", "slurm_with"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slurm")
    items.sort(key=lambda item: item.get_closest_marker("slurm") is None)


class Together(LoadScopeScheduling):
    """Sends each test to whichever process is free, but those that belong ``together`` to one, in their order.

    The plugin's own groups need a private attribute that pytest 9.2 no longer has.
    """

    def _split_scope(self, nodeid: str) -> str:
        return together(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Together(config, log)


@pytest.fixture(scope="module")
def shared_runs(tmp_path_factory):
    """A runs/ for the tests of a file that ask for it: what several of them start from is trained once."""
    return tmp_path_factory.mktemp("shared") / "runs"


def need_slurm(accounting: bool) -> None:
    """Skip, saying what to install, where there is no Slurm; fail instead where REQUIRE_SLURM is set (.ci/run)."""
    if missing := slurm_files.missing(accounting):
        packages = slurm_files.PACKAGES + f" {slurm_files.ACCOUNTING_PACKAGES}" * accounting
        reason = f"a real Slurm is needed: apt-get install {packages} (not found: {', '.join(missing)})"
        (pytest.fail if os.environ.get("REQUIRE_SLURM") else pytest.skip)(reason)


def session_cluster(accounting: bool):
    need_slurm(accounting)
    with slurm_cluster.Cluster(accounting=accounting) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm_session():
    yield from session_cluster(accounting=False)


@pytest.fixture(scope="session")
def slurm_session_accounting():
    yield from session_cluster(accounting=True)


def lend(cluster, monkeypatch):
    """SLURM_CONF names the cluster during the test; afterwards no job is left and every node is up again."""
    for variable, value in cluster.environment().items():
        monkeypatch.setenv(variable, value)
    yield cluster
    cluster.clear()


@pytest.fixture
def slurm(slurm_session, monkeypatch):
    """The session's Slurm without accounting, free of jobs: a ``tests.support.slurm.cluster.Cluster``."""
    yield from lend(slurm_session, monkeypatch)


@pytest.fixture
def slurm_accounting(slurm_session_accounting, monkeypatch):
    """The session's Slurm with accounting, free of jobs."""
    yield from lend(slurm_session_accounting, monkeypatch)


@pytest.fixture
def slurm_with(monkeypatch):
    """A Slurm for this test alone, as ``slurm_with(min_job_age=5)``; SLURM_CONF names the one started last."""
    with contextlib.ExitStack() as stack:

        def start(**settings) -> slurm_cluster.Cluster:
            need_slurm(settings.get("accounting", False))
            cluster = stack.enter_context(slurm_cluster.Cluster(**settings))
            for variable, value in cluster.environment().items():
                monkeypatch.setenv(variable, value)
            return cluster

        yield start
