"""Which tests belong into one process, where several share them."""

# Folders and files whose tests share what is costly: a Slurm, an MLflow server, stages that are trained once. The tests
# on a Slurm mostly wait: two halves of them at once, each on a Slurm of its own.
TOGETHER = (
    "tests/real_slurm/test_sweep.py",
    "tests/real_slurm/",
    "tests/launch/mlflow_view/",
    "tests/common/training/test_resume.py",
    "tests/launch/cli/test_cli.py",
    "tests/common/methods/test_gmp.py",
    "tests/common/methods/test_instability.py",
    "tests/common/methods/test_learned.py",
    "tests/common/methods/test_methods.py",
    "tests/common/methods/test_rigl.py",
    "tests/common/methods/test_snip.py",
    "tests/common/methods/test_tickets.py",
    "tests/common/methods/test_variational_dropout.py",
    "tests/common/sparsity/test_fisher.py",
    "tests/common/sparsity/test_structure.py",
    "tests/common/training/test_learned_tensors.py",
    "tests/tasks/arithmetic/test_trainer.py",
)


def together(nodeid: str) -> str:
    """The one of ``TOGETHER`` that a test belongs to, or its own name."""
    return next((place for place in TOGETHER if nodeid.startswith(place)), nodeid)
