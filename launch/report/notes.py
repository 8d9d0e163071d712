"""What the tables of a report do not show: what is not finished, what has not moved, what stages were warned of."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from launch.runs.records import Record
from launch.wording import GRAVE, amount, be, kinds, some

MORE = 1e-3  # of the prunable weights: fewer living zeros are not worth a word
NAMES = 5  # stages or tensors that are named of one kind


def notes(shown: list[Record], old: int = 0, most: int | None = None) -> list[str]:
    """A sentence each. ``old``: finished stages of earlier versions; ``most``: kinds of warnings, beside grave ones."""
    found = []
    if states := Counter(stage.state for stage in shown if stage.state != "done"):
        counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        found.append(f"stages that are not finished and not in these tables: {counts} (`make status` names them)")
    if old:
        found.append(
            f"{amount(old, 'finished stage')} {be(old)} of earlier versions of the code, which "
            "gave other results: left out (`make sweep` trains what is wanted of them again)"
        )
    done = {stage.digest: stage.summary for stage in shown if stage.state == "done" and stage.summary}
    unmoved: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for digest, summary in done.items():
        if summary.get("unmoved"):
            unmoved[tuple(summary["unmoved"])].append(digest[:8])
    for tensors, digests in sorted(unmoved.items()):
        never = f"in which trainable tensors never moved: {some(tensors, NAMES)} (`unmoved` in summary.json)"
        found.append(f"{amount(len(digests), 'stage')} {never}, {some(digests, NAMES)}")
    found += warnings([summary.get("warnings") or () for summary in done.values()], most)
    more = [digest[:8] for digest, summary in done.items() if summary.get("zeros", 0.0) > summary["sparsity"] + MORE]
    if more:
        found.append(
            f"{amount(len(more), 'stage')} with more zeros than their masks prune (`zeros`): weights that live and are "
            f"zero, such as those grown where no gradient comes: {some(more, NAMES)}"
        )
    return found


def warnings(texts: Iterable[Iterable[str]], most: int | None = None) -> list[str]:
    """A sentence for every kind of warning in ``texts``, those of each stage: grave kinds first, then by number."""
    every = [
        (f"{amount(number, 'stage')} went on with a warning: {text}", GRAVE in text) for number, text in kinds(texts)
    ]
    found = [text for i, (text, grave) in enumerate(every) if most is None or i < most or grave]
    left = len(every) - len(found)
    return found + [f"{amount(left, 'more kind')} of warnings: results.md has all"] * bool(left)
