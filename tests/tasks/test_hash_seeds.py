"""Every method on every task, and under two hash seeds: no order of a set or of hashes reaches a result."""

import json
import os
import subprocess
import sys

import pytest

from common import registry
from tests.support.places import ROOT


def test_every_method_on_every_task_does_not_depend_on_string_hashes(tmp_path):
    children = []
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "RUNS": str(tmp_path / seed)}
        command = [sys.executable, "-m", "tests.support.hash_seeds"]
        children.append(subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True))
    first, second = (json.loads(child.communicate()[0]) for child in children)
    assert {tuple(name.split()[:2]) for name in first} >= {("arithmetic", m) for m in registry.methods()} - {
        ("arithmetic", "synflow"),
        ("arithmetic", "essential"),  # which needs pretrained weights, and large ones there
    }
    assert {name.split()[0] for name in first} == set(registry.tasks()) and len(first) > 90
    assert first.keys() == second.keys(), "digests too"
    for name, said in first.items():
        assert said["sparsity"] == pytest.approx(said["sparsity_target"] or 0, abs=1e-3) or "instability" in name, name
    assert [name for name in first if first[name] != second[name]] == []
