"""What happens to stages on a cluster: preemption, time limits, lost nodes; cancelled, requeued and killed jobs.

Each case trains the same two stages and returns when they are done. They mostly wait for Slurm, side by side.
"""

import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tests.support.slurm.cluster import Cluster
from tests.support.slurm.site import Site

STEPS = 200
WORDS = ("method=gmp", "method.sparsity=0.8", "run.seed=0", f"run.steps={STEPS}", "run.log_every=5")
WORDS += ("run.evaluate_every=40", "method.every=10", "run.checkpoint_seconds=3600")


def preempted(site: Site) -> None:
    """By a job of a partition with a higher priority: Slurm gives notice, ten seconds later it ends and requeues it."""
    site.describe(partition="scavenge", extra={"nodelist": site.cluster.nodes[3]})
    site.slow(0.5)
    site.sweep(*WORDS)
    site.step(10)
    node = site.cluster.nodes[3]
    other = site.cluster.submit("sleep 1", "-p", "urgent", "--nodelist", node, "--exclusive", "--mem=0")
    site.cluster.until_state(other, "COMPLETED", seconds=90)
    assert all(site.read(f)["state"] == "running" for f in site.stages()), "nobody but Slurm ended them"
    assert all((f / "checkpoint.pt").exists() for f in site.stages()), "saved on the notice alone"
    site.slow(0)
    site.done()


def limited(site: Site) -> None:
    """The time limit, twice, once the stages train. Slurm looks every 30 s; its notice comes a minute ahead."""
    site.describe(signal_seconds=60)
    site.slow(1.0)
    site.sweep(*WORDS)
    attempts = lambda: {site.read(f).get("attempt") for f in site.stages()}  # noqa: E731
    elements = [f"{site.numbers()[0]}_{index}" for index in range(2)]
    for attempt in (2, 3):
        site.cluster.until(lambda: all(site.read(f).get("state") == "running" for f in site.stages()), "training", 90)
        site.step(attempt)
        for element in elements:
            site.cluster.run("scontrol", "update", f"jobid={element}", f"endtime={hour(90)}")
        site.cluster.until(lambda n=attempt: attempts() == {n}, f"attempt {attempt}", 150, pause=0.5)
        for element in elements:
            site.cluster.run("scontrol", "update", f"jobid={element}", "timelimit=10")
    site.slow(0)
    site.done()


def hour(seconds: int) -> str:
    """The moment ``seconds`` from now, in Slurm's words."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + seconds))


def lost(site: Site) -> None:
    """The node: slurmd, its steps and the training are gone from one moment to the next."""
    site.describe(extra={"nodelist": site.cluster.nodes[2]})
    site.slow(0.5)
    site.sweep(*WORDS, "run.checkpoint_every=10")
    site.step(15)
    site.cluster.kill_node(3)
    states = lambda: [j.state for j in site.cluster.jobs() if j.id.split("_")[0] in site.numbers()]  # noqa: E731
    site.cluster.until(lambda: "PENDING" in states(), f"a requeue, found {states()}", 120, pause=0.5)
    site.cluster.restart_node(3)
    site.slow(0)
    site.done(150)


def cancelled(site: Site) -> None:
    """By the user: it stays cancelled, with a resume point, until the next sweep."""
    site.describe(extra={"exclude": f"{site.cluster.nodes[2]},{site.cluster.nodes[3]}"})
    site.slow(0.5)
    site.sweep(*WORDS)
    site.step(10)
    site.launch("cancel", "yes=1")
    site.settled()
    assert site.counts() == {"cancelled": 2}
    assert all((f / "checkpoint.pt").exists() for f in site.stages()), "SIGTERM saves, whoever sent it"
    assert len(site.numbers()) == 1
    site.slow(0)
    site.sweep(*WORDS)
    site.done()


def requeued(site: Site) -> None:
    """By hand, with scontrol."""
    site.describe(extra={"exclude": f"{site.cluster.nodes[2]},{site.cluster.nodes[3]}"})
    site.slow(0.5)
    site.sweep(*WORDS)
    site.step(10)
    for index in range(2):
        site.cluster.run("scontrol", "requeue", f"{site.numbers()[0]}_{index}")
    site.cluster.until(lambda: all(site.read(f).get("attempt") == 2 for f in site.stages()), "a second attempt", 90)
    site.slow(0)
    site.done()


def killed(site: Site) -> None:
    """The training process alone, as the kernel does when memory runs out: it failed, says how, and is tried again."""
    site.describe(extra={"exclude": f"{site.cluster.nodes[2]},{site.cluster.nodes[3]}"})
    site.slow(0.5)
    site.sweep(*WORDS, "run.checkpoint_every=10")
    site.step(15)
    for stage in site.stages():
        os.kill(site.read(stage)["pid"], signal.SIGKILL)
    site.settled()
    assert site.counts() == {"failed": 2}
    assert "killed by signal 9" in site.launch("why", f"run={site.stages()[0].name}")
    site.slow(0)
    assert "2 stages again" in site.launch("retry")
    site.cluster.until(lambda: all(site.read(f)["attempt"] == 2 for f in site.stages()), "a second attempt", 60)
    site.done()


CASES = (limited, lost, preempted, cancelled, requeued, killed)  # the longest first
ATTEMPTS = {"limited": 3, "lost": 2, "preempted": 2, "cancelled": 2, "requeued": 2, "killed": 2}


def start(pool: ThreadPoolExecutor, cluster: Cluster, folder: Path) -> dict[str, Future]:
    """Name of the case -> its site, or the error it ended with, as a future."""

    def play(case) -> Site:
        site = Site(cluster, folder / case.__name__)
        case(site)
        return site

    return {case.__name__: pool.submit(play, case) for case in CASES}
