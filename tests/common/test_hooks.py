"""What a method or a task of one's own defines is held against the hooks, when its class is loaded."""

import importlib.util
import sys
from itertools import count

import pytest

from common import hooks, registry
from common.errors import UserError
from common.methods.families import base
from common.training.trainer import Trainer
from tests.support.cli import copy, launch

NUMBERS = count()


def loaded(folder, body: str, parent: str = "common.methods.families.base.Method"):
    """The class with this body, from a file of its own."""
    name, module = f"own_{next(NUMBERS)}", parent.rpartition(".")[0]
    path = folder / f"{name}.py"
    lines = [f"import {module}", "from common import sparsity as sp", f"class Method({parent}):", *body.splitlines()]
    path.write_text("\n    ".join(lines[2:]).join(["\n".join(lines[:2]) + "\n", "\n"]))
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name].Method


@pytest.mark.parametrize(
    "body, said",
    [
        ("def begin(self, state): pass", "nothing calls Method.begin (hooks: "),
        ("def on_steps(self, state): pass", "nothing calls Method.on_steps; did you mean 'on_step'?"),
        ("def on_stp(self): pass", "did you mean 'on_step'?"),
        ("rememberd = ('a',)", "nothing calls Method.rememberd; did you mean 'remembered'?"),
        ("verison = 2", "did you mean 'version'?"),
        ("def finished(self, step, steps): return True", "nothing calls Method.finished"),
        ("def step(self, state): state.step()", "nothing calls Method.step"),
        ("def cubic(self, state): sp.cubic(1, 2, 3, 0.5)", "nothing calls Method.cubic"),
    ],
)
def test_a_misspelt_hook_is_refused_with_the_nearest_name(tmp_path, body, said):
    with pytest.raises(UserError) as refused:
        hooks.check(loaded(tmp_path, body), base.Method)
    assert said in str(refused.value) and "begin its name with _" in str(refused.value)


def test_a_hook_of_a_family_is_one_too(tmp_path):
    kind = loaded(tmp_path, "def scores(self, state): pass", "common.methods.families.before_training.BeforeTraining")
    with pytest.raises(UserError, match=r"Method\.scores; did you mean 'score'"):
        hooks.check(kind, base.Method)


@pytest.mark.parametrize(
    "body",
    [
        "def on_step(self, state): self.begin(state)\ndef begin(self, state): pass",
        "def helper(self): pass\ntimes = 3",
        "def _begin(self, state): pass",
        "def start(self, state): other = self; other.begin(state)\ndef begin(self, state): pass",
        "version = 2\ndef start(self, state): pass",
    ],
)
def test_helpers_of_its_own_are_allowed(tmp_path, body):
    hooks.check(loaded(tmp_path, body), base.Method)


def test_every_method_and_task_passes():
    for name in registry.methods():
        assert registry.method(name)
    for name in registry.tasks():
        hooks.check(registry.task_part(name, "trainer").Trainer, Trainer)


def test_what_a_task_s_trainer_misspells_is_refused_as_well(tmp_path):
    kind = loaded(tmp_path, "def parameter_group(self, model): return []", "common.training.trainer.Trainer")
    with pytest.raises(UserError, match=r"Method\.parameter_group; did you mean 'parameter_groups'"):
        hooks.check(kind, Trainer)


def test_a_plan_refuses_them(tmp_path):
    root = copy(tmp_path)
    file = root / "common" / "methods" / "snip.py"
    file.write_text(file.read_text().replace("def score(", "def begin("))
    done = launch("plan", "method=snip", root=root)
    assert done.returncode == 2 and "common.methods.snip: nothing calls Method.begin" in done.stderr, done
    file.write_text("class Method:\n    pass\n")
    done = launch("plan", "method=snip", root=root)
    assert done.returncode == 2 and "class Method must inherit from" in done.stderr, done
