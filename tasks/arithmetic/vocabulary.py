"""What a solver can read and answer: words, operators and constants of the training problems, and quantities."""

import itertools
from collections import Counter
from dataclasses import dataclass, field

from tasks.arithmetic import expression

# Capitals: the words of a question are lower-cased, so none of them is ever one of these.
special = PADDING, UNKNOWN, NUMBER = "PADDING", "UNKNOWN", "NUM"  # the first words of every vocabulary
always = ("*", "+", "-", "/")


@dataclass(frozen=True)
class Vocabulary:
    """``words`` by id; outcomes of a node by id: operators, then constants, then quantity 0, 1, ... of the problem.

    ``quantities`` is the most that a training problem has. A problem may have more: quantity k has its id all the same.
    """

    words: list[str]
    operators: list[str]
    constants: list[str]
    quantities: int
    _words: dict[str, int] = field(init=False, repr=False, compare=False, default_factory=dict)
    _outcomes: dict[str, int] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self):
        self._words.update((word, i) for i, word in enumerate(self.words))
        self._outcomes.update((token, i) for i, token in enumerate([*self.operators, *self.constants]))

    @property
    def first_quantity(self) -> int:
        """The id of quantity 0."""
        return len(self.operators) + len(self.constants)

    def read(self, words: list[str]) -> list[int]:
        """Ids of a question's words."""
        return [self._words.get(word, 1) for word in words]

    def encode(self, equation: list[str]) -> list[int] | None:
        """Ids of a prefix expression; None where a token of it cannot be answered."""
        found = []
        for token in equation:
            place = expression.index(token)
            one = self._outcomes.get(token) if place is None else self.first_quantity + place
            if one is None:
                return None
            found.append(one)
        return found

    def decode(self, ids: list[int]) -> list[str]:
        """The prefix expression of ids, up to the first that is negative (padding)."""
        names, tokens = [*self.operators, *self.constants], itertools.takewhile(lambda one: one >= 0, ids)
        return [names[one] if one < len(names) else f"number{one - len(names)}" for one in tokens]


def rare(equations: list[list[str]], least: int) -> set[str]:
    """The constants that ``equations`` have less often than ``least`` times."""
    used = Counter(token for one in equations for token in one if expression.number(token) is not None)
    return {token for token, count in used.items() if count < least}


def build(words: list[list[str]], equations: list[list[str]], counts: list[int], least_count: int) -> Vocabulary:
    """The vocabulary of training problems: their words, equations and numbers of quantities.

    Words that occur less often than ``least_count`` times are left out; equal problems give equal vocabularies, in
    whatever order they come.
    """
    heard = Counter(word for one in words for word in one if word != NUMBER)
    used = {token for one in equations for token in one if expression.index(token) is None}
    operators = used & set(expression.OPERATORS)
    kept = [word for word, count in heard.items() if count >= least_count]
    return Vocabulary(
        [*special, *sorted(kept, key=lambda word: (-heard[word], word))],
        sorted(operators | set(always)),
        sorted(used - operators, key=lambda token: (float(token), token)),
        max(counts, default=0),
    )
