"""What a site's accounting refuses, limits and remembers; jobs that the queue has forgotten; ids that come round."""

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.slurm import cluster as slurm_cluster
from tests.support.slurm import files as slurm_files
from tests.support.slurm.site import Site

pytestmark = pytest.mark.slurm

TINY = ("run.steps=20", "run.evaluate_every=10")
WORDS = ("method=omp_after", "method.sparsity=0.5,0.8", *TINY)  # three stages a seed

# A Python for the nodes under which the training of a seed does what the file of that name says, at its sixth step.
ODD = """\
import os, runpy, sys, time
from common.training import trainer
step = trainer.Trainer.step
def odd(self, state):
    path = os.path.join({folder!r}, str(self.run.seed))
    word = open(path).read() if os.path.exists(path) and state.step > 4 else ""
    if word == "fail":
        raise RuntimeError("it fails as asked")
    if word == "fill":
        kept = [bytearray(os.urandom(1 << 20)) for _ in range(4000)]
    if word == "wait":
        open(path + ".waits", "w").close()
        while os.path.exists(path):
            time.sleep(0.1)
    return step(self, state)
trainer.Trainer.step = odd
sys.argv = sys.argv[3:]  # of: -u -m submitit.core._submit <folder>
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


# --- jobs that squeue has forgotten: started first, looked at last, since it is mostly waiting ----------------------


# Of dense stages, named by what becomes of them.
SEEDS = dict(done=0, failed=1, cancelled=2, withdrawn=3, late=4, greedy=5, lost=6, gone=7)


class Forgetful:
    """Stages that end in every way, on a Slurm that forgets within seconds."""

    def __init__(self, folder: Path, accounting: bool):
        self.folder, self.accounting = folder, accounting
        self.odd = folder / "odd"
        self.odd.mkdir(parents=True)

    def play(self) -> "Forgetful":
        with slurm_cluster.Cluster(accounting=self.accounting, min_job_age=5) as cluster:
            self.site = Site(cluster, self.folder / "site")
            script, python = self.folder / "odd.py", self.folder / "python"
            script.write_text(ODD.format(folder=str(self.odd)))
            python.write_text(f'#!/bin/sh\nexec {sys.executable} -u {script} "$@"\n')
            python.chmod(0o755)
            self.site.describe(python=str(python))
            self._end_in_every_way(cluster)
            cluster.until(lambda: not cluster.jobs(), f"an empty list, found {cluster.jobs()}", 120, pause=1)
            self.states = {r: self.state(r) for r in SEEDS}
            self.said = {r: self.site.launch("why", f"run={self.stage(r).name}") for r in SEEDS}
            shutil.rmtree(self.odd)
            self.before = len(self.site.events())
            self.sweep = self.launch(SEEDS.values(), extra={})
            self.site.done()
            self.attempts = {r: self.site.read(self.stage(r))["attempt"] for r in SEEDS}
            self.after = self.site.counts()
        return self

    def _end_in_every_way(self, cluster: slurm_cluster.Cluster) -> None:
        site, last = self.site, cluster.nodes[3]
        self.ask(failed="fail", greedy="fill", cancelled="wait", late="wait", lost="wait", gone="wait")
        self.launch([3], extra={"hold": "true"})
        site.launch("cancel", f"run={self.stage('withdrawn').name}", "yes=1")
        self.launch([6, 7], extra={"nodelist": last})
        self.launch([0, 1, 2, 4, 5], extra={"exclude": last})
        waits = [self.odd / f"{SEEDS[name]}.waits" for name in ("cancelled", "late", "lost", "gone")]
        cluster.until(lambda: all(path.exists() for path in waits), "their sixth step", 90)
        ids = {r["digest"]: r["job"] for r in site.status()["running"]}
        cluster.run("scontrol", "update", f"jobid={ids[self.stage('late').name]}", "EndTime=now+2")
        cluster.kill_node(4, noticed=True)
        site.launch("cancel", f"run={self.stage('cancelled').name}", "yes=1")
        self.requeued = self.state("lost"), site.launch("why", f"run={self.stage('lost').name}")
        cluster.run("scancel", ids[self.stage("gone").name])  # by hand: only Slurm knows
        (self.odd / str(SEEDS["lost"])).unlink()
        cluster.restart_node(4)
        cluster.until(lambda: (self.stage("lost") / "DONE").exists(), "the end of what was requeued", 60)
        late = ids[self.stage("late").name]
        cluster.until(lambda: cluster.state(late) in ("TIMEOUT", ""), f"the time limit of {late}", 60)

    def ask(self, **words: str) -> None:
        for name, word in words.items():
            (self.odd / str(SEEDS[name])).write_text(word)

    def launch(self, seeds, **fields) -> str:
        self.site.describe(**fields)
        return self.site.sweep("method=dense", f"run.seed={','.join(map(str, seeds))}", *TINY)

    def stage(self, name: str) -> Path:
        return next(f for f in self.site.stages() if self.site.config(f)["seed"] == SEEDS[name])

    def state(self, name: str) -> str:
        document, digest = self.site.status(), self.stage(name).name
        kinds = {"running": "running", "failures": "failed", "interrupted": "interrupted", "cancelled": "cancelled"}
        found = [word for key, word in kinds.items() if digest in [s["digest"] for s in document[key]]]
        return found[0] if found else "done" if (self.stage(name) / "DONE").exists() else "other"


@pytest.fixture(scope="module")
def forgetful(slurm_session_accounting, tmp_path_factory):
    """With accounting or without (True, False) -> the future of what happened."""
    folder = tmp_path_factory.mktemp("forgetful")
    with ThreadPoolExecutor(2) as pool:
        yield {on: pool.submit(Forgetful(folder / str(on), on).play) for on in (True, False)}


@pytest.fixture
def site(slurm_accounting, tmp_path, forgetful) -> Site:
    return Site(slurm_accounting, tmp_path)


# --- refusals and limits ---------------------------------------------------------------------------------------------


def pending(site: Site) -> list:
    return [j for j in site.cluster.jobs() if j.state in ("PENDING", "RUNNING", "COMPLETING")]


def test_a_wrong_account(site):
    site.describe(account="nobody")
    said = site.sweep("method=dense", "run.seed=0", *TINY, code=2)
    assert "Invalid account" in said and "Nothing of it was submitted" in said and "Traceback" not in said
    assert not pending(site) and not site.numbers()
    assert site.counts() == {}, "no stage is left behind"
    site.describe(account="tests")
    site.sweep("method=dense", "run.seed=0", *TINY)
    site.done()
    assert len(site.numbers()) == 1


def test_the_number_one_may_submit_is_found_and_kept(site):
    with site.cluster.limits(MaxSubmitJobs=2):
        assert "submitted 6 stages as 2 elements of 1 array" in site.sweep(*WORDS, "run.seed=0,1")
        assert len(pending(site)) <= 2
        site.done()
        site.settled()
    assert site.counts() == {"done": 6}
    assert {site.read(f)["attempt"] for f in site.stages()} == {1}


def test_a_limit_that_is_reached_half_way(site):
    """The file promises more than the site allows: all of it is taken back, and the right number works."""
    site.describe(max_submitted=100, extra={"hold": "true"})
    with site.cluster.limits(MaxSubmitJobs=2):
        said = site.sweep(*WORDS, "run.seed=0,1", code=2)
        assert "submit limit" in said and "Nothing of it was submitted" in said
        assert len([line for line in said.splitlines() if "rror" in line]) == 1 and "Traceback" not in said
        assert len(site.numbers()) == 1, "the first array had been taken"
        site.cluster.until(lambda: not pending(site), f"its end, found {site.cluster.jobs()}", 30)
        assert site.counts() == {}, "no stage is left behind"
        assert "6 new" in site.launch("plan", f"cluster={site.file}", *WORDS, "run.seed=0,1")
        site.describe(max_submitted=2, extra={})
        assert "submitted 6 stages as 2 elements" in site.sweep(*WORDS, "run.seed=0,1")
        site.done()
    assert {site.read(f)["attempt"] for f in site.stages()} == {1}


def test_ids_that_come_round_again(slurm_with, forgetful, tmp_path):
    """A controller that lost its state counts from the start: somebody else's jobs have the numbers of ours."""
    first = slurm_with(nodes=1)
    site = Site(first, tmp_path, extra={"hold": "true"})
    site.sweep("method=dense", "run.seed=0,1", *TINY)
    site.describe(extra={})
    site.sweep("method=dense", "run.seed=2", *TINY)
    ours = site.numbers()
    done = next(f for f in site.stages() if site.config(f)["seed"] == 2)
    first.until(lambda: (done / "DONE").exists(), "the end of one stage", 60)
    first.stop()

    second = slurm_with(first_job_id=int(ours[0]), nodes=1)
    strangers = second.submit("sleep 100", "--array=0-1", "--mem=10M")
    assert strangers == ours[0]
    second.until_state(f"{strangers}_0", "RUNNING")
    site.cluster = second
    assert site.counts() == {"done": 1, "interrupted": 2}, "what runs under these numbers is not ours"
    waiting = next(f for f in site.stages() if f != done)
    why = site.launch("why", f"run={waiting.name}")
    assert "Slurm does not know it any more" in why and "make retry" in why
    assert "nothing to cancel" in site.launch("cancel", "yes=1")
    assert second.state(f"{strangers}_0") == "RUNNING"
    assert "submitted 2 stages" in site.sweep("method=dense", "run.seed=0,1,2", *TINY)
    site.done()
    assert {site.read(f)["attempt"] for f in site.stages()} == {1}
    assert site.results() == site.undisturbed()


# --- what was forgotten ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accounting", [True, False])
def test_jobs_that_the_queue_has_forgotten(forgetful, accounting):
    found = forgetful[accounting].result()
    cut = "cancelled" if accounting else "interrupted"  # cancelled by hand: without accounting nobody knows any more
    assert found.states | {"greedy": ""} == {
        **dict(done="done", failed="failed", cancelled="cancelled", withdrawn="cancelled", late="interrupted"),
        **dict(greedy="", lost="done", gone=cut),
    }
    assert "it fails as asked" in found.said["failed"] and "Traceback" in found.said["failed"]
    late = "its job reached the time limit" if accounting else "Slurm no longer knows its job"
    assert late in found.said["late"] and "make retry" in found.said["late"]
    assert found.requeued[0] == "other" and "state     queued: " in found.requeued[1]
    # taken up exactly once, and nothing else
    again = {"failed", "cancelled", "withdrawn", "late", "gone", "greedy"}
    if found.states["greedy"] == "done":
        again.discard("greedy")
    assert f"submitted {len(again)} stages" in found.sweep, found.sweep
    intents = [e for e in found.site.events()[found.before :] if e["event"] == "intent"]
    stages = [stage for e in intents for lane in e["elements"] for stage in lane]
    assert sorted(stages) == sorted(f"classic/{found.stage(name).name}" for name in again)
    assert found.after == {"done": 8}
    assert found.attempts | {"greedy": 0} == {
        **dict(done=1, failed=2, cancelled=2, withdrawn=1, late=2, greedy=0, lost=2, gone=2)
    }


@pytest.mark.parametrize("accounting", [True, False])
def test_more_memory_than_was_asked_for(forgetful, accounting):
    limited = os.geteuid() == 0 and (slurm_files.CGROUPS / "memory").is_dir()
    if not limited:
        pytest.skip("memory is limited through cgroup v1, which is not there, or not ours")
    found = forgetful[accounting].result()
    assert found.states["greedy"] == "failed"
    why = found.said["greedy"]
    assert "out of memory" in why and 'SET="cluster.memory=<more>"' in why
