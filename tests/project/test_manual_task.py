"""The task that docs/task.md prints is a task: written as it stands there, it sweeps and is deterministic."""

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
    places = [{"RUNS": tmp_path / name, "REPORTS": tmp_path / f"{name}-reports"} for name in ("one", "two")]
    found = []
    for place in places:
        done = launch("sweep", *words[:-1], root=root, **place)
        assert done.returncode == 0, done.stdout + done.stderr
        summaries = sorted(place["RUNS"].glob("cancer/*/summary.json"))
        found.append([json.loads(path.read_text()) for path in summaries])
    assert len(found[0]) == 3, "two methods and the dense networks they are compared with"
    assert [one["weights"] for one in found[0]] == [one["weights"] for one in found[1]]
    assert all(one["score"] > 90 > 70 > one["baseline"] for one in found[0])
    assert {one["sparsity"] for one in found[0]} >= {0.0}
    refused = launch("plan", *words[:2], "run.batch_size=400", "run.seed=0", root=root, **places[0])
    assert refused.returncode == 2 and "there are 396 training examples" in refused.stderr
