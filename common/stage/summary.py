"""The summary of a finished stage: its score, both sparsities, what collapsed, and what it was made with."""

from pathlib import Path
from typing import Any

import torch

from common import paths
from common import sparsity as sp
from common.training.resume import checkpoint
from common.training.state import Parent, State
from common.training.trainer import Trainer


def measured(stage: dict[str, Any], worker: Trainer, state: State, scored: Path, seconds: float) -> dict[str, Any]:
    """The summary of a stage whose scored weights are in the file ``scored``; ``seconds``: spent on it so far.

    Everything is measured on the weights as saved: read back, counted, and the test set touched this once (but for
    what a method may measure with it).
    """
    if scored != (final := paths.weights(scored.parent)):
        _living(checkpoint.load(final), state)  # what later stages start from
    saved = checkpoint.load(scored)
    living = _living(saved, state)
    state.load(saved["model"])
    masks = state.masks
    pruned = masks.total - masks.kept
    state.model.eval()
    test = worker.judged(state.model, "test")
    state.finished = Parent(scored.parent, worker)
    measurements = {**test.get("measurements", {}), **worker.method.measure(state, worker.judged)}
    state.load(saved["model"])
    empty = [name for name, kept in living.items() if kept == 0]
    reasons = [f"empty layer {name}" for name in empty] + ["constant prediction"] * bool(test["constant"])
    last = worker.run.select == "last"
    values, method = stage["settings"], worker.method
    wanted, sparsity = target(stage, worker, state), pruned / masks.total
    return {
        "task": stage["task"],
        "dataset": values["task"].get("dataset", stage["task"]),
        "model": values["task"].get("model", ""),
        "method": stage["method"],
        "sparsity_target": wanted,
        "sparsity": sparsity,
        "sparsity_all": pruned / sp.count(state.model),
        "seed": stage["seed"],
        "metric": worker.metric,
        "score": test["score"],
        "score_validation": worker.last_validation if last else worker.best["score"],
        "steps": state.steps,
        "epochs": state.steps * worker.batch_size / worker.examples(),
        "collapsed": bool(reasons),
        "digest": stage["digest"],
        "parent": stage["parent"],
        "variant": stage["variant"],
        "replicate": stage.get("replicate", ""),
        "data": stage["data"][:8],
        "collapse": reasons,
        "zeros": (masks.total - sum(living.values())) / masks.total,
        "target_met": wanted is None or sp.met(wanted, sparsity, masks.total, method.structure, method.tolerance),
        "selection": worker.run.select,
        "scored_step": state.steps if last else worker.best["step"],
        "best_step": worker.best.get("step"),
        "baseline": worker.baseline(),
        "test_loss": test["loss"],
        "measurements": measurements,
        "unmoved": worker.unmoved(state),
        "layers": {n: {"total": w.numel(), "kept": masks.counts[n]} for n, w in state.weights.items()},
        "masks": masks.checksum(),
        "weights": sp.checksum(saved["model"]),
        "seconds": round(seconds, 3),
        "device": str(worker.device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processes": worker.team.size,
        "commit": stage.get("source", {}).get("commit"),
        "warnings": worker.warnings,
    }


def _living(saved: dict[str, Any], state: State) -> dict[str, int]:
    """The numbers of prunable weights that are not zero. ``RuntimeError``: one is outside of the masks beside it."""
    found: dict[str, int] = {}
    for name in state.weights:
        weight = saved["model"][name]
        if bool(torch.count_nonzero(weight[~sp.unpack(saved["masks"]["bits"][name], weight.shape)])):
            claim = "the saved weights are not as sparse as claimed"
            raise RuntimeError(f"{name} has living weights outside its mask: {claim}")
        found[name] = int(torch.count_nonzero(weight))
    return found


def target(stage: dict[str, Any], worker: Trainer, state: State) -> float | None:
    """The sparsity asked for; where rounds or layers decide it, the one their rule leads to; None: nobody asked."""
    if stage["sparsity"] is not None:
        return stage["sparsity"]
    method = worker.method
    if all(getattr(method.config, name, None) is None for name in method.levels):
        return None
    pools = sp.pools(state.weights, method.target, method.allocation, method.structure)
    return 1 - sp.form(method.structure).size * sum(pool.keep for pool in pools) / state.masks.total  # rounds: no N:M
