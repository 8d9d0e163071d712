"""How a stage is trained: the settings that every task shares."""

from dataclasses import dataclass

from common.errors import nearest
from common.settings.schema import option


@dataclass
class Run:
    """How a stage is trained; the same fields for every task."""

    seed: int = option(0, "one seed for initialisation, data order, dropout and masks (separate named streams)")
    epochs: float = option(10.0, "passes over the training set, when steps is 0")
    steps: int = option(0, "optimizer steps; 0: from epochs")
    batch_size: int = option(60, "examples per micro-batch")
    accumulate: int = option(1, "micro-batches per optimizer step")
    processes: int = option(1, "processes (one a GPU) that share each micro-batch evenly", neutral=1)
    optimizer: str = option("adam", "sgd, adam or adamw")
    learning_rate: float = option(1.2e-3, "peak learning rate")
    momentum: float = option(0.9, "sgd: momentum")
    nesterov: bool = option(False, "sgd: Nesterov's form of momentum")
    weight_decay: float = option(0.0, "L2 (sgd, adam) or decoupled (adamw) decay")
    schedule: str = option("constant", "learning rate: constant, linear, cosine, steps or one_cycle")
    warmup_steps: int = option(0, "steps of linear warm-up from 0; of one_cycle: the step at its peak")
    milestones: list[float] = option([0.5, 0.75], "schedule=steps: shares of training after which the rate is decayed")
    decay: float = option(0.1, "schedule=steps: factor at each milestone")
    clip_norm: float = option(0.0, "largest norm of the masked gradient; 0: no clipping")
    precision: str = option("float32", "float32 or bfloat16 (autocast; weights stay float32)")
    prune_embeddings: bool = option(False, "are embedding tables in the prunable set?")
    exclude: list[str] = option([], "name patterns of weights to leave dense")
    evaluate_every: int = option(100, "optimizer steps between evaluations on the validation split; 0: once an epoch")
    select: str = option(
        "last", "the scored weights: last, best_loss or best_score (on validation, once masks are final)"
    )
    log_every: int = option(20, "optimizer steps between logged training losses", identity=False)
    checkpoint_seconds: float = option(60.0, "seconds between resume points", identity=False)
    checkpoint_every: int = option(0, "optimizer steps between resume points; 0: by time alone", identity=False)
    device: str = option("auto", "auto, cpu or cuda", identity=False)

    def steps_of(self, examples: int) -> int:
        """Optimizer steps of ``epochs`` passes over so many training examples."""
        return max(1, round(self.epochs * examples / (self.batch_size * self.accumulate)))


CHOICES = {
    "optimizer": ("sgd", "adam", "adamw"),
    "schedule": ("constant", "linear", "cosine", "steps", "one_cycle"),
    "precision": ("float32", "bfloat16"),
    "select": ("last", "best_loss", "best_score"),
    "device": ("auto", "cpu", "cuda"),
}
POSITIVE = ("batch_size", "accumulate", "processes", "learning_rate", "log_every")
NOT_NEGATIVE = ("seed", "epochs", "steps", "momentum", "weight_decay", "warmup_steps", "decay", "clip_norm")
NOT_NEGATIVE += ("evaluate_every", "checkpoint_seconds", "checkpoint_every")


def complaints_of_run(run: Run) -> list[str]:
    found = []
    for name, valid in CHOICES.items():
        value = getattr(run, name)
        if value not in valid:
            found.append(f"run.{name} must be one of {', '.join(valid)}; found {value!r}{nearest(value, valid)}")
    found += [f"run.{n} must be above 0, found {getattr(run, n)}" for n in POSITIVE if not getattr(run, n) > 0]
    found += [
        f"run.{n} must not be negative, found {getattr(run, n)}" for n in NOT_NEGATIVE if not getattr(run, n) >= 0
    ]
    found += [f"run.milestones must be shares in [0, 1], found {m}" for m in run.milestones if not 0 <= m <= 1]
    if run.processes > 0 and run.batch_size % run.processes:
        found.append(
            f"run.processes={run.processes} must divide run.batch_size={run.batch_size}: each process takes an equal "
            "share of every micro-batch"
        )
    if run.steps == 0 and run.epochs == 0:
        found.append("run.epochs and run.steps are both 0: one of them says how long to train")
    if run.schedule == "one_cycle" and run.warmup_steps == 0:
        found.append("run.schedule=one_cycle rises for run.warmup_steps, which is 0; usual are 3 of 10 steps")
    if run.optimizer == "sgd" and run.nesterov and run.momentum == 0:
        found.append("run.nesterov needs run.momentum above 0")
    return found
