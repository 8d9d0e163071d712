"""Every verb that looks or tidies up, as a researcher uses it beside a real Slurm: what it says and what it leaves."""

import json
import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common import paths
from tests.support.places import ROOT
from tests.support.slurm.site import Site

pytestmark = pytest.mark.slurm

TINY = ("run.steps=20", "run.evaluate_every=10")
PAIR = ("method=omp_after", "method.sparsity=0.5", *TINY)  # a dense stage and what is pruned from it, a seed


@pytest.fixture
def site(slurm, tmp_path) -> Site:
    return Site(slurm, tmp_path)


def started(site: Site, *words: str, stdin=subprocess.DEVNULL) -> subprocess.Popen:
    """A verb that goes on beside the test."""
    command = [sys.executable, "-m", "launch", *words]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=stdin, text=True)
    return subprocess.Popen(command, cwd=ROOT, env=site.environment(), **pipes)


def typed(site: Site, answer: str, *words: str) -> tuple[int, str]:
    """Run a verb on a terminal where somebody types ``answer``: exit code and output."""
    ours, theirs = pty.openpty()
    try:
        process = started(site, *words, stdin=theirs)
        os.write(ours, f"{answer}\n".encode())
        said = process.communicate(timeout=60)[0]
    finally:
        os.close(ours)
        os.close(theirs)
    return process.returncode, said


def make(site: Site, *words: str, code: int = 0) -> str:
    """``make`` in a checkout whose environment is ready."""
    folder = site.folder / "check out"
    if not folder.exists():
        (folder / ".venv" / "bin").mkdir(parents=True)
        for name in ("common", "launch", "tasks", "requirements"):
            (folder / name).symlink_to(ROOT / name)
        shutil.copy(ROOT / "Makefile", folder)
        python = folder / ".venv" / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        (folder / ".venv" / "ready").write_text(f"{folder.resolve() / '.venv'}\n")
    command = ["make", "-C", folder, "--no-print-directory", *words]
    done = subprocess.run(command, env=site.environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def held(site: Site, *words: str, **fields) -> None:
    """Submit a sweep that Slurm does not start yet."""
    site.describe(extra={"hold": "true"}, **fields)
    site.sweep(*words)


def release(site: Site) -> None:
    for number in site.numbers():
        site.cluster.run("scontrol", "release", number, check=False)


def queue(site: Site) -> list[str]:
    """Ids of our elements that Slurm still holds."""
    numbers = site.numbers()
    jobs = [j for j in site.cluster.jobs() if j.id.split("_")[0] in numbers]
    return sorted(j.id for j in jobs if j.state in ("PENDING", "RUNNING", "COMPLETING"))


def child_of(site: Site, stage: Path) -> Path:
    return next(f for f in site.stages() if site.config(f)["parent"] == stage.name)


def test_a_runs_folder_where_nothing_happened_yet(site):
    assert "no stages yet" in site.launch("status") and "no stages yet" in site.launch("status", "watch=1")
    assert site.status()["stages"] == 0
    for verb in ("why", "tail", "cancel", "clean", "retry"):
        said = site.launch(verb, "run=3f", code=2)
        assert "expected RUN=<the first letters of a stage's name>, found '3f'" in said
    assert "which stage?" in site.launch("why", code=2)
    for verb in ("retry", "cancel", "clean"):
        assert "noth" in site.launch(verb)
    assert "nothing of this is finished" in site.launch("report", code=2)
    assert not site.runs.exists()


def test_a_plan_says_what_it_costs_and_submits_nothing(site):
    words = ("plan", f"cluster={site.file}", *PAIR, "run.seed=0,1", "cluster.time=30")
    before = site.cluster.jobs()
    said = site.launch(*words)
    assert "4 stages (4 new)" in said and "at most 2.0 core-hours without requeues" in said
    document = json.loads(site.launch(*words, "format=json"))
    assert document["cost"]["limit_hours"] == 2 and document["cost"]["unit"] == "core"
    assert "2.0 GPU-hours" in site.launch(*words, "cluster.gpus=1")
    assert "an element asks for: 30 minutes" in said and "to submit: 4 elements of 2 arrays" in said
    assert not site.runs.exists() and {j.id for j in site.cluster.jobs()} <= {j.id for j in before}


def test_looking_at_what_waits_runs_and_ends(site):
    site.describe(array_parallelism=1)
    site.slow(0.5)
    site.sweep(*PAIR, "run.seed=0,1")
    first, second = sorted(site.stages("dense"), key=lambda f: site.config(f)["seed"])
    site.cluster.until(lambda: (site.read(first).get("step") or 0) >= 3, "a first step", 60)
    site.slow(3)  # it runs for as long as it is looked at
    watch = started(site, "status", "watch=1")
    follow = started(site, "tail", "watch=1", f"run={first.name}")

    document = site.status()
    assert document["counts"] == {"running": 1, "queued": 3}
    assert document["pending"] == {"Dependency": 2, "JobArrayTaskLimit": 1}
    running = document["running"][0]
    assert running["digest"] == first.name and running["job"] == f"{site.numbers()[0]}_0"
    assert running["node"] in site.cluster.nodes
    text = site.launch("status")
    assert "4 stages: 1 running, 3 queued" in text and f"job {running['job']} on {running['node']}" in text
    plan = site.launch("plan", f"cluster={site.file}", *PAIR, "run.seed=0,1")
    assert "(3 queued, 1 running)" in plan and f"{first.name[:8]} dense running: job {running['job']} trains it" in plan

    why = site.launch("why", f"run={first.name[:6]}")
    assert "  state     running\n" in why and f"  node      {running['node']}" in why and "make tail RUN=" in why
    why = site.launch("why", f"run={second.name[:6]}")
    assert "JobArrayTaskLimit" in why and "as many elements of its array as allowed" in why and "make cancel" in why
    child = child_of(site, second)
    why = site.launch("why", f"run={child.name[:6]}")
    assert "it waits for the stage it starts from" in why and f"stands on {second.name[:12]}  classic dense" in why
    assert "because   JobArrayTaskLimit" in why
    tail = site.launch("tail", f"run={first.name[:6]}")
    assert f"running  {site.config(first)['variant']}, step " in tail and f"on {running['node']}" in tail
    assert "queued" in site.launch("tail", f"run={child.name[:6]}")
    assert "is running: only what did not get done can be tried again" in site.launch(
        "retry", f"run={first.name}", code=2
    )
    assert "nothing failed here" in site.launch("retry")
    assert "nothing to delete" in site.launch("clean", "yes=1")
    said = site.launch("clean", "method=dense", "yes=1")
    assert "running, queued, or needed by what is (2)" in said and len(site.stages()) == 4
    # the same words while it is under way
    assert "nothing new to submit: 4 stages submitted before" in site.sweep(*PAIR, "run.seed=0,1")

    site.slow(0)
    site.cluster.until(lambda: (first / "DONE").exists(), "the end of the first stage", 60)
    said = follow.communicate(timeout=30)[0]
    assert follow.returncode == 0 and "step     20" in said and said.splitlines()[-1].startswith(first.name[:12]), said
    assert "  done" in said.splitlines()[-1]
    site.done()
    report = site.launch("report", *PAIR, "run.seed=0")
    assert "accuracy" in report and "seed 0" in report
    said = watch.communicate(timeout=30)[0]
    assert watch.returncode == 0 and said.count("task     data") == 2, "whole at first and at last"
    assert "4 stages: 4 done" in said
    why = site.launch("why", f"run={first.name}")
    assert "nothing: it is done" in why and "score     accuracy" in why
    assert "nothing to cancel" in site.launch("cancel", "yes=1")
    assert "1 started" in why


def test_a_name_that_fits_several_or_none(site):
    held(site, "method=dense", f"run.seed={','.join(map(str, range(17)))}", *TINY)
    names = [f.name for f in site.stages()]
    letter = next(n[0] for n in names if sum(m[0] == n[0] for m in names) > 1)  # 17 names, 16 letters
    several = [n for n in names if n[0] == letter]
    for verb in ("why", "tail", "cancel", "retry", "clean"):
        said = site.launch(verb, f"run={letter}", code=2)
        assert f"RUN={letter} fits {len(several)} stages; give more letters" in said
        assert all(name[:12] in said for name in several[:8])
    assert "found 'xyz'" in site.launch("why", "run=xyz", code=2)
    assert "unknown task 'other'" in site.launch("why", "task=other", f"run={names[0]}", code=2)
    assert names[0][:12] in site.launch("why", f"run=classic/{names[0][:8].upper()}"), "as it is written elsewhere"


def test_failures_are_explained_and_retried(site):
    """Dense stages fail for want of a GPU; what is mended for the second try is no part of their identity."""
    words = ("method=omp_after,snip", "method.sparsity=0.5", *TINY, "run.seed=0,1", "run.device=cuda")
    site.sweep(*words)
    site.settled()
    assert site.counts() == {"blocked": 2, "failed": 4}
    text = site.launch("status")
    assert "failed:" in text and "torch sees no GPU here" in text and "blocked:" in text
    dense = site.stages("dense")[0]
    why = site.launch("why", f"run={dense.name[:8]}")
    assert "state     failed: " in why and "torch sees no GPU here" in why and f"the end of {paths.error(dense)}" in why
    assert "Traceback" in why and f"make retry RUN={dense.name[:8]}" in why and "1 submitted" in why
    child = child_of(site, dense)
    why = site.launch("why", f"run={child.name[:8]}")
    assert (
        f"dense {dense.name[:12]}, on which it stands, is failed" in why and f"`make why RUN={dense.name[:8]}`" in why
    )
    assert "failed" in site.launch("tail", f"run={dense.name}", "watch=1", code=1), "it ended, and not well"

    for path in (folder / "config.yaml" for folder in site.stages()):
        then = path.stat().st_mtime_ns
        path.write_text(path.read_text().replace("device: cuda", "device: auto"))
        os.utime(path, ns=(then, then))  # a younger file would be a stage that was planned anew
    said = site.launch("retry", f"run={dense.name[:8]}", "cluster.memory=700M", "cluster.extra={hold: 'true'}")
    assert "2 stages again" in said, "with what it blocks"
    number = site.numbers()[-2]
    assert site.cluster.show(f"{number}_0")["MinMemoryNode"] == "700M"
    assert site.counts() == {"queued": 2, "blocked": 1, "failed": 3}
    # while those wait, each of the others once, whoever asks twice at a time
    twice = [started(site, "retry", "method=snip") for _ in range(2)]
    said = [process.communicate(timeout=90)[0] for process in twice]
    assert [process.returncode for process in twice] == [0, 0], said
    assert sorted("submitted 2 stages" in one for one in said) == [False, True], said
    assert "2 stages again" in site.launch("retry"), "the other dense stage and what it blocks"
    release(site)
    site.done()
    assert {site.read(f).get("attempt") for f in site.stages("dense")} == {2}
    assert "nothing failed here" in site.launch("retry")


def test_cancelling_asks_and_says_what_goes(site):
    held(site, "method=omp_after,snip", "method.sparsity=0.5", *TINY, "run.seed=0,1")
    assert len(queue(site)) == 6
    snip = site.stages("snip")[0]
    said = site.launch("cancel", f"run={snip.name}", code=2)
    assert "1 stage in 1 job would be cancelled" in said and "YES=1" in said and len(queue(site)) == 6
    for answer in ("n", "", "what?"):
        code, said = typed(site, answer, "cancel", f"run={snip.name}")
        assert code == 0 and "Cancel 1 job? [y/N]" in said and "nothing was cancelled" in said
    code, said = typed(site, "y", "cancel", f"run={snip.name}")
    assert code == 0 and "1 of 1 job ended" in said and len(queue(site)) == 5
    assert site.counts() == {"queued": 5, "cancelled": 1}
    why = site.launch("why", f"run={snip.name}")
    assert "cancelled: its job was cancelled" in why and f"make retry RUN={snip.name[:8]}" in why

    dense = site.stages("dense")[0]
    said = make(site, "cancel", f"RUN={dense.name[:8]}", "YES=1")
    assert "Slurm will cancel 1 stage more" in said and len(queue(site)) == 4
    assert "cancelled: its job was cancelled" in make(site, "why", f"RUN={dense.name}")
    said = site.launch("cancel", "method=snip", "yes=1")
    assert "1 stage in 1 job" in said and len(queue(site)) == 3

    at_once = [started(site, "cancel", "yes=1") for _ in range(2)]
    said = [process.communicate(timeout=60)[0] for process in at_once]
    assert [process.returncode for process in at_once] == [0, 0], said
    site.settled()
    assert site.counts() == {"blocked": 2, "cancelled": 4}, "what stands on something cancelled is blocked"
    assert "is cancelled" in site.launch("why", f"run={child_of(site, dense).name}")
    assert "blocked:" in make(site, "status", "WATCH=1", code=2), "nothing is left to wait for, and not all is well"
    before = site.numbers()
    site.describe(extra={})
    said = site.sweep("method=omp_after,snip", "method.sparsity=0.5", *TINY, "run.seed=0,1")
    assert "submitted 6 stages" in said and len(site.numbers()) > len(before)
    assert "done" in make(site, "tail", f"RUN={dense.name[:8]}", "WATCH=1").splitlines()[-1]
    site.done()
    assert {site.read(f)["attempt"] for f in site.stages()} == {1}


def test_cancelling_one_of_several_that_share_a_job(site):
    site.slow(0.5)
    held(site, *PAIR, "run.seed=0,1", max_submitted=2)
    assert len(queue(site)) == 2
    dense = site.stages("dense")[0]
    child = child_of(site, dense)
    said = site.launch("cancel", f"run={dense.name}", "yes=1")
    assert "with them goes what else these jobs hold, 1 stage:" in said and child.name[:12] in said
    assert site.counts() == {"queued": 2, "cancelled": 1, "blocked": 1}
    release(site)
    other = site.stages("dense")[1]
    site.cluster.until(lambda: (site.read(other).get("step") or 0) >= 2, "a first step", 60)
    site.slow(3)
    why = site.launch("why", f"run={child_of(site, other).name}")
    assert "queued: its turn comes after other stages of its job" in why and "RUNNING" in why
    site.launch("cancel", "yes=1")
    site.settled()
    assert site.counts() == {"cancelled": 2, "blocked": 2} and (other / "checkpoint.pt").exists()
    site.slow(0)
    site.describe(extra={})
    site.sweep(*PAIR, "run.seed=0,1")
    site.done()
    assert site.read(other)["attempt"] == 2, "it went on from its resume point"


def aged(folder: Path) -> None:
    """As if nobody had touched anything for a day."""
    then = time.time() - 86400
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (then, then), follow_symlinks=False)


def test_cleaning_up_after_a_sweep(site):
    site.sweep(*PAIR, "run.seed=0")
    site.done()
    site.settled()
    said = site.launch("clean", "yes=1")
    assert "nothing to delete" in said and "that were in use within the last hour stay for now" in said
    aged(site.runs)
    site.describe(extra={"hold": "true"})
    site.sweep("method=snip", "method.sparsity=0.5", "run.seed=0", *TINY)
    aged(site.runs)
    arrays = sorted(site.runs.glob(".sweeps/*/array-*"))
    dense, child = site.stages("dense")[0], site.stages("omp_after")[0]
    (dense / "checkpoint.pt").write_bytes(b"left behind")
    said = site.launch("clean", code=2)
    assert "logs of sweeps that are finished" in said and "resume points of finished stages: 1" in said
    assert "frozen code" not in said and "YES=1" in said, "a job that waits needs it"
    site.launch("clean", "yes=1")
    left = [f for f in arrays if f.exists()]
    assert len(left) == 1 and not (dense / "checkpoint.pt").exists()
    assert sorted(site.runs.glob(".code/*/COMPLETE")), "what the waiting job runs"
    assert len(list(site.runs.glob(".sweeps/*/jobs.jsonl"))) == 2, "lists stay"
    release(site)
    site.done()
    site.settled()
    aged(site.runs)
    site.launch("clean", "yes=1")
    assert not sorted(site.runs.glob(".code/*")) and not [f for f in arrays if f.exists()]
    assert site.counts() == {"done": 3}

    site.describe(extra={})
    said = typed(site, "yes", "clean", "weights=1", "method=dense")[1]
    assert "a stage planned later that starts from one of these trains it again" in said
    assert not paths.weights(dense).exists() and paths.weights(child).exists()
    before = site.read(dense, "summary.json")["weights"]
    words = ("method=omp_after", "method.sparsity=0.5,0.8", *TINY, "run.seed=0")
    assert "its weights were removed" in site.launch("plan", f"cluster={site.file}", *words)
    assert "submitted 2 stages" in site.sweep(*words), "the new child, and the dense stage once more"
    site.done()
    assert paths.weights(dense).exists() and site.read(dense, "summary.json")["weights"] == before


def test_folders_that_go_or_move_while_jobs_wait(site):
    held(site, *PAIR, "run.seed=0,1")
    gone, other = site.stages("dense")
    shutil.rmtree(gone)
    assert site.counts() == {"queued": 3}
    why = site.launch("why", f"run={site.stages('omp_after')[0].name}")
    assert "queued" in why
    site.file.unlink()  # the description of the cluster
    assert site.counts() == {"queued": 3} and "queued" in site.launch("tail", f"run={other.name}")
    assert "there is no such file" in site.sweep(*PAIR, code=2)
    release(site)
    site.settled(seconds=120)
    assert site.counts() == {"done": 2, "blocked": 1}
    blocked = next(f for f in site.stages("omp_after") if not (f / "DONE").exists())
    assert f"{gone.name[:12]}, whose folder is gone" in site.launch("why", f"run={blocked.name}")
    assert "there is no such file" in site.launch("retry", f"run={blocked.name}", code=2)
    site.describe(extra={})
    assert "submitted 2 stages" in site.sweep(*PAIR, "run.seed=0,1")
    site.done()


def test_a_runs_folder_under_another_path(site):
    """What waits is bound to the old path: it fails, is seen to have failed, and the next sweep trains it there."""
    held(site, *PAIR, "run.seed=0")
    old, site.runs = site.runs, site.folder / "elsewhere"
    old.rename(site.runs)
    assert site.counts() == {"queued": 2}
    release(site)
    site.settled()
    states = site.counts()
    assert not {"queued", "running", "unknown", "done"} & set(states), states
    dense = site.stages("dense")[0]
    assert "make retry" in site.launch("why", f"run={dense.name}")
    site.describe(extra={})
    site.sweep(*PAIR, "run.seed=0")
    site.done()
    assert site.counts() == {"done": 2}


def test_a_ledger_that_is_half_written(site):
    held(site, *PAIR, "run.seed=0")
    ledger = next(site.runs.glob(".sweeps/*/jobs.jsonl"))
    whole = ledger.read_bytes()
    numbers, jobs = site.numbers(), queue(site)
    ledger.write_bytes(whole[:-9])  # within the note of the second array's number
    assert site.counts() == {"queued": 1, "unknown": 1}
    why = site.launch("why", f"run={site.stages('omp_after')[0].name}")
    assert "its submission was cut short; the next `make sweep` finds out what became of it" in why
    said = site.sweep(*PAIR, "run.seed=0")
    assert f"of a submission that was cut off is job {numbers[1]}" in said and "nothing new to submit" in said
    assert site.counts() == {"queued": 2}
    assert sorted(j.id for j in site.cluster.jobs() if j.state == "PENDING") == jobs, "nothing was submitted twice"
