"""From letters of amino acids to a model's tokens. Standard library only."""

from dataclasses import dataclass

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"  # the twenty, in the order in which composition counts them
LETTERS = RESIDUES + "XBZJUO"  # what a file may hold: also unknown, two ambiguous pairs, I or L, and two rare ones


@dataclass(frozen=True)
class Alphabet:
    """A model's vocabulary. ``tokens``: one-letter code -> token.

    ``padding`` fills sequences up to the longest of a batch; ``first`` and ``last`` are the special tokens that the
    model wants around a sequence, None where it wants none.
    """

    tokens: dict[str, int]
    padding: int
    first: int | None = None
    last: int | None = None

    @property
    def letters(self) -> set[str]:
        return set(self.tokens)

    def encode(self, sequence: str) -> list[int]:
        """Tokens of ``sequence`` with the special ones around it; ``KeyError`` for a letter outside ``letters``."""
        before = [] if self.first is None else [self.first]
        after = [] if self.last is None else [self.last]
        return before + [self.tokens[letter] for letter in sequence] + after


def plain() -> Alphabet:
    """For models trained from scratch: padding 0, then every letter a file may hold; no special tokens."""
    return Alphabet({letter: index for index, letter in enumerate(LETTERS, start=1)}, padding=0)
