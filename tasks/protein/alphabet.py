"""From letters of amino acids to a model's tokens. No torch in here."""

from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError

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

    def encode(self, sequence: str) -> list[int]:
        """Tokens of ``sequence`` with the special ones around it; ``KeyError`` for a letter that has none."""
        before = [] if self.first is None else [self.first]
        after = [] if self.last is None else [self.last]
        return before + [self.tokens[letter] for letter in sequence] + after


def of_vocabulary(
    vocabulary: dict[str, int], special: tuple[str, ...], size: int | None, origin: Path | str
) -> Alphabet:
    """The alphabet of ``vocabulary`` (token -> number) of a network with ``size`` embeddings (None: not known).

    ``special``: the names of padding, unknown, first and last. Letters beyond the twenty residues that it does not have
    read as unknown. UserError, naming ``origin``, where it lacks one of these or of the twenty, where two of them have
    one number, and where there are more numbers than embeddings.
    """
    needed = [*special, *RESIDUES]
    if missing := [token for token in needed if token not in vocabulary]:
        raise UserError(
            f"{origin}: expected a token for each of {' '.join(special)} and of the twenty residues ({RESIDUES}, in "
            f"capitals), found none for {' '.join(missing)}: is it another model's? Fetch it once more"
        )
    owner: dict[int, str] = {}
    for token in needed:
        if (other := owner.setdefault(vocabulary[token], token)) != token:
            found = f"{vocabulary[token]} for {other}, {token}"
            raise UserError(f"{origin}: expected a number for each token, found {found}")
    if size is not None and max(vocabulary.values()) >= size:
        raise UserError(
            f"{origin}: numbers its tokens up to {max(vocabulary.values())}, expected {size - 1} at most, as the "
            f"network has {size} embeddings: they do not belong together; fetch both once more"
        )
    padding, unknown, first, last = (vocabulary[name] for name in special)
    tokens = {letter: vocabulary.get(letter, unknown) for letter in LETTERS}
    return Alphabet(tokens, padding, first, last)


def plain() -> Alphabet:
    """For models trained from scratch: padding 0, then every letter a file may hold; no special tokens."""
    return Alphabet({letter: index for index, letter in enumerate(LETTERS, start=1)}, padding=0)
