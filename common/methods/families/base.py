"""What a method is: a few override points, called in one fixed order, one method in a stage.

A method sees a ``State`` (``common/training/state.py``) and nothing of the task, the data or the scheduler. This file
imports no torch, so that methods can be listed and validated where there is none.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from common import sparsity as sp
from common.methods.families.facts import Facts
from common.settings.schema import option

if TYPE_CHECKING:
    from torch import Tensor

    from common.sparsity.masks import Masks
    from common.sparsity.scores import Score
    from common.training.state import State
else:
    Masks = Score = State = Tensor = Any  # methods are listed and validated without torch

ALLOCATIONS = ("global", "uniform", "uniform_first_dense", "erk", "erk_plus", "rows")
ONE_DENSE = ("uniform_first_dense", "erk_plus")  # impossible where that tensor alone is more than may live


def allocated(
    default: str | None = "global",
    help: str = "how the budget is spread over layers",
    choices: Sequence[str] | Mapping[str, str] = ALLOCATIONS,
    **metadata: Any,
) -> Any:
    """The setting ``allocation``: which rule spreads the budget over layers."""
    return option(default, help, choices=choices, **metadata)


@dataclass
class NoSettings:
    """The settings of a method that has none."""


@dataclass
class Sparse:
    """The settings that every sparse method has."""

    sparsity: float = option(
        0.8, "target share of zeros in the prunable set", least=0, below=1, because="it is the share of zeros"
    )
    structure: str = option(
        "weights",
        "what lives or goes as one: weights (each alone), RxC (blocks of R outputs by C inputs, e.g. 4x4) or N:M (N of "
        "every M weights along the inputs live, e.g. 2:4)",
        neutral="weights",
    )


class Method:
    """Base of all methods; overriding nothing gives dense training."""

    version = 1  # part of every digest: raised when a fix changes results, so that stale results are never reused
    levels: tuple[str, ...] = ("sparsity",)  # settings that say how sparse; giving one replaces the preset's of another
    structures: tuple[str, ...] = ("weights", "RxC", "N:M")  # what can live or go as one, see ``sp.form``
    keeps_snapshots = False  # are its early weights kept, for stages that go back to them?
    remembered: tuple[str, ...] = ()  # attributes that resuming needs beyond masks and step
    tolerance: float | None = None  # share of weights by which the target may be missed; None: half of what goes as one
    facts: Facts | None = None  # its row in docs/methods.md, beyond its settings
    Config: Any = NoSettings  # the dataclass of its settings

    def __init__(self, config: Any):
        self.config = config

    # --- read by the planner, without torch -------------------------------------------------------------------------

    def complaints(self) -> list[str]:
        """What is wrong with how the settings go together; each alone is checked by its declaration.

        It is asked whatever the settings are, also when one of them is out of its bounds.
        """
        name, sparsity = self.structure, getattr(self.config, "sparsity", None)
        if name == "weights":
            return []
        try:
            form = sp.form(name)
        except sp.AllocationError as error:
            return [f"method.structure: {error}"]
        if form.kind not in self.structures:
            return [f"method.structure must be {' or '.join(self.structures)} here, found {name!r}"]
        found = []
        if form.kind == "N:M":
            if sparsity is None or not form.meets(sparsity):  # the same text for every sparsity of a sweep: said once
                found.append(
                    f"method.structure={name} is a sparsity of {form.sparsity:.9g} and no other: give "
                    f"method.sparsity={form.sparsity:.9g}"
                )
            default = next((f.default for f in fields(self.config) if f.name == "allocation"), None)
            if getattr(self.config, "allocation", default) != default:
                found.append(
                    f"method.structure={name} says how many weights live in every tensor: leave method.allocation at "
                    f"{default}, found {self.config.allocation}"
                )
        return found

    def complaints_for(self, steps: int) -> list[str]:
        """What cannot work in a training of so many optimizer steps; also asked when the stage starts."""
        last = self.budget(steps)
        if self.settled(last, last):
            return []
        return [
            f"the masks are not final after the {last} steps of the stage, so that the sparsity would not be the one "
            "asked for: give more steps, or let the last update come earlier (method.end)"
        ]

    @property
    def oriented(self) -> bool:
        """Do the settings tell a weight's inputs from its outputs, as rows, blocks and N:M do?"""
        return self.structure != "weights" or self.allocation == "rows"

    def shaped(self) -> bool:
        """Do the settings name weights, or can shapes forbid them? Then planning builds the model to ask
        ``complaints_about``.
        """
        by_tensor = self.allocation != "global" and self.target > 0.99  # one weight each may be more than there are
        return self.structure != "weights" or self.allocation in ONE_DENSE or by_tensor

    def complaints_about(self, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
        """What cannot work with prunable weights of these names and shapes; else the stage would say so hours later."""
        try:
            sp.pools(shapes, self.target, self.allocation, self.structure)
        except ValueError as error:
            return [str(error)]
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
        """The stages that must be finished before this one, root first, each as (method name, its settings)."""
        return []

    # --- for subclasses -------------------------------------------------------------------------------------------

    @property
    def target(self) -> float:
        """The sparsity at the end."""
        return self.config.sparsity

    @property
    def allocation(self) -> str | Callable:
        """A rule's name (global where the settings have none), or a function of (sizes, sparsity, living): pools."""
        return getattr(self.config, "allocation", None) or "global"

    @property
    def structure(self) -> str:
        """What lives or goes as one: ``weights``, ``RxC`` or ``N:M``."""
        return getattr(self.config, "structure", "weights")

    def choose(
        self,
        state: State,
        score: Score | Mapping[str, Tensor],
        sparsity: float | None = None,
        within: Masks | Mapping[str, Tensor] | None = None,
        allocation: str | Callable | None = None,
    ) -> dict[str, Tensor]:
        """The masks (``{name: bool}``) that keep the highest scores, by the settings' allocation and structure.

        ``sparsity``: the settings' target unless given. ``within``: masks outside which nothing may live.
        ``allocation``: the method's own unless given. See ``common/sparsity/choosing.py``.
        """
        target = self.target if sparsity is None else sparsity
        return sp.choose(score, target, allocation or self.allocation, self.structure, within)

    # --- called by the loop, in this order --------------------------------------------------------------------------

    def attach(self, state: State) -> None:
        """Model built, optimizer not yet; also on resume. For methods that learn more than the weights.

        See ``state.learn`` and ``state.reparametrise``. What a resume point holds is put back afterwards.
        """

    def start(self, state: State) -> None:
        """Once, on a fresh stage: choose starting weights and masks."""

    def penalty(self, state: State) -> Tensor | float:
        """Added to each step's loss."""
        return 0

    def on_gradients(self, state: State) -> bool:
        """Gradients are averaged and dense. True says: the topology moved and replaces this optimizer step."""
        return False

    def on_step(self, state: State) -> None:
        """After the optimizer step; ``state.step`` counts it."""

    def deployed(self, state: State) -> dict[str, Tensor] | None:
        """The weights (``{name: tensor}``) that validation is to see before the last step, where not the stored ones.

        For methods that train with other weights than the finished network will have; None: the stored ones.
        """
        return None

    def noise(self, step: int) -> tuple[str, ...]:
        """Added to the names of the streams of data order, augmentation and dropout of the step after ``step`` steps.

        Equal names are equal noise; () is what every training of a seed has. It may change on the way: dropout draws
        from a stream's beginning where it does.
        """
        return ()

    def settled(self, step: int, steps: int) -> bool:
        """Have the masks reached their final form after ``step`` of ``steps``? Selection starts there."""
        return True

    def measure(self, state: State, evaluate: Callable) -> dict[str, Any]:
        """Numbers beside the score, or lists of them, by name: once, when training is over.

        ``state.model`` has the scored weights and may be changed; ``state.finished`` has the stage's final weights and
        masks. ``evaluate(model, split)``: see the task's. They stand under ``measurements`` in the summary, the
        numbers also in the report and in MLflow. With several processes the first one alone calls this.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs beyond masks and step: the attributes that are ``remembered``."""
        return {name: copy(getattr(self, name)) for name in self.remembered}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        if saved and not self.remembered:
            raise ValueError(f"{type(self).__module__} keeps no state, the checkpoint has {sorted(saved)}")
        for name in self.remembered:
            setattr(self, name, saved[name])


def settings(config: Any) -> dict[str, Any]:
    """A configuration dataclass as a plain dictionary."""
    return {f.name: getattr(config, f.name) for f in fields(config)}
