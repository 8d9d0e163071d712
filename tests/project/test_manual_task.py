"""The task that docs/task.md prints is a task: written as it stands there, it sweeps."""

import json
import re

from tests.support.cli import ROOT, copy, launch

FILES = {"README.md", "config.py", "config.yaml", "prepare.py", "data.py", "model.py", "trainer.py"}


def test_the_task_of_the_manual_sweeps(tmp_path):
    root = copy(tmp_path / "copy")
    page = (ROOT / "docs" / "task.md").read_text()
    blocks = re.findall(r"```(?:markdown|yaml|python)\n(# tasks/cancer/.*?)```", page, re.DOTALL)
    parts = [part for block in blocks for part in re.split(r"(?m)^(?=# tasks/cancer/)", block) if part]
    written = {re.match(r"# tasks/cancer/(\S+)\n", part)[1]: part for part in parts}
    assert set(written) == FILES
    (root / "tasks" / "cancer").mkdir()
    for name, part in written.items():
        (root / "tasks" / "cancer" / name).write_text(part)
    words = ("task=cancer", "method=gmp,omp_after", "method.sparsity=0.8", "run.seed=0", "method.every=5")
    place = {"RUNS": tmp_path / "runs", "REPORTS": tmp_path / "reports"}
    done = launch("sweep", *words[:-1], root=root, **place)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(path.read_text()) for path in sorted(place["RUNS"].glob("cancer/*/summary.json"))]
    assert len(found) == 3, "two methods and the dense network they are compared with"
    assert all(one["score"] > 90 > 70 > one["baseline"] and not one["warnings"] for one in found)
    refused = launch("plan", *words[:2], "run.batch_size=400", "run.seed=0", root=root, **place)
    assert refused.returncode == 2 and "there are 396 training examples" in refused.stderr
