"""What the framework adds to a job, and whether a large sweep gets through: hundreds of tiny stages on a real Slurm.

    python -m benchmarks.slurm                     about ten minutes on two cores; needs the packages of the Slurm tests
    python -m benchmarks.slurm --stages 60         a quick look

Two things take turns on a Slurm of four nodes on this machine, one array element a core at a time: elements that do
nothing but ``srun python -c "import torch"``, and elements of a sweep whose stages take one step. The processor time of
an element, all its processes and Slurm's own included, is compared; their difference is what submitit, the launcher and
the records add to a stage beside torch itself. Then the whole sweep is counted: every stage done, once, and by its
first attempt.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.support.slurm.cluster import Cluster
from tests.support.slurm.site import Site

LINES = ["method=imp,omp_after,gmp,snip", "run.steps=1", "run.evaluate_every=1", "method.every=1", "cluster.time=10"]
ELEMENTS = 8  # of one turn of the comparison
MEMORY = "1G"


def used(cluster: Cluster) -> float:
    """Processor seconds of everything that ran on the cluster's nodes and has ended, as their slurmd's parents know."""
    ticks = 0
    for pid in cluster.members():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except FileNotFoundError:
            continue
        ticks += sum(map(int, fields[11:15]))  # its own and that of the children it waited for
    return ticks / os.sysconf("SC_CLK_TCK")


def bare(cluster: Cluster) -> float:
    """Processor seconds of an element that imports torch."""
    before = used(cluster)
    command = f"srun {sys.executable} -c 'import torch'"
    number = cluster.submit(command, f"--array=0-{ELEMENTS - 1}", f"--mem={MEMORY}", "--export=ALL")
    cluster.until(lambda: _over(cluster, [number]), "the bare jobs", 300, pause=0.5)
    return (used(cluster) - before) / ELEMENTS


def framework(cluster: Cluster, folder: Path, turn: int) -> float:
    """Processor seconds of an element that trains a stage of one step."""
    site = _site(cluster, folder / f"turn-{turn}")
    before = used(cluster)
    seeds = ",".join(str(turn * ELEMENTS + i) for i in range(ELEMENTS))
    site.sweep("method=dense", f"run.seed={seeds}", "run.steps=1", "run.evaluate_every=1")
    site.done(300)
    cluster.until(lambda: _over(cluster, site.numbers()), "the stages", 300, pause=0.5)
    return (used(cluster) - before) / ELEMENTS


def _over(cluster: Cluster, numbers: list[str]) -> bool:
    jobs = [job for job in cluster.jobs() if job.id.split("_")[0] in numbers]
    return bool(jobs) and all(job.state in ("COMPLETED", "FAILED", "CANCELLED") for job in jobs)


def _site(cluster: Cluster, folder: Path) -> Site:
    site = Site(cluster, folder)
    site.describe(memory=MEMORY, needs={"classic": {"memory": MEMORY, "time": 10}})
    return site


def large(cluster: Cluster, folder: Path, stages: int) -> None:
    """A sweep of about ``stages`` stages from end to end."""
    site = _site(cluster, folder / "large")
    seeds = max(1, round(stages / 41))  # ten sparsities each: dense, 10 rounds, and 10 stages of three methods
    began = time.monotonic()
    said = site.sweep(*LINES, f"run.seed={','.join(map(str, range(seeds)))}")
    submitted = time.monotonic() - began
    print(said.splitlines()[-2], f"in {submitted:.1f} s", flush=True)
    total = len(site.stages())
    while not _settled(cluster, site):
        done = sum((f / "DONE").exists() for f in site.stages())
        print(f"  {time.monotonic() - began:5.0f} s: {done} of {total} done", flush=True)
        time.sleep(20)
    wall = time.monotonic() - began
    looked = time.monotonic()
    counts = site.counts()
    looked = time.monotonic() - looked
    attempts = [site.read(f).get("attempt") for f in site.stages()]
    once = sum(attempt == 1 for attempt in attempts)
    print(f"{total} stages in {wall:.0f} s: {counts}, {once} by their first attempt; `status` took {looked:.2f} s")
    if counts != {"done": total} or once != total:
        raise SystemExit("a stage was lost, stuck, or trained twice")


def _settled(cluster: Cluster, site: Site) -> bool:
    jobs = [job for job in cluster.jobs() if job.id.split("_")[0] in site.numbers()]
    return all(job.state not in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING") for job in jobs)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--stages", type=int, default=330)
    arguments.add_argument("--rounds", type=int, default=3)
    asked = arguments.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    cores = len(os.sched_getaffinity(0))
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    with Cluster(nodes=cores, cpus=1, memory=8000) as cluster:
        pairs = [(bare(cluster), framework(cluster, folder, turn)) for turn in range(asked.rounds)]
        for one, other in pairs:
            print(f"element that imports torch {one:.2f} s, that trains a stage {other:.2f} s: {other / one:.2f}")
        added = statistics.median(other - one for one, other in pairs)
        ratio = statistics.median(other / one for one, other in pairs)
        print(f"median: {ratio:.2f} times, {added:.2f} processor seconds more for a stage")
        large(cluster, folder, asked.stages)


if __name__ == "__main__":
    main()
