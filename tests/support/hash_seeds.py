"""Every method trains a small stage of every task in this process; by stage what its summary says, as JSON.

RUNS=<folder> PYTHONHASHSEED=1 python -m tests.support.hash_seeds
"""

import json
import os

from common import paths, registry
from common.settings import groups, schema
from common.stage import run
from launch.plan import planner
from launch.request import arguments
from tests.support import training

# Small networks, and what lets each method do within four steps all that it does.
TASKS = {
    "classic": {},
    "protein": {"task.width": 8, "task.heads": 2, "task.layers": 1, "run.prune_embeddings": True},
    "arithmetic": {
        "task.model": "graph2tree",
        "task.cell": "lstm",
        "task.width": 16,
        "task.embedding_width": 8,
        "task.layers": 1,
    },
}
RUN = {"run.seed": 0, "run.steps": 4, "run.warmup_steps": 0, "run.batch_size": 16, "run.evaluate_every": 4}
SAID = ("weights", "masks", "score", "sparsity", "sparsity_target", "metric")
SHORT = {"every": 1, "gradients": 4, "batches": 1, "candidates": 2, "iterations": 3, "points": 3, "block": 16}


def settings(task: str, method: str) -> list[str]:
    chosen = {**RUN, **TASKS[task]}
    own = schema.types(groups.classes(task, method)["method"])
    chosen |= {f"method.{name}": value for name, value in SHORT.items() if name in own}
    if method != "dense":
        chosen["method.sparsity"] = 0.5
    return [f"{name}={value}" for name, value in chosen.items()]


def main() -> None:
    found: dict[str, list] = {}
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for task in registry.tasks():
        for method in registry.methods():
            if method == "synflow" and task != "classic":  # refused: not defined through gates and attention
                continue
            own: list[str] = []
            if getattr(registry.method(method), "needs_pretrained", False):
                if task != "classic":  # whose pretrained weights are no small ones
                    continue
                own = [f"task.pretrained={training.pretrained()}"]
            made = planner.make(arguments.parse([f"task={task}", f"method={method}", *settings(task, method), *own]))
            planner.write(made)
            for stage in made.stages.values():
                outcome = run.execute(stage.folder)
                assert outcome == "done", (task, method, paths.status(stage.folder).read_text())
                summary = json.loads(paths.summary(stage.folder).read_text())
                found[f"{task} {stage.method} {stage.digest}"] = {key: summary[key] for key in SAID}
    with out:
        json.dump(found, out)


if __name__ == "__main__":
    main()
