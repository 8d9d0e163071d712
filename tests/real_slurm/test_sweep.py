"""Sweeps on a real Slurm: fan-out, failures, frozen code, limits, refusals, submissions that are killed half-way."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.__main__ import main
from launch.runs import ledger
from launch.slurm import sbatch
from tests.support.forked import forked
from tests.support.places import ROOT
from tests.support.slurm.site import Site

pytestmark = pytest.mark.slurm

TINY = ("run.steps=40", "run.evaluate_every=20")
SWEEP = ("method=imp,omp_after", "method.sparsity=0.36,0.5", "run.seed=0,1", *TINY)  # 2 dense, 4 + 4 rounds, 4 one-shot
LESS = ("method=imp,omp_after", "method.sparsity=0.2,0.36", "run.seed=0,1", *TINY)  # 2 dense, 2 + 2 rounds, 4 one-shot


@pytest.fixture
def site(slurm, tmp_path) -> Site:
    return Site(slurm, tmp_path)


def submitted(site: Site) -> list[str]:
    """The stages of every element that was handed to Slurm for certain, as often as it was."""
    events = site.events()
    arrays = {e["array"] for e in events if e["event"] == "submitted"}
    arrays -= {e["array"] for e in events if e["event"] == "dropped"}
    lanes = [lane for e in events if e["event"] == "intent" and e["array"] in arrays for lane in e["elements"]]
    return sorted(stage for lane in lanes for stage in lane)


def names(site: Site) -> list[str]:
    return sorted(f"classic/{f.name}" for f in site.stages())


def test_a_sweep_is_submitted_once_and_equals_a_local_one(site):
    said = site.sweep(*SWEEP)
    assert "submitted 14 stages as 14 elements of 7 arrays" in said
    assert "nothing new to submit: 14 stages submitted before" in site.sweep(*SWEEP) or site.counts()["done"]
    site.done()
    site.settled()
    assert submitted(site) == names(site), "every stage in one element"
    assert site.counts() == {"done": 14}
    assert all(site.read(f)["attempt"] == 1 for f in site.stages())
    assert site.results() == site.undisturbed()
    assert "everything asked for is done" in site.sweep(*SWEEP)
    assert "14 stages" in site.launch("sync") or "MLflow has everything" in site.launch("sync")
    report = site.launch("report", *SWEEP)
    assert "omp_after" in report and (site.folder / "reports" / "classic" / "results.csv").exists()


def test_children_start_when_their_own_parent_is_done(site):
    """One element of an array at a time: the first seed's rounds start while the second seed's dense stage trains."""
    site.describe(array_parallelism=1)
    site.slow(0.05)
    site.sweep("method=imp", "method.sparsity=0.36", "run.seed=0,1", *TINY)
    site.cluster.until(lambda: any((f / "DONE").exists() for f in site.stages("dense")), "the first dense stage", 90)
    site.slow(3)  # until a round has begun, the other dense stage will not be done
    site.cluster.until(lambda: any(site.read(f).get("started") for f in site.stages("imp")), "a first round", 90)
    assert sum((f / "DONE").exists() for f in site.stages("dense")) == 1
    site.slow(0)
    site.done()
    dense_ended = max(site.read(f)["updated"] for f in site.stages("dense"))
    assert min(site.read(f)["started"] for f in site.stages("imp")) < dense_ended


def test_what_stands_on_a_failure_is_blocked_and_retry_mends_it(site):
    """Dense stages fail for want of a GPU; what is mended for the second try is no part of their identity."""
    site.sweep("method=imp", "method.sparsity=0.5", "run.seed=0,1", *TINY, "run.device=cuda")
    site.settled()
    assert site.counts() == {"blocked": 8, "failed": 2}
    failed = next(f for f in site.stages() if site.read(f).get("state") == "failed")
    why = site.launch("why", f"run={failed.name[:6]}")
    assert "torch sees no GPU here" in why and "make retry" in why
    blocked = next(f for f in site.stages() if not site.read(f))
    assert "blocked" in site.launch("why", f"run={blocked.name}")
    for path in (folder / "config.yaml" for folder in site.stages()):
        then = path.stat().st_mtime_ns
        path.write_text(path.read_text().replace("device: cuda", "device: auto"))
        os.utime(path, ns=(then, then))  # a younger file would be a stage that was planned anew
    assert "10 stages again" in site.launch("retry")
    site.done()


def test_jobs_run_the_code_as_it_was_when_they_were_submitted(site, tmp_path):
    """The checkout is broken while the jobs wait."""
    checkout = tmp_path / "checkout"
    for part in ("common", "launch", "tasks"):
        shutil.copytree(ROOT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
    site.describe(extra={"hold": "true"})
    command = [sys.executable, "-m", "launch", "sweep", f"cluster={site.file}", "method=omp_after", "run.seed=0", *TINY]
    command.append("method.sparsity=0.5")
    subprocess.run(command, cwd=checkout, env=site.environment(), check=True, capture_output=True)
    for path in checkout.rglob("*.py"):
        path.write_text("raise RuntimeError('edited while jobs waited')")
    for number in site.numbers():
        site.cluster.run("scontrol", "release", number)
    site.done()


def test_missing_code_is_said_and_mended(site):
    site.describe(extra={"hold": "true"})
    site.sweep("method=dense", "run.seed=0", *TINY)
    shutil.rmtree(site.runs / ".code")
    site.cluster.run("scontrol", "release", site.numbers()[0])
    site.settled()
    assert site.counts() == {"failed": 1}
    why = site.launch("why", f"run={site.stages()[0].name}")
    assert "the frozen code" in why and "is missing" in why and "make sweep" in why
    site.describe(extra={})
    site.sweep("method=dense", "run.seed=0", *TINY)
    site.done()


def test_a_parent_that_slurm_calls_satisfied_but_is_not_done(site):
    """Slurm takes a dependency on a job it has forgotten for satisfied; the stage looks for itself."""
    site.describe(extra={"hold": "true"})
    site.nodes_python(
        "from launch.slurm import on_the_node\non_the_node.BELATED = (0.5, 0.5)\n"
    )  # it waits half a minute else
    site.sweep("method=omp_after", "method.sparsity=0.5", "run.seed=0", *TINY)
    first, second = site.numbers()
    site.cluster.run("scontrol", "release", second)
    site.cluster.run("scontrol", "update", f"jobid={second}", "dependency=")
    site.settled(but=first)
    child = site.stages("omp_after")[0]
    assert site.read(child)["state"] == "blocked" and not (child / "DONE").exists()


def test_small_limits_change_how_and_not_what(site):
    site.describe(max_array_size=2, array_parallelism=1)
    site.sweep(*LESS)
    assert all(len(e["elements"]) <= 2 for e in site.events() if e["event"] == "intent")
    site.done()
    tight = Site(site.cluster, site.folder / "tight", max_submitted=2)
    assert "submitted 10 stages as 2 elements" in tight.sweep(*LESS)
    tight.done()
    tight.settled()
    assert tight.results() == site.results()
    tight.describe(max_submitted=1)
    site.cluster.submit("sleep 30", "--hold")
    assert "max_submitted" in tight.sweep("method=snip", "method.sparsity=0.5", "run.seed=5", *TINY, code=2)
    assert tight.counts() == {"done": 10}, "nothing was written for what cannot be submitted"


@pytest.mark.parametrize(
    "fields, words, message",
    [
        ({"partition": "nowhere"}, (), "nvalid partition"),
        ({"extra": {"nodelist": "nowhere"}}, (), "nvalid node"),
        ({"extra": {"no-such-option": "3"}}, (), "no-such-option"),
        ({}, ("cluster.memory=900G",), "Requested node configuration is not available"),
        ({}, ("cluster.time=90", "cluster.partition=short"), "ime limit"),
    ],
)
def test_slurms_refusal_is_shown_and_nothing_stays(site, fields, words, message):
    site.describe(**fields)
    said = site.sweep("method=dense", "run.seed=0", *TINY, *words, code=2)
    assert message in said and "Nothing of it was submitted" in said and len(said.splitlines()) < 9
    assert not site.cluster.jobs() or not [j for j in site.cluster.jobs() if j.state == "PENDING"]
    site.describe(partition="main", extra={}, memory="600M", needs={"classic": {"memory": "600M"}})
    site.sweep("method=dense", "run.seed=0", *TINY)
    site.done()


def test_without_a_controller_nothing_is_doubled(site):
    site.describe(extra={"hold": "true"})
    site.sweep("method=dense", "run.seed=0", *TINY)
    text = Path(site.cluster.environment()["SLURM_CONF"]).read_text()
    assert text.count("MessageTimeout=10\n") == 1
    impatient = site.folder / "slurm.conf"  # for commands: each looks for the controller so many seconds
    impatient.write_text(text.replace("MessageTimeout=10\n", "MessageTimeout=2\n"))
    hasty = {"SLURM_CONF": str(impatient)}
    with site.cluster.controller_down():
        assert "Nothing" in site.sweep("method=dense", "run.seed=0,1", *TINY, code=2, **hasty)
        counts = json.loads(site.launch("status", "format=json", **hasty))["counts"]
        assert counts in ({"unknown": 1}, {"queued": 1}), "unknown is not dead"
    site.cluster.run("scontrol", "release", site.numbers()[0])
    site.done()
    assert len(site.numbers()) == 1


def deadly(point: int, words: list[str]) -> int:
    """Run a verb that kills itself right before or right after a call of Slurm or a line of the ledger: the
    ``point``-th such moment.
    """
    left = [point]

    def pass_by() -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    def around(function):
        def wrapped(*args, **kwargs):
            pass_by()
            answer = function(*args, **kwargs)
            pass_by()
            return answer

        return wrapped

    ledger.write, sbatch.call = around(ledger.write), around(sbatch.call)
    return main(words)


def test_a_submission_that_is_killed_anywhere_neither_loses_nor_doubles_a_stage(site):
    """SIGKILL before and after every call of Slurm and every line of the ledger; then the same sweep once more."""
    words = ("method=omp_after", "method.sparsity=0.5", "run.seed=0,1", *TINY)
    point, killed = 0, True
    while killed:
        own = Site(site.cluster, site.folder / str(point), extra={"hold": "true"})
        asked = ["sweep", f"cluster={own.file}", *words]
        done = forked(functools.partial(deadly, point, asked), own.environment(), ROOT)
        killed = done.returncode == -signal.SIGKILL
        assert killed or done.returncode == 0, done.stderr
        own.describe(extra={"hold": "true"})
        own.sweep(*words)
        held = [j for j in own.cluster.jobs() if j.state == "PENDING"]
        assert submitted(own) == names(own) and len(names(own)) == 4, f"killed at {point}"
        assert len(held) == 4, f"killed at {point}: {held}"
        if point % 7 == 3:  # some are played to the end; the others differ in nothing but the moment
            for number in own.numbers():
                own.cluster.run("scontrol", "release", number, check=False)
            own.done()
            assert all(own.read(f)["attempt"] == 1 for f in own.stages()), f"killed at {point}"
        own.cluster.clear()
        point += 1
    assert point > 15


def test_two_submissions_at_once(site):
    command = [sys.executable, "-m", "launch", "sweep", f"cluster={site.file}", *LESS]
    running = [
        subprocess.Popen(command, cwd=ROOT, env=site.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120)[0].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    site.done()
    site.settled()
    assert submitted(site) == names(site), said


def test_two_processes_share_a_stage(site):
    """DistributedDataParallel as two tasks of one job, with the very weights of two processes on this machine."""
    words = ("method=rigl", "method.sparsity=0.8", "run.seed=0", "run.processes=2", *TINY, "method.every=5")
    site.describe(nodes=1)
    site.sweep(*words)
    site.done()
    assert {site.read(f, "summary.json")["processes"] for f in site.stages()} == {2}
    assert site.results() == site.undisturbed()


def test_two_processes_on_two_nodes_leave_together_at_the_time_limit(site):
    """USR2 reaches every rank; all save at one step, the job is requeued whole, and ends as if nothing had been."""
    words = ("method=dense", "run.seed=0", "run.processes=2", "run.steps=60", "run.log_every=5")
    site.describe(nodes=2)
    site.slow(0.3)
    site.sweep(*words)
    site.step(3)
    site.cluster.run("scancel", "--signal=USR2", site.numbers()[0])
    site.cluster.until(lambda: all(site.read(f).get("attempt") == 2 for f in site.stages()), "a second attempt", 60)
    site.slow(0)
    site.done()
    assert site.results() == site.undisturbed()


def test_an_unshared_folder_is_recognised(site):
    """The nodes do not see RUNS: here, because it is moved away while the jobs wait."""
    site.describe(extra={"hold": "true"})
    site.sweep("method=dense", "run.seed=0", *TINY)
    number, away = site.numbers()[0], site.folder / "away"
    os.rename(site.runs, away)
    site.cluster.run("scontrol", "release", number)
    site.cluster.until(lambda: site.cluster.state(f"{number}_0") == "FAILED", "the job's end", 60)
    shutil.rmtree(site.runs, ignore_errors=True)  # what Slurm may have made
    os.rename(away, site.runs)
    why = site.launch("why", f"run={site.stages()[0].name}")
    assert "RUNS" in why and "share" in why


def test_the_users_own_variables_do_not_reach_the_jobs(site):
    """sbatch takes SBATCH_* before what the script says: names, arrays, limits and environments would not be ours."""
    own = {"SBATCH_JOB_NAME": "mine", "SBATCH_EXPORT": "NONE", "SBATCH_ARRAY_INX": "0-3", "SBATCH_NO_REQUEUE": "1"}
    own |= {"SLURM_EXPORT_ENV": "NONE", "SBATCH_TIMELIMIT": "1-0", "SBATCH_PARTITION": "short"}
    site.describe(partition="main")
    site.sweep("method=dense", "run.seed=0", *TINY, **own)
    shown = site.cluster.show(f"{site.numbers()[0]}_0")
    assert (shown["JobName"], shown["TimeLimit"], shown["Requeue"]) == (site.events()[0]["array"], "00:10:00", "1")
    assert shown["Partition"] == "main"
    site.done()
    assert len([job for job in site.cluster.jobs() if job.id.startswith(site.numbers()[0])]) == 1


def test_notices_while_python_starts_or_ends_cost_nothing(site):
    """Imports take their time on a shared file system, and a signal's default is to end the process."""
    site.slow(0)
    python, go = site.folder / "python", site.folder / "go"
    python.write_text(python.read_text().replace("exec ", f"until [ -e {go} ]; do sleep 0.1; done\nexec "))
    site.sweep("method=dense", "run.seed=0,1", *TINY)
    number = site.numbers()[0]
    for index in range(2):
        site.cluster.until_state(f"{number}_{index}", "RUNNING", seconds=30)
    sent, ended = 0, lambda: all((f / "DONE").exists() for f in site.stages())
    while not ended() and sent < 200:
        site.cluster.run("scancel", "--signal=TERM", number, check=False)
        sent += 1
        if sent == 5:  # while Python has not even started
            go.touch()
        time.sleep(0.2)
    assert sent > 5
    site.done()
    site.settled()
    states = {job.state for job in site.cluster.jobs() if job.id.startswith(f"{number}_")}
    assert states == {"COMPLETED"} and all(site.read(f)["attempt"] == 1 for f in site.stages())


def test_a_refused_sweep_takes_nothing_away(site):
    """A finished parent whose weights were removed is to be trained again, but not before Slurm has taken it."""
    site.sweep("method=dense", "run.seed=0", *TINY)
    site.done()
    site.settled()
    site.launch("clean", "weights=1", "yes=1")
    words = ("method=omp_after", "method.sparsity=0.5", "run.seed=0", *TINY)
    site.sweep(*words, "cluster.partition=nowhere", code=2)
    assert site.counts() == {"done": 1}, "no result lost, no stage left behind"
    site.sweep(*words)
    site.done()
    assert site.results() == site.undisturbed()


def test_smoke_trains_nothing_that_stays(site):
    said = site.launch("smoke", "method=rigl")
    assert "works:" in said and not site.stages()


def test_without_sbatch_it_says_so(site, tmp_path):
    for name in ("python3", "env", "sh", "git"):
        if found := shutil.which(name):
            (tmp_path / "bin").mkdir(exist_ok=True)
            (tmp_path / "bin" / name).symlink_to(found)
    said = site.sweep("method=dense", "run.seed=0", *TINY, code=2, PATH=str(tmp_path / "bin"))
    assert "needs Slurm's sbatch on PATH" in said and "CLUSTER=local" in said
    assert not site.stages() and not Path(site.runs / ".sweeps" / "plan.jsonl").exists()
