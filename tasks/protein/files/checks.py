"""What is suspicious in examples of which every line can be read: warned of, or refused. No torch."""

import numpy as np

from common.errors import UserError
from tasks.protein.config import Config, limits, structure_models, target
from tasks.protein.files.fasta_csv_pickle import Entry

TRAIN, VALIDATION, TEST = range(3)


def temperatures(entries: list[Entry]) -> list[str]:
    """Sentences where the file had more than one column of temperatures, or where all look like something else."""
    found = []
    beside = {(entry.column, ", ".join(entry.beside)) for entry in entries if entry.beside}
    for column, others in sorted(beside):
        found.append(f"the temperatures are those of the column {column}; the file has also {others}")
    degrees = [float(entry.value) for entry in entries if entry.value]
    whole = all(value.is_integer() for value in degrees)
    top = 10 if whole else 1  # labels of any number of classes a data set here may have
    if degrees and min(degrees) >= 0 and max(degrees) <= top:
        how = "are whole numbers" if whole else "lie"
        found.append(
            f"all {len(degrees)} temperatures {how} between 0 and {top}: they look like classes or scaled values, and "
            f"are read as degrees Celsius (first {entries[0].where})"
        )
    return found


def names(config: Config, entries: list[Entry]) -> list[str]:
    """A sentence where different sequences have one name; UserError for a model that finds structures by it."""
    first: dict[str, Entry] = {}
    again = [e for e in entries if e.name and first.setdefault(e.name, e).sequence != e.sequence]
    if not again:
        return []
    one, have = again[0], "s have" if len(again) > 1 else " has"
    where = f"first {one.where}: {one.name}, as {first[one.name].where}"
    text = f"{len(again)} sequence{have} the name of another sequence ({where})"
    if config.model in structure_models:
        raise UserError(
            f"{text}; expected a name for each, as task.model={config.model} finds structures by it. Rename them, or "
            "choose a model that reads sequences alone (task.model)"
        )
    return [text]


def variety(config: Config, entries: list[Entry], targets: np.ndarray, parts: np.ndarray) -> None:
    """UserError where every training target is the same: nothing can be learned, and the file may not hold degrees."""
    chosen = np.flatnonzero(parts == TRAIN)
    if (targets[chosen] != targets[chosen[0]]).any():
        return
    texts = [entries[i].value for i in chosen if entries[i].value]
    seen = f", the temperatures lie between {min(texts, key=float)} and {max(texts, key=float)}" if texts else ""
    if target(config) == "class":
        bounds = ", ".join(f"{limit:g}" for limit in limits(config))
        what = f"are of class {targets[chosen[0]]:.0f}{seen}"
        expected = f"at least two classes; they are divided at {bounds} degrees Celsius"
    else:
        what, expected = f"have the temperature {targets[chosen[0]]:g}", "at least two temperatures in degrees Celsius"
    raise UserError(
        f"{entries[chosen[0]].where}: all {len(chosen)} training sequences {what}; expected {expected}. Are these "
        "temperatures, and not classes or scaled values?"
    )


def leaks(entries: list[Entry], parts: np.ndarray) -> list[str]:
    """A sentence each where sequences of the test set are also among those for training, or for validation."""
    found = []
    for part, name in ((TRAIN, "training"), (VALIDATION, "validation")):
        seen = {entry.sequence: entry for entry, own in zip(entries, parts) if own == part}
        both = [entry for entry, own in zip(entries, parts) if own == TEST and entry.sequence in seen]
        if both:
            found.append(
                f"{len(both)} of {int((parts == TEST).sum())} test sequences are also among the {name} sequences: "
                f"scores are too good (first {both[0].where}, which is {seen[both[0].sequence].where})"
            )
    return found
