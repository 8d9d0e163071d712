"""What the tables of a report do not show: what is not finished, what has not moved, what stages were warned of."""

from collections import Counter, defaultdict

from launch.runs.records import Record
from launch.runs.wording import GRAVE, amount, kinds

MORE = 1e-3  # of the prunable weights: fewer living zeros are not worth a word
NAMES = 5  # stages or tensors that are named of one kind


def notes(shown: list[Record], old: int = 0, most: int | None = None) -> list[str]:
    """A sentence each. ``old``: finished stages of earlier versions; ``most``: kinds of warnings, beside grave ones."""
    found = []
    states = Counter(stage.state for stage in shown if stage.state != "done")
    if states:
        counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        found.append(f"stages that are not finished and not in these tables: {counts} (`make status` names them)")
    if old:
        found.append(
            f"{amount(old, 'finished stage')} {'is' if old == 1 else 'are'} of earlier versions of the code, which "
            "gave other results: left out (`make sweep` trains what is wanted of them again)"
        )
    done = [stage for stage in shown if stage.state == "done"]
    unmoved = defaultdict(list)
    for stage in done:
        unmoved[tuple(stage.summary.get("unmoved") or ())].append(stage.digest)
    for tensors, digests in sorted(unmoved.items()):
        if tensors:
            never = f"in which trainable tensors never moved: {_some(tensors)} (`unmoved` in summary.json)"
            found.append(f"{amount(len(digests), 'stage')} {never}, {_some([digest[:8] for digest in digests])}")
    found += warnings([stage.summary.get("warnings") or () for stage in done], most)
    more = [s.digest[:8] for s in done if s.summary.get("zeros", 0.0) > s.summary["sparsity"] + MORE]
    if more:
        found.append(
            f"{amount(len(more), 'stage')} with more zeros than their masks prune (`zeros`): weights that live and are "
            f"zero, such as those grown where no gradient comes: {_some(more)}"
        )
    return found


def warnings(told: list, most: int | None = None) -> list[str]:
    """A sentence for every kind of warning in ``told``, the texts of each stage: grave kinds first, then by number.

    Those that differ in paths and numbers alone are one kind, told by the first text of most stages.
    """
    found, left = [], 0
    for number, text in kinds(told):
        if most is not None and len(found) >= most and GRAVE not in text:
            left += 1
        else:
            found.append(f"{amount(number, 'stage')} went on with a warning: {text}")
    return found + [f"{amount(left, 'more kind')} of warnings: results.md has all"] * bool(left)


def _some(names) -> str:
    return ", ".join(names[:NAMES]) + (f" and {len(names) - NAMES} more" if len(names) > NAMES else "")
