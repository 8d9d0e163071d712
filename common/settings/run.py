"""How a stage is trained: the settings that every task shares."""

from dataclasses import dataclass

from common.settings import schema
from common.settings.schema import option


@dataclass
class Run:
    """How a stage is trained; the same fields for every task."""

    seed: int = option(0, "for initialisation, data order, dropout and masks (separate named streams)", least=0)
    epochs: float = option(10.0, "passes over the training set, when steps is 0", least=0, most=10**6)
    steps: int = option(0, "optimizer steps; 0: from epochs", least=0, most=10**9)
    batch_size: int = option(60, "examples per micro-batch", above=0)
    accumulate: int = option(1, "micro-batches per optimizer step", above=0)
    processes: int = option(1, "processes, one per GPU, that share each micro-batch evenly", above=0, neutral=1)
    optimizer: str = option("adam", "optimizer", choices=("sgd", "adam", "adamw"))
    learning_rate: float = option(1.2e-3, "peak learning rate", above=0)
    momentum: float = option(0.9, "sgd: momentum", least=0, below=1)
    nesterov: bool = option(False, "sgd: Nesterov's form of momentum")
    weight_decay: float = option(0.0, "L2 (sgd, adam) or decoupled (adamw) decay", least=0)
    schedule: str = option("constant", "learning rate", choices=("constant", "linear", "cosine", "steps", "one_cycle"))
    warmup_steps: int = option(
        0, "steps of linear warm-up from 0; one_cycle: the step at which it peaks", least=0, most=10**9
    )
    milestones: list[float] = option([0.5, 0.75], "schedule=steps: shares of training it decays after", least=0, most=1)
    decay: float = option(0.1, "schedule=steps: factor at each milestone", least=0)
    clip_norm: float = option(0.0, "largest norm of the masked gradient; 0: no clipping", least=0)
    precision: str = option(
        "float32", "numbers in training", choices={"float32": "", "bfloat16": "autocast, weights stay float32"}
    )
    prune_embeddings: bool = option(False, "are embedding tables in the prunable set?")
    exclude: list[str] = option([], "name patterns of weights to leave dense")
    evaluate_every: int = option(100, "steps between looks at the validation split; 0: once per epoch", least=0)
    select: str = option(
        "last",
        "the weights that are scored, the best on validation once masks are final",
        choices=("last", "best_loss", "best_score"),
    )
    log_every: int = option(20, "optimizer steps between logged training losses", above=0, identity=False)
    checkpoint_seconds: float = option(60.0, "seconds between resume points", least=0, identity=False)
    checkpoint_every: int = option(0, "optimizer steps between resume points; 0: by time", least=0, identity=False)
    device: str = option("auto", "device that trains", choices=("auto", "cpu", "cuda"), identity=False)

    def steps_of(self, examples: int) -> int:
        """Optimizer steps of ``epochs`` passes over so many training examples."""
        return max(1, round(self.epochs * examples / (self.batch_size * self.accumulate)))


def cautions(run: Run, examples: int | None) -> tuple[str, ...]:
    """What works as ``run`` asks for and may not be meant; ``examples`` to train on, None where nobody knows."""
    steps = run.steps or (run.steps_of(examples) if examples else 0)
    if not 0 < steps < run.warmup_steps:
        return ()
    return (
        f"run.warmup_steps={run.warmup_steps} is longer than the training of {steps} steps: the learning rate never "
        "gets to run.learning_rate",
    )


def complaints_of_run(run: Run) -> list[str]:
    """Everything wrong with ``run``: in single fields, and in how they go together."""
    found = schema.complaints("run", run)
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


def complaints_of_size(run: Run, examples: int) -> list[str]:
    """What is wrong with ``run`` on so many training examples."""
    if run.batch_size <= examples:
        return []
    return [
        f"run.batch_size is {run.batch_size} and there are {examples} training examples; expected no more than these: "
        "a batch would hold some of them twice"
    ]
