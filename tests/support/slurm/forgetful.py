"""Stages that end in every way on a Slurm that forgets its jobs within seconds: mostly waiting."""

import shutil
from pathlib import Path

from tests.support.slurm.cluster import Cluster
from tests.support.slurm.site import Site

TINY = ("run.steps=20", "run.evaluate_every=10")

# A Python for the nodes under which the training of a seed does what the file of that name says, at its sixth step.
ODD = """\
import os, time
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
"""

# Of dense stages, named by what becomes of them.
SEEDS = dict(done=0, failed=1, cancelled=2, withdrawn=3, late=4, greedy=5, lost=6, gone=7)


class Forgetful:
    """Stages that end in every way, on a Slurm that forgets within seconds."""

    def __init__(self, folder: Path, accounting: bool):
        self.folder, self.accounting = folder, accounting
        self.odd = folder / "odd"
        self.odd.mkdir(parents=True)

    def play(self) -> "Forgetful":
        with Cluster(accounting=self.accounting, min_job_age=5) as cluster:
            self.site = Site(cluster, self.folder / "site")
            self.site.nodes_python(ODD.format(folder=str(self.odd)))
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

    def _end_in_every_way(self, cluster: Cluster) -> None:
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
