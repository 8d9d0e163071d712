"""A researcher's account on a test Slurm: folders, a cluster file, the verbs, and stages that take as long as asked."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import yaml

from common.stage import run
from launch.__main__ import main
from tests.support.forked import forked
from tests.support.places import ROOT
from tests.support.slurm.cluster import Cluster

# A Python for the nodes whose training takes longer, without using the processor: each step, and the beginning, as the
# file `pause` says at that moment.
SLOW = """\
import time
from common.training import trainer
step, begin = trainer.Trainer.step, trainer.Trainer.begin
def pauses():
    return [float(word) for word in open({pause!r}).read().split()]
def slow_step(self, state):
    time.sleep(pauses()[0])
    return step(self, state)
def slow_begin(self, parent):
    time.sleep(pauses()[1])
    return begin(self, parent)
trainer.Trainer.step, trainer.Trainer.begin = slow_step, slow_begin
"""
RUN = """
import runpy, sys
sys.argv = sys.argv[3:]  # of: -u -m submitit.core._submit <folder>
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


class Site:
    """``RUNS`` and a cluster file in ``folder``; ``fields`` of the file may change from one sweep to the next."""

    def __init__(self, cluster: Cluster, folder: Path, **fields):
        self.cluster, self.folder = cluster, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.runs, self.file = self.folder / "runs", self.folder / "site.yaml"
        self.fields = {"memory": "600M", "time": 10, "signal_seconds": 20, "needs": {"classic": {"memory": "600M"}}}
        self.fields |= {"needs": {"classic": {"memory": "600M", "time": fields.get("time", 10)}}}
        self.describe(**fields)

    def describe(self, **fields) -> None:
        """Write the cluster file, with these fields changed."""
        self.fields |= fields
        self.file.write_text(yaml.safe_dump(self.fields))

    def slow(self, pause: float, begin: float = 0) -> None:
        """From now on every training step takes ``pause`` seconds more, also of stages that train already."""
        text = self.folder / "pause"
        aside = self.folder / "pause.new"
        aside.write_text(f"{pause} {begin}")
        aside.rename(text)
        self.nodes_python(SLOW.format(pause=str(text)))

    def nodes_python(self, before: str) -> None:
        """From now on the nodes' Python runs these lines before what it is asked to."""
        script, python = self.folder / "before.py", self.folder / "python"
        if not script.exists():
            script.write_text(before + RUN)
            python.write_text(f'#!/bin/sh\nexec {sys.executable} -u {script} "$@"\n')
            python.chmod(0o755)
        self.describe(python=str(python))

    def environment(self, **more) -> dict[str, str]:
        own = {"RUNS": str(self.runs), "REPORTS": str(self.folder / "reports"), **self.cluster.environment()}
        return {**os.environ, **own, **more}

    def launch(self, verb: str, *words: str, code: int | None = 0, **environment) -> str:
        """Run one verb; its output and errors. ``code``: the exit code it must have, None for any."""
        environment = self.environment(**environment)
        if threading.current_thread() is threading.main_thread():
            done = forked(lambda: main([verb, *words]), environment, ROOT)
        else:
            command = [sys.executable, "-m", "launch", verb, *words]
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        said = done.stdout + done.stderr
        assert code is None or done.returncode == code, f"{verb} ended with {done.returncode}:\n{said}"
        return said

    def sweep(self, *words: str, code: int | None = 0, **environment) -> str:
        return self.launch("sweep", f"cluster={self.file}", *words, code=code, **environment)

    def status(self) -> dict:
        return json.loads(self.launch("status", "format=json"))

    def counts(self) -> dict[str, int]:
        return self.status()["counts"]

    # --- straight from the files

    def stages(self, method: str | None = None) -> list[Path]:
        """The folders of all stages, or of one method's."""
        found = sorted(f.parent for f in self.runs.glob("classic/*/config.yaml"))
        return [f for f in found if method is None or self.config(f)["method"] == method]

    def config(self, stage: Path) -> dict:
        return yaml.safe_load((stage / "config.yaml").read_text())

    def read(self, stage: Path, name: str = "status.json") -> dict:
        try:
            return json.loads((stage / name).read_text())
        except FileNotFoundError:
            return {}

    def events(self) -> list[dict]:
        """Every line of every ledger, oldest first."""
        lines = [line for f in self.runs.glob(".sweeps/*/jobs.jsonl") for line in f.read_text().splitlines()]
        return sorted((json.loads(line) for line in lines), key=lambda event: event["time"])

    def numbers(self) -> list[str]:
        """The numbers of all arrays that were submitted."""
        return [event["job"] for event in self.events() if event["event"] == "submitted"]

    def step(self, least: int, seconds: float = 90) -> None:
        """Wait until every stage that has no parent has done ``least`` steps."""
        roots = [f for f in self.stages() if self.config(f)["parent"] is None]

        def there() -> bool:
            states = [self.read(f) for f in roots]
            return all(s.get("state") == "done" or (s.get("step") or 0) >= least for s in states)

        self.cluster.until(there, f"step {least} of {roots}: {[self.read(f) for f in roots]}", seconds, pause=0.1)

    def done(self, seconds: float = 120) -> None:
        """Wait until every stage is done; fails at once when one failed."""

        def over() -> bool:
            states = {f.name: self.read(f) for f in self.stages()}
            since = max(event["time"] for event in self.events())  # what failed before is being tried again
            ended = {name: s for name, s in states.items() if s.get("state") in ("failed", "blocked")}
            bad = {name: s for name, s in ended.items() if s["updated"] > since}
            assert not bad, f"{bad}\n{self.logs()}"
            return all((f / "DONE").exists() for f in self.stages())

        self.cluster.until(over, f"the end of {[f.name for f in self.stages()]}", seconds, pause=0.2)

    def settled(self, seconds: float = 90, but: str = "") -> None:
        """Wait until Slurm has nothing of ours in its queue, but for one array."""

        def over() -> bool:
            numbers = set(self.numbers()) - {but}
            jobs = [j for j in self.cluster.jobs() if j.id.split("_")[0] in numbers]
            return not [j for j in jobs if j.state in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED")]

        self.cluster.until(over, f"an empty queue, found {self.cluster.jobs()}", seconds, pause=0.2)

    def logs(self) -> str:
        files = sorted(self.runs.glob(".sweeps/*/array-*/*log.err"))
        return "\n".join(f"--- {f.name}\n{f.read_text(errors='replace')[-2000:]}" for f in files)

    def undisturbed(self) -> dict[str, tuple]:
        """What the same stages come to on this machine, one after the other, without Slurm: digest -> ``result``."""
        other = self.folder / "undisturbed"
        for stage in self.stages():
            target = other / "classic" / stage.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(stage / "config.yaml", target)
        folders = sorted(other.glob("classic/*"))
        done = forked(lambda: trained(folders), self.environment(), ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
        return {f.name: result(f) for f in folders}

    def results(self) -> dict[str, tuple]:
        return {f.name: result(f) for f in self.stages()}


def trained(folders: list[Path]) -> None:
    """Train these stages, each after what it starts from."""
    while folders:
        outcomes = {folder: run.execute(folder) for folder in folders}
        assert set(outcomes.values()) <= {"done", "blocked"} and "done" in outcomes.values(), outcomes
        folders = [folder for folder, outcome in outcomes.items() if outcome == "blocked"]


def result(stage: Path) -> tuple:
    """What must not depend on what happened on the way: final weights, masks, score, and every logged value."""
    summary = json.loads((stage / "summary.json").read_text())
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    values = [{k: v for k, v in line.items() if k != "time"} for line in lines]
    return summary["weights"], summary["masks"], summary["score"], summary["sparsity"], json.dumps(values)


def wait(condition, what: str, seconds: float = 60):
    end = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)
    return answer
