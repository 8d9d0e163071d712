"""How amounts, percentages and kinds of warnings are written, for every verb alike."""

import re
from collections import Counter, defaultdict

GRAVE = "scores are too good"  # what every task says of results that are not to be trusted; never left out
# What a warning may say otherwise of every fold and every stage: paths, names of stages, numbers.
OWN = re.compile(r"[^\s()]*/[^\s(),;]*|\b[0-9a-f]{8,}\b|\d+(\.\d+)?")


def amount(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def percent(sparsity: float) -> str:
    """A share of zeros for readers: 67.23%, 99.975%."""
    return f"{100 * sparsity:.2f}%" if sparsity < 0.999 else f"{100 * sparsity:.10g}%"


def kinds(told: list) -> list[tuple[int, str]]:
    """How many stages were told a kind of text in ``told``, and the text; grave kinds first, then by number."""
    texts, stages = defaultdict(Counter), Counter()
    for own in told:
        stages.update({OWN.sub("#", text) for text in own})
        for text in sorted(set(own)):
            texts[OWN.sub("#", text)][text] += 1
    found = []
    for kind, number in sorted(stages.items(), key=lambda item: (GRAVE not in item[0], -item[1], item[0])):
        text = min(texts[kind], key=lambda text: (-texts[kind][text], text))
        others = f" (and {len(texts[kind]) - 1} more with other numbers or paths)" if len(texts[kind]) > 1 else ""
        found.append((number, text + others))
    return found
