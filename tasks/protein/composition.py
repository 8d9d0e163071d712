"""What a sequence's composition alone predicts: the baseline an encoder must beat.

    python -m tasks.protein.composition dataset=hp-s2c2 data=<folder> fold=0,1,2,3,4,5,6,7,8,9

The shares of the twenty amino acids go into multinomial logistic regression, or ridge regression for temperatures.
The validation split chooses the penalty, the test split is scored once. Whole sequences are counted, or with
``length=128`` (and ``crop=ends``) the residues that an encoder reads with these settings.
"""

import itertools
import statistics
import sys
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from common.errors import UserError
from common.settings import schema
from tasks.protein.alphabet import RESIDUES
from tasks.protein.config import Config, target, validate
from tasks.protein.data import Data, Split, cropped, load
from tasks.protein.trainer import balanced_accuracy, spearman

penalties = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # on the squared weights of standardised shares, beside the mean loss


@dataclass(frozen=True)
class Result:
    """``score`` as the trainer has it (accuracy or Spearman correlation, times 100), a constant's, and more."""

    score: float
    constant: float
    more: dict[str, float]


def measure(data: Data, classifies: bool) -> Result:
    """The baseline on ``data``; deterministic."""
    splits = (data.train, data.validation, data.test)
    if not len(data.validation):
        raise UserError("the baseline's penalty is chosen on a validation split, task.validation is 0")
    inputs = [shares(split) for split in splits]
    mean, deviation = inputs[0].mean(0), inputs[0].std(0).clamp(min=1e-12)
    inputs, targets = [(values - mean) / deviation for values in inputs], [split.targets for split in splits]
    return _classes(*inputs, *targets) if classifies else _temperatures(*inputs, *(t.double() for t in targets))


def shares(split: Split) -> Tensor:
    """float64 [n, 20]: of each sequence, the share of every amino acid, in the order of ``RESIDUES``."""
    counted = [[s.count(letter) / len(s) for letter in RESIDUES] for s in split.sequences]
    return torch.tensor(counted, dtype=torch.float64)


def _classes(train, validation, test, labels, labels_validation, labels_test) -> Result:
    fits = [logistic(train, labels, int(labels.max()) + 1, penalty) for penalty in penalties]
    weights, bias = min(fits, key=lambda fit: _loss(validation @ fit[0] + fit[1], labels_validation))
    predicted = (test @ weights + bias).argmax(1)
    return Result(
        100 * (predicted == labels_test).double().mean().item(),
        100 * (labels_test == labels.bincount().argmax()).double().mean().item(),
        {"balanced_accuracy": balanced_accuracy(predicted, labels_test)},
    )


def _loss(outputs: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy where labels that training never saw count as lost."""
    known = labels < outputs.shape[1]
    return cross_entropy(outputs[known], labels[known]).item() if known.any() else float("inf")


def logistic(inputs: Tensor, labels: Tensor, classes: int, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights float64 [inputs, classes] and bias [classes] that minimise the mean cross-entropy plus
    ``penalty`` times the sum of squared weights, a convex problem, by L-BFGS from zero.
    """
    weights = torch.zeros(inputs.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weights, bias], max_iter=1000, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure():
        solver.zero_grad()
        loss = cross_entropy(inputs @ weights + bias, labels) + penalty * weights.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return weights.detach(), bias.detach()


def ridge(inputs: Tensor, targets: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Weights float64 [inputs] and bias that minimise the mean squared error plus ``penalty`` times squared weights."""
    middle, mean = inputs.mean(0), targets.mean()
    centred = inputs - middle
    square = centred.T @ centred / len(inputs) + penalty * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    weights = torch.linalg.solve(square, centred.T @ (targets - mean) / len(inputs))
    return weights, mean - middle @ weights


def _temperatures(train, validation, test, degrees, degrees_validation, degrees_test) -> Result:
    fits = [ridge(train, degrees, penalty) for penalty in penalties]
    weights, bias = min(fits, key=lambda f: (validation @ f[0] + f[1] - degrees_validation).square().mean().item())
    predicted = test @ weights + bias
    errors = (predicted - degrees_test).abs().mean().item(), (degrees_test - degrees.median()).abs().mean().item()
    return Result(100 * spearman(predicted, degrees_test), 0.0, {"mae": errors[0], "mae_of_median": errors[1]})


def _configs(words: list[str]) -> list[tuple[Config, int]]:
    """The task's configurations, and run seeds, that ``key=value,value`` words name."""
    kinds, axes = {**schema.types(Config), "seed": int}, dict[str, list](seed=[0])
    for word in words:
        key, _, values = word.partition("=")
        key = key.removeprefix("task.").removeprefix("run.")
        if key not in kinds or not values:
            raise UserError(f"{word!r}: expected name=value with one of {', '.join(kinds)}")
        try:
            split = [values] if kinds[key] is not int else values.split(",")
            axes[key] = [schema.parse(value, kinds[key]) for value in split]
        except ValueError as problem:
            raise UserError(f"{key}: expected {problem}, found {values!r}") from None
    found = []
    for combination in itertools.product(*axes.values()):
        settings = dict(zip(axes, combination))
        seed = settings.pop("seed")
        found.append((Config(**settings), seed))
    complaints = [text for chosen, _ in found for text in schema.complaints("task", chosen) + validate(chosen)]
    if complaints:
        raise UserError("\n".join(dict.fromkeys(complaints)))
    return found


def _read(data: Data, chosen: Config) -> Data:
    """What an encoder reads of the sequences with ``length`` and ``crop``."""
    parts = (data.train, data.validation, data.test)
    train, validation, test = (cropped(part, chosen.length or None, chosen.crop)[0] for part in parts)
    return replace(data, train=train, validation=validation, test=test)


def main(words: list[str]) -> int:
    """Print a line per fold and their mean; 2 when the request cannot work."""
    try:
        results = []
        for chosen, seed in _configs(words):
            classifies = target(chosen) == "class"
            found = measure(_read(load(chosen, seed), chosen), classifies)
            results.append(found)
            more = ", ".join(f"{name} {value:.2f}" for name, value in found.more.items())
            metric = "accuracy" if classifies else "spearman"
            fold = f"seed {seed}" if chosen.fold == -1 else f"fold {chosen.fold}"
            print(f"{chosen.dataset} {fold}: {metric} {found.score:.2f}, of a constant {found.constant:.2f}, {more}")
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    if len(results) > 1:
        for name in ("score", "constant", *results[0].more):
            values = [r.more[name] if name in r.more else getattr(r, name) for r in results]
            print(f"{name}: {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} over {len(values)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
