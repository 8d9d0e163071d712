"""What a site's accounting refuses, limits and remembers; jobs that the queue has forgotten; ids that come round."""

import os

import pytest

from tests.support.slurm import files as slurm_files
from tests.support.slurm.site import Site

pytestmark = pytest.mark.slurm

TINY = ("run.steps=20", "run.evaluate_every=10")
WORDS = ("method=omp_after", "method.sparsity=0.5,0.8", *TINY)  # three stages a seed


@pytest.fixture
def site(slurm_accounting, tmp_path) -> Site:
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


def test_ids_that_come_round_again(slurm_with, tmp_path):
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
