"""What readers want to know of a method and its settings do not say: a row of docs/methods.md (`make docs`).

A method declares ``facts`` in its class. What the code says itself is not repeated here: allocations, training steps,
the stages it stands on, settings and their defaults. What can be measured (``memory``, ``choosing``, ``looks``) is:
``tests/common/methods/test_facts.py`` compares.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

NEVER, BEFORE, DURING, AFTER = "never", "before training", "during training", "after training"
ROUNDS, FOUND = "in rounds", "fixed mask found elsewhere"
WHEN = (NEVER, BEFORE, DURING, AFTER, ROUNDS, FOUND)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """``paper``: authors, venue and year, or what it is a control of. ``when``: one of ``WHEN``.

    ``score``: what the highest of lives. ``schedule``: the sparsity over training. ``topology``: what becomes of pruned
    weights. ``allocation``: how the budget is spread over layers, where no setting of this name says it.

    ``memory``: bytes a prunable weight all through training, beside the weight, its gradient, the optimizer's two and
    one for the mask: where a setting is given, as in ``{"": 8, "returning=true": 4}``; those of "" always.
    ``choosing``: the same while masks are chosen, at that moment's most. ``looks``: batches whose loss is computed for
    choosing masks; they are no training steps. Both are a number or a function of the settings. ``cost``: what else
    takes time.

    ``measures``: what ``measure()`` returns beside the score, name -> one line with the unit; reports explain their
    tables with it.
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

    def but(self, **changes) -> "Facts":
        """The facts of a method that shares the others."""
        return replace(self, **changes)

    def at(self, name: str, config) -> float:
        """``choosing`` or ``looks`` with the settings ``config``."""
        value = getattr(self, name)
        return value(config) if callable(value) else value
