"""A math word problem as every data set gives it."""

from dataclasses import dataclass

from tasks.arithmetic import expression


@dataclass(frozen=True)
class Problem:
    """One problem. ``words`` are lower-cased with ``NUM`` where a quantity stands; ``where`` is file:line.

    ``cased`` are the words as the file spells them, which pretrained embeddings read; none: as in ``words``.
    ``places`` has the first word of each quantity, ``cells`` the words of the quantity cells, ``beyond`` how many of
    those the file puts outside the question (left out here), ``equation`` the prefix expression with one spelling of
    each constant.
    """

    words: list[str]
    numbers: list[float]
    equation: list[str]
    answer: float
    places: list[int]
    cells: list[int]
    where: str
    beyond: int = 0
    cased: tuple[str, ...] = ()

    @property
    def value(self) -> float | None:
        """What the equation comes to; None where it divides by zero or overflows."""
        return expression.evaluate(self.equation, self.numbers)

    @property
    def gives(self) -> bool:
        """Does the equation give the stated answer?"""
        return expression.same(self.value, self.answer)
