"""Thermostability: classes by cross-entropy and accuracy, or temperatures by squared error and rank correlation."""

from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import cross_entropy, mse_loss

from common.errors import UserError
from common.training.optimization import OrderByLength
from common.training.trainer import Trainer as Base
from tasks.protein import data, model
from tasks.protein.config import structure_models, target
from tasks.protein.data import Tokens, coordinates, cropped, numbers, unresolved

evaluation = 16_384  # tokens at a time, padding included


class Trainer(Base):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.classifies = target(self.task) == "class"
        self.metric = "accuracy" if self.classifies else "spearman"
        self._tokens, self.cropped = {}, {}

    def load(self) -> data.Data:
        return data.load(self.task, self.run.seed)

    def build(self) -> torch.nn.Module:
        network = model.build(self.task)
        self.alphabet, limit = network.backbone.alphabet, network.backbone.limit
        asked = self.task.length or None
        if asked and limit and asked > limit:
            raise UserError(f"task.length is {asked}; {self.task.model} takes {limit} residues at most")
        if self.task.pooling == "first" and self.alphabet.first is None:
            raise UserError(f"task.pooling=first needs a special token first; {self.task.model} has none")
        usual = [most for most in (limit, getattr(network.backbone, "usual", None)) if most]
        self.length: int | None = asked or min(usual, default=None)
        return network

    def never_prunable(self, model: Any) -> tuple[str, ...]:
        """Embeddings and geometry of the models that read structures."""
        return tuple(f"backbone.{pattern}" for pattern in getattr(model.backbone, "exclude", ()))

    def parameter_groups(self, model: Any) -> list[dict]:
        """The head's rate is run.learning_rate; the backbone's a share of it."""
        return [
            {"params": [p for p in part.parameters() if p.requires_grad], "scale": scale}
            for part, scale in ((model.head, 1.0), (model.backbone, self.task.backbone_rate))
        ]

    def examples(self) -> int:
        return len(self.data.train)

    def data_order(self, seed: int) -> Any:
        if self.task.pools == 1:
            return super().data_order(seed)
        return OrderByLength(seed, self.tokens("train").lengths, self.run.batch_size, self.task.pools)

    def tokens(self, split: str) -> Tokens:
        """A split's sequences as the model reads them."""
        if split not in self._tokens:
            kept, self.cropped[split] = cropped(getattr(self.data, split), self.length, self.task.crop)
            self._tokens[split] = Tokens(kept, self.alphabet)
        return self._tokens[split]

    def inputs(self, split: str, indices: torch.Tensor) -> list[torch.Tensor]:
        """What the model takes, on the device."""
        found = list(self.tokens(split).batch(indices))
        if self.task.model in structure_models:
            atoms_of = self.atoms[split]
            atoms = torch.full((*found[0].shape, 3, 3), torch.nan)
            for row, index in enumerate(indices.tolist()):
                known = torch.from_numpy(atoms_of[index])
                atoms[row, : len(known)] = known
            full, longest = getattr(self.data, split), atoms.shape[1]
            found += [atoms, numbers(full, indices, longest, self.length, self.task.crop, self.alphabet)]
        return [values.to(self.device) for values in found]

    @cached_property
    def atoms(self) -> dict[str, list]:
        """Of each split what ``coordinates`` gives. All are read at once: a bad file is not to end a whole training."""
        parts = {name: getattr(self.data, name) for name in ("train", "validation", "test")}
        return {name: coordinates(self.task, part, self.length, self.alphabet) for name, part in parts.items()}

    def batch(self, indices: torch.Tensor, position: int) -> tuple:
        return self.inputs("train", indices), self.targets("train")[indices].to(self.device)

    def targets(self, split: str) -> torch.Tensor:
        """Classes, or degrees brought to mean 0 and deviation 1 by those of the training set."""
        values = getattr(self.data, split).targets
        if self.classifies:
            return values
        mean, deviation = self.scale
        return ((values.double() - mean) / deviation).float()

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Mean and deviation of the training set's temperatures, in degrees."""
        values = self.data.train.targets.double()
        return values.mean().item(), values.std().item() or 1.0

    def loss(self, model: Any, batch: tuple) -> torch.Tensor:
        inputs, targets = batch
        outputs = model(*inputs)
        return cross_entropy(outputs, targets) if self.classifies else mse_loss(outputs[:, 0], targets)

    @torch.no_grad()
    def evaluate(self, model: Any, split: str) -> dict:
        outputs = self._outputs(model, split).double()
        targets, found = self.targets(split), getattr(self.data, split)
        counts = {"sequences": len(found), "cropped": self.cropped[split]}
        if self.task.model in structure_models:
            counts["unresolved"] = unresolved(self.atoms[split], self.tokens(split).residues)
        answered = outputs.isfinite().all(1)  # what is not finite is no answer, and a model that gives it has collapsed
        if self.classifies:
            predicted = outputs.argmax(1).masked_fill(~answered, -1)
            score, loss = (predicted == targets).double().mean().item(), cross_entropy(outputs, targets)
            own = {"balanced_accuracy": balanced_accuracy(predicted, targets)}
        else:
            predicted = outputs[:, 0]
            score = spearman(predicted, targets) if answered.all() else 0.0
            loss, error = mse_loss(predicted, targets.double()), (predicted - targets).abs().mean().item()
            median = self.data.train.targets.double().median()  # the best constant answer, in degrees as the next
            of_median = (found.targets - median).abs().mean().item()
            own = {"spearman": score, "mae": self.scale[1] * error, "mae_of_median": of_median}
        constant = bool((predicted == predicted[0]).all() or not answered.all())
        return {"score": 100 * score, "loss": loss.item(), "constant": constant, "measurements": {**own, **counts}}

    def _outputs(self, model, split: str) -> torch.Tensor:
        """float32 [n, outputs] in the split's order, computed on batches of like length."""
        lengths = self.tokens(split).lengths
        order, found, start = lengths.argsort(stable=True), [], 0
        while start < len(order):
            most = max(1, evaluation // int(lengths[order[start]]))  # as many as would fit, were none longer
            longest = int(lengths[order[start : start + most][-1]])
            part = order[start : start + max(1, evaluation // longest)]
            found.append(model(*self.inputs(split, part)).float().cpu())
            start += len(part)
        outputs = torch.cat(found)
        return torch.empty_like(outputs).index_copy_(0, order, outputs)

    def baseline(self) -> float:
        """The majority class's accuracy; no constant orders anything, so its rank correlation is 0."""
        if not self.classifies:
            return 0.0
        majority = self.data.train.targets.bincount().argmax()
        return 100 * (self.data.test.targets == majority).double().mean().item()


def balanced_accuracy(predicted: torch.Tensor, targets: torch.Tensor) -> float:
    """Percent: the mean over the classes that occur of the share of each that is found."""
    found = [(predicted[targets == k] == k).double().mean().item() for k in targets.unique()]
    return 100 * sum(found) / len(found)


def spearman(first: torch.Tensor, second: torch.Tensor) -> float:
    """Spearman's rank correlation of two vectors, equal values at their mean rank; 0 where one of them is constant."""
    first, second = (ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    size = (first.square().sum() * second.square().sum()).sqrt()
    return (first @ second / size).item() if size > 0 else 0.0


def ranks(values: torch.Tensor) -> torch.Tensor:
    """float64: 1 for the smallest, the mean of the places that equal values share."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[inverse]
