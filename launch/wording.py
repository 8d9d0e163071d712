"""How amounts, percentages, ranges, lists and kinds of warnings are written, for every verb alike."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

GRAVE = "scores are too good"  # what every task says of results that are not to be trusted; never left out
# What a warning may say otherwise of every fold and every stage: paths, names of stages, numbers.
OWN = re.compile(r"[^\s()]*/[^\s(),;]*|\b[0-9a-f]{8,}\b|\d+(\.\d+)?")


def amount(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def percent(sparsity: float) -> str:
    """A share of zeros for readers: 67.23%, 99.975%."""
    return f"{100 * sparsity:.2f}%" if sparsity < 0.999 else f"{100 * sparsity:.10g}%"


def level(sparsity: float, digits: int = 4) -> str:
    """A share of zeros in so many digits, and in as many as it has where these would say 1: 0.8926, 0.999999."""
    short = f"{sparsity:.{digits}g}"
    return short if float(short) < 1 or sparsity == 1 else f"{sparsity:.10g}"


def be(number: int) -> str:
    """The verb of so many: ``is`` or ``are``."""
    return "is" if number == 1 else "are"


def some(names: Sequence[str], most: int, between: str = ", ") -> str:
    """The first of several names: ``a, b and 3 more``."""
    return between.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def listed(lines: Sequence[str], most: int, rest: str = "") -> list[str]:
    """The first of several lines, indented, and how many there are besides; ``rest``: what to say of these."""
    more = [f"  and {len(lines) - most} more{rest}"] if len(lines) > most else []
    return [*(f"  {line}" for line in lines[:most]), *more]


def ranges(numbers: Iterable[int]) -> str:
    """``0-4, 7``: whole numbers, each once; from three in a row on as a range."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def span(ends: Sequence[str], between: str = " to ") -> str:
    """The least and the most, as they are written, or the one they both are: ``20 to 40``."""
    return between.join(dict.fromkeys((ends[0], ends[-1]))) if ends else ""


def kinds(texts: Iterable[Iterable[str]]) -> list[tuple[int, str]]:
    """For every kind of text how many stages have one, and an example; grave kinds first, then by number.

    ``texts``: those of each stage. Texts that differ in numbers and paths alone are of one kind.
    """
    examples: dict[str, Counter[str]] = defaultdict(Counter)
    stages: Counter[str] = Counter()
    for several in map(set, texts):
        stages.update({OWN.sub("#", text) for text in several})
        for text in sorted(several):
            examples[OWN.sub("#", text)][text] += 1
    found = []
    for kind, number in sorted(stages.items(), key=lambda item: (GRAVE not in item[0], -item[1], item[0])):
        alike = examples[kind]
        text = min(alike, key=lambda text: (-alike[text], text))
        others = f" (and {len(alike) - 1} more with other numbers or paths)" if len(alike) > 1 else ""
        found.append((number, text + others))
    return found
