"""Writes stage folders as training leaves them, without training."""

import json
from pathlib import Path

import yaml

from common import paths

START = 1_760_000_000.0  # unix seconds
SUMMARY = ("task", "dataset", "model", "method", "sparsity_target", "sparsity", "sparsity_all")
SCORES = ("seed", "metric", "score", "score_validation")


def stage(
    runs: Path,
    digest: str,
    method: str = "imp",
    sparsity: float | None = 0.5,
    seed: int = 0,
    score: float = 90.0,
    state: str = "done",
    task: str = "toy",
    dataset: str = "digits",
    model: str = "lenet",
    variant: str = "",
    parent: str | None = None,
    lines: int = 4,
    committed: int | None = None,
    metric: str = "accuracy",
    start: float = START,
    replicate: str = "",
    data: str = "0123abcd",
    **summary,
) -> Path:
    """One stage folder; ``committed`` is the number of lines its checkpoint vouches for (default: all)."""
    folder = Path(runs) / task / digest
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "task": task, "method": method, "digest": digest, "parent": parent, "seed": seed, "sparsity": sparsity,
        "label": f"{method} {sparsity} seed {seed}", "versions": {"task": 1, "method": 1}, "data": data,
        "variant": variant, "replicate": replicate,
        "settings": {
            "run": {"steps": 10 * lines, "learning_rate": 0.1, "log_every": 10, **{f"extra_{i}": i for i in range(12)}},
            "task": {"dataset": dataset, "model": model, "augment": False},
            "method": {"rates": [0.2, 0.1], "rewind": None},
        },
    }  # fmt: skip
    paths.config(folder).write_text(yaml.safe_dump(config, sort_keys=False))
    text = [line(10 * (i + 1), start) for i in range(lines)]
    paths.metrics(folder).write_text("".join(text))
    status = {"state": state, "step": 10 * lines, "steps": 10 * lines, "started": start, "updated": start + 1000}
    status["committed"] = len("".join(text[:committed]).encode())
    if state == "failed":
        status["reason"] = "the loss is not finite"
    paths.status(folder).write_text(json.dumps(status))
    if state == "done":
        share = 0.0 if sparsity is None else sparsity
        values = (task, dataset, model, method, sparsity, share, 0.9 * share, seed, metric, score, score - 1)
        result = dict(zip(SUMMARY + SCORES, values)) | {"steps": 10 * lines, "epochs": 2.0, "collapsed": False}
        identity = {"digest": digest, "parent": parent, "variant": variant}
        paths.summary(folder).write_text(json.dumps({**result, **identity, "zeros": 5, **summary}))
        paths.done(folder).write_text(digest)
    return folder


def line(step: int, start: float = START) -> str:
    """One line of ``metrics.jsonl``: five values, one of them a NaN, at ``step`` seconds after ``start``."""
    values = {"loss": 1 / step, "learning_rate": 0.1, "sparsity": 0.0, "validation_loss": float("nan")}
    return json.dumps({"step": step, "time": start + step + 0.125, **values, "validation_score": 50.0 + step}) + "\n"
