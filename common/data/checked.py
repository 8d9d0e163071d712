"""What a task says of its data, before anything is trained on them. No torch."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Checked(NamedTuple):
    """``fingerprint``: the data's checksum (SHA-256, hexadecimal). ``remarks``: a sentence for everything that the
    reader went on with, such as rows left out, leaks, and files that are not the published ones. ``sizes``: training
    examples of each fold asked for; none where the task does not say.
    """

    fingerprint: str
    remarks: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    def examples(self, seed: int) -> int | None:
        """How many examples a stage of this seed trains on; None where its task does not say."""
        return self.sizes[seed % len(self.sizes)] if self.sizes else None


def of_folds(fingerprint: str, folds: Mapping[int, Any], size: Callable[[Any], int]) -> Checked:
    """What there is to say of ``folds``, which have ``warnings`` each; ``size``: the training examples of one."""
    named = [(f"fold {number}: " * (len(folds) > 1), fold) for number, fold in folds.items()]
    remarks = tuple(f"{name}{text}" for name, fold in named for text in fold.warnings)
    return Checked(fingerprint, remarks, tuple(size(fold) for fold in folds.values()))
