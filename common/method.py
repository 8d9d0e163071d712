"""What a method is: a few override points, called in one fixed order, one method in a stage.

A method sees a ``State`` (``common/training/state.py``) and nothing of the task, the data or the scheduler. This file
imports no torch, so that methods can be listed and validated where there is none.
"""

from dataclasses import dataclass, field, fields


def option(default, help: str, **metadata):
    """A configuration field with its help text; ``identity=False`` keeps it out of a stage's digest."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help, **metadata})
    return field(default=default, metadata={"help": help, **metadata})


@dataclass
class Sparse:
    """What every sparse method is told."""

    sparsity: float = option(0.8, "target share of zeros in the prunable set, in [0, 1)")


class Method:
    """Base of all methods; overriding nothing gives dense training."""

    version = 1  # part of every digest: raised when a fix changes results, so that stale results are never reused
    levels = ("sparsity",)  # the settings that say how sparse; giving one replaces the preset's list of another

    @dataclass
    class Config:
        pass

    def __init__(self, config):
        self.config = config

    # --- read by the planner, without torch -------------------------------------------------------------------------

    def complaints(self) -> list[str]:
        """Everything wrong with the settings; the base checks the ranges every sparse method shares."""
        found = []
        sparsity = getattr(self.config, "sparsity", None)
        if sparsity is not None and not 0 <= sparsity < 1:
            found.append(f"method.sparsity is the share of zeros, expected a number in [0, 1), found {sparsity}")
        allocation = getattr(self.config, "allocation", "global")
        if allocation not in self.allocations:
            found.append(f"method.allocation must be one of {', '.join(self.allocations)}; found {allocation!r}")
        return found

    allocations = ("global", "uniform", "erk", "erk_plus", "rows")

    def complaints_for(self, steps: int) -> list[str]:
        """What cannot work in a training of so many optimizer steps."""
        return []

    def budget(self, steps: int) -> int:
        """Optimizer steps of this stage where the run's settings say ``steps``."""
        return steps

    def clock(self, step: int, steps: int) -> tuple[int, int]:
        """(position, length) in the learning-rate schedule after ``step`` steps of this stage.

        ``steps``: of the run's settings. By default the schedule is stretched over the stage.
        """
        return step, self.budget(steps)

    def ancestors(self) -> list[tuple[str, dict]]:
        """The stages that must be finished before this one, from the root: (method name, its settings) each."""
        return []

    # --- called by the loop, in this order --------------------------------------------------------------------------

    def attach(self, state) -> None:
        """Model built, optimizer not yet; also on resume. For methods that add parameters."""

    def start(self, state) -> None:
        """Once, on a fresh stage: choose starting weights and masks."""

    def penalty(self, state):
        """Added to each step's loss."""
        return 0

    def on_gradients(self, state) -> bool:
        """Gradients are averaged and dense. True says: the topology moved and replaces this optimizer step."""
        return False

    def on_step(self, state) -> None:
        """After the optimizer step; ``state.step`` counts it."""

    def settled(self, step: int, steps: int) -> bool:
        """Have the masks reached their final form after ``step`` of ``steps``? Selection starts there."""
        return True

    def state_dict(self) -> dict:
        """What resuming needs beyond masks and step, for methods with a memory of their own."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        if state:
            raise ValueError(f"{type(self).__module__} keeps no state, the checkpoint has {sorted(state)}")


def settings(config) -> dict:
    """A configuration dataclass as a plain dictionary."""
    return {f.name: getattr(config, f.name) for f in fields(config)}
