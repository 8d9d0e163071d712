"""What a stage starts from and what starts from it, of records and of planned stages alike.

Every stage names its parent; nothing here reads files. Damaged files may name a parent that does not exist, or form a
circle: a walk leaves out the former and visits every stage once.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar


class Descendant(Protocol):
    """Anything with a name and the name of what it starts from."""

    @property
    def digest(self) -> str: ...

    @property
    def parent(self) -> str | None: ...


S = TypeVar("S", bound=Descendant)


class Lineage(Generic[S]):
    """The family of some stages, by digest."""

    def __init__(self, stages: Iterable[S]) -> None:
        self.stages: dict[str, S] = {stage.digest: stage for stage in stages}
        self._children: dict[str, list[S]] = {}
        for stage in self.stages.values():
            if stage.parent:
                self._children.setdefault(stage.parent, []).append(stage)

    def parent(self, stage: Descendant) -> S | None:
        """The stage it starts from, where that is one of these."""
        return self.stages.get(stage.parent) if stage.parent else None

    def children(self, digest: str) -> list[S]:
        """The stages that start from this one."""
        return self._children.get(digest, [])

    def ancestors(self, stage: Descendant) -> Iterator[S]:
        """All that a stage descends from, nearest first."""
        seen, above = {stage.digest}, self.parent(stage)
        while above is not None and above.digest not in seen:
            yield above
            seen.add(above.digest)
            above = self.parent(above)

    def whole(self, stage: Descendant) -> bool:
        """Are all its ancestors here, up to one that starts from nothing?"""
        *_, last = (stage, *self.ancestors(stage))
        return not last.parent

    def descendants(self, digests: Iterable[str], through: Callable[[S], bool] = lambda stage: True) -> list[S]:
        """All that descends from ``digests``, nearest first, without these; only along stages that pass ``through``."""
        todo = list(digests)
        seen = set(todo)
        found: list[S] = []
        for digest in todo:  # grows while it is walked
            for child in self.children(digest):
                if child.digest not in seen and through(child):
                    seen.add(child.digest)
                    found.append(child)
                    todo.append(child.digest)
        return found

    def depth(self, stage: Descendant) -> int:
        """The number of its ancestors here."""
        return sum(1 for _ in self.ancestors(stage))

    def heights(self) -> dict[str, int]:
        """For every stage the number of stages in the longest chain that starts with it."""
        heights = dict.fromkeys(self.stages, 1)
        for stage in self.stages.values():
            for length, above in enumerate(self.ancestors(stage), 2):
                if heights[above.digest] >= length:  # and so are those above
                    break
                heights[above.digest] = length
        return heights
