"""What readers want to know about a method beyond its settings: its row in docs/methods.md (`make docs`).

A method declares ``facts`` in its class. What the code already says is not repeated: allocations, training steps,
ancestors, settings and their defaults. What can be measured (``memory``, ``choosing``, ``looks``) is compared with
measurements in ``tests/common/methods/test_facts.py``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

NEVER, BEFORE, DURING, AFTER = "never", "before training", "during training", "after training"
ROUNDS, FOUND = "in rounds", "fixed mask found elsewhere"
WHEN = (NEVER, BEFORE, DURING, AFTER, ROUNDS, FOUND)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """``paper``: authors, venue and year, or which method this is a control for. ``when``: one of ``WHEN``.

    ``score``: the quantity by which weights are kept, the highest live. ``schedule``: sparsity over training.
    ``topology``: what happens to pruned weights. ``allocation``: how the budget is spread over layers, for methods
    without a setting of that name.

    ``memory``: bytes per prunable weight throughout training, in addition to the weight, its gradient, the optimizer's
    two moments and the mask. A key names the setting that costs them, as in ``{"": 8, "returning=true": 4}``; those
    under "" are always needed. ``choosing``: the peak of the same while masks are chosen. ``looks``: batches whose loss
    is computed to choose masks; these are not training steps. Both are a number or a function of the settings.
    ``cost``: what else takes time.

    ``measures``: what ``measure()`` returns beside the score, by name, each with one line that gives the unit; reports
    explain their tables with it.
    """

    paper: str
    when: str
    score: str
    schedule: str
    topology: str = "stands"
    allocation: str = ""
    memory: Mapping[str, float] = field(default_factory=dict)
    choosing: float | Callable = 0
    looks: int | Callable = 0
    cost: str = ""
    measures: Mapping[str, str] = field(default_factory=dict)

    def but(self, **changes: Any) -> "Facts":
        """The same facts with some changed."""
        return replace(self, **changes)

    def at(self, name: str, config: Any) -> float:
        """``choosing`` or ``looks`` under the settings ``config``."""
        value = getattr(self, name)
        return value(config) if callable(value) else value
