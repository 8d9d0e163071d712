"""The smoke test of a method of one's own: what its network is like in the end, not that it ran."""

from tests.support.cli import copy, launch

HALF = """
from common import sparsity as sp
from common.methods.families.before_training import BeforeTraining


class Method(BeforeTraining):
    def score(self, state):
        return sp.magnitude(state.weights)

    def start(self, state):
        state.set_masks(self.choose(state, self.score(state), 0.5))
"""


def test_a_method_that_prunes_otherwise_than_asked_for_does_not_pass(tmp_path):
    root = copy(tmp_path)
    (root / "common" / "methods" / "half.py").write_text(HALF)
    done = launch("smoke", "method=half", "method.sparsity=0.5", root=root)
    assert done.returncode == 0 and "works: " in done.stdout and "sparsity 50.00%" in done.stdout, done
    done = launch("smoke", "method=half", "method.sparsity=0.8", root=root)
    assert done.returncode == 1 and "works" not in done.stdout, done
    assert "error: sparsity 50.00% at the end, asked for was 80.00%" in done.stdout
