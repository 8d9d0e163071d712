"""For tests of the local executor: a stand-in for ``common.stage.run``, and sweeps of stages that count instead of
train.

The stand-in counts to ``steps`` and logs each step, so that tests can tell what ran where, when and how often; workers
find it through ``sitecustomize``.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from common import paths
from launch.local import sweep
from tests.support.places import ROOT

PATIENCE = 60.0  # seconds; only ever waited for in full when something is broken

STANDIN = r"""
import json, os, sys, time, types

def log(what, name, step=0):
    line = json.dumps([what, name, step, os.getpid(), os.getppid(), time.monotonic()]) + "\n"
    with open(os.environ["STANDIN_LOG"], "a") as file:
        file.write(line)

def warm(folder):
    log("warm", folder.parent.name)
    if os.environ.get("STANDIN_WARM") == "raise":
        raise RuntimeError("the data set is upside down")
    if os.environ.get("STANDIN_WARM") == "die":
        os._exit(3)

def act(what, folder):
    if what == "raise":
        raise RuntimeError("diverged")
    if what == "exit":
        os._exit(0)
    if what == "leave":
        sys.exit("user code left")
    if what == "hang":
        log("hanging", folder.name)
        time.sleep(600)
    if what == "worker":  # kills the worker, once
        (folder / "plan.json").write_text(json.dumps({"steps": 6}))
        os.kill(os.getppid(), 9)
    if isinstance(what, int):
        os.kill(os.getpid(), what)

def execute(folder, stop):
    import fcntl
    from common import paths, record
    with open(paths.lock(folder), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "busy"
        if paths.done(folder).exists():
            return "done"
        plan = json.loads((folder / "plan.json").read_text())
        step = record.read_json(paths.checkpoint(folder), 0)
        record.update_status(folder, state="running", pid=os.getpid(), reason=None, step=step, steps=plan["steps"])
        log("begin", folder.name, step)
        try:
            while step < plan["steps"]:
                act(plan.get("at", {}).get(str(step)), folder)
                time.sleep(plan.get("pause", 0.02))
                step += 1
                log("step", folder.name, step)
                if stop():
                    record.write_json(paths.checkpoint(folder), step)
                    record.update_status(folder, state="stopped", reason=stop())
                    log("stopped", folder.name, step)
                    return "stopped"
        except Exception as error:
            record.update_status(folder, state="failed", reason=str(error))
            return "failed"
        log("end", folder.name, step)
        record.update_status(folder, state="done")
        record.write_json(paths.summary(folder), {})
        record.write_text(paths.done(folder), folder.name)
        return "done"

module = types.ModuleType("common.stage.run")
module.execute, module.warm = execute, warm
sys.modules["common.stage.run"] = module if os.environ.get("STANDIN_WARM") != "import" else None
"""

DRIVER = r"""
import json, signal, sys
from tests.support.local_sweep import load
from launch.local import sweep
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background hands on an ignored one
result = sweep.run(load(sys.argv[1]), int(sys.argv[2]))
print(json.dumps({"done": len(result.done), "reasons": result.reasons}))
sys.exit(result.code)
"""


@dataclass(frozen=True)
class Stage:
    """As much of a plan's stage as the executor looks at."""

    digest: str
    parent: str | None
    folder: Path
    task: str = "toy"
    method: str = "dense"
    seed: int = 0
    sparsity: float | None = 0.0
    config: dict = field(default_factory=dict)


def load(file: str) -> list[Stage]:
    return [Stage(d, p, Path(f), config={"data": "x"}) for d, p, f in json.loads(Path(file).read_text())]


class Sweep:
    """Stages in a folder of the test, what ran of them, and drivers as processes of their own."""

    def __init__(self, home: Path):
        self.home, self.log, self.file = home, home / "log.jsonl", home / "stages.json"
        self.listed: list = []

    def stage(self, name: str, parent: str | None = None, **plan) -> None:
        folder = paths.stage("toy", name)
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(json.dumps({"steps": 3, **plan}))
        self.listed.append([name, parent, str(folder)])
        self.file.write_text(json.dumps(self.listed))

    def run(self, workers: int = 2, **more) -> sweep.Result:
        return sweep.run(load(self.file), workers, **more)

    def driver(self, workers: int = 2) -> subprocess.Popen:
        command = [sys.executable, "-c", DRIVER, str(self.file), str(workers)]
        return subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, text=True)

    def lines(self, what: str) -> list:
        text = self.log.read_text() if self.log.exists() else ""
        return [entry for entry in map(json.loads, text.splitlines()) if entry[0] == what]

    def names(self, what: str) -> Counter:
        return Counter(entry[1] for entry in self.lines(what))

    def until(self, condition) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    def steps_once(self) -> None:
        """No step of any stage was lost or done twice."""
        done = Counter((entry[1], entry[2]) for entry in self.lines("step"))
        plans = {name: json.loads((Path(folder) / "plan.json").read_text())["steps"] for name, _, folder in self.listed}
        assert done == Counter({(name, step): 1 for name, steps in plans.items() for step in range(1, steps + 1)})

    def processes(self) -> list[str]:
        """Workers, their children and submitit's controllers: all name the folder of their submission."""
        listing = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True).stdout
        return [line for line in listing.splitlines() if f"{self.home}/runs/.sweeps" in line]
