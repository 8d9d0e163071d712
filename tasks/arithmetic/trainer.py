"""Math word problems: trees are learned by teacher forcing, found by beam search, and judged by their answers."""

from collections import Counter
from collections.abc import Set
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from common.training.optimization import OrderByLength
from common.training.trainer import Trainer as Base
from tasks.arithmetic import data, expression, model
from tasks.arithmetic.data import Batch, Problems, Tensors
from tasks.arithmetic.expression import evaluate as value_of
from tasks.arithmetic.expression import same

evaluation = 128  # problems at a time


class Trainer(Base):
    metric = "value_accuracy"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._tensors, self._encode = {}, None

    def load(self) -> data.Data:
        return data.load(self.task, self.run.seed)

    def build(self) -> torch.nn.Module:
        network = model.build(self.task, self.data.vocabulary)
        self._encode = network.embedding.encode
        for split in ("train", "validation", "test"):  # what a pretrained embedding refuses is refused before training
            self.tensors(split)
        return network

    def parameter_groups(self, model: Any) -> list[dict]:
        """The pretrained encoder's rate is a share of run.learning_rate."""
        pretrained = model.embedding.pretrained
        slow = {id(p) for p in pretrained.parameters()} if pretrained is not None else set()
        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if id(p) not in slow], "scale": 1.0},
            {"params": [p for p in trained if id(p) in slow], "scale": self.task.embedding_rate},
        ]
        return [group for group in groups if group["params"]]

    def examples(self) -> int:
        return len(self.data.train)

    def data_order(self, seed: int) -> Any:
        if self.task.pools == 1:
            return super().data_order(seed)
        return OrderByLength(seed, self.data.train.lengths, self.run.batch_size, self.task.pools)

    def tensors(self, split: str) -> Tensors:
        """A split's problems as the model reads them; one and the same where two splits are."""
        problems = getattr(self.data, split)
        if id(problems) not in self._tensors:
            graphs = self.task.quantity_graph if self.task.model == "graph2tree" else None
            self._tensors[id(problems)] = Tensors(problems, self.data.vocabulary, self._encode, graphs)
        return self._tensors[id(problems)]

    def inputs(self, split: str, indices: torch.Tensor) -> Batch:
        """The problems ``indices`` (int64 [batch]) of a split, on the device."""
        return self.tensors(split).batch(indices).to(self.device)

    def batch(self, indices: torch.Tensor, position: int) -> Batch:
        return self.inputs("train", indices)

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        """-log p(tree | problem), mean over problems (Xie and Sun, 2019; the mean of their code is over nodes)."""
        return _surprise(model(*batch), batch.equations).mean()

    @torch.no_grad()
    def evaluate(self, model: Any, split: str) -> dict:
        problems, tensors = getattr(self.data, split), self.tensors(split)
        surprise = torch.zeros(len(problems), dtype=torch.float64)
        trees = torch.full((len(problems), self.task.longest), -1)
        for part in problems.lengths.argsort(stable=True).split(evaluation):
            batch = self.inputs(split, part)
            problem = model.read(*batch[:-1])  # once, for teacher forcing and for the search
            surprise[part] = _surprise(model.decoder(problem, batch.equations), batch.equations).cpu().double()
            trees[part] = model.solve(problem, self.task.beam, self.task.longest).cpu()
        answered = [self.data.vocabulary.decode(tree) for tree in trees.tolist()]
        found: dict[str, float | None] = {**marks(answered, problems, self.data.asked)}
        if split == "test" and self.task.protocol == "published":
            found["value_accuracy_of_last_step"] = self.last_validation  # whose validation split is the same fold
        return {
            "score": found["value_accuracy"],
            "loss": (surprise.sum() / max(1, int(tensors.known.sum()))).item(),  # of the others no tree can be right
            "constant": bool((trees == trees[0]).all()),
            "measurements": found,
        }

    def baseline(self) -> float:
        """The accuracy of the one equation that answers most training problems, given to every test problem."""
        return 100 * _share(_right(self.constant, self.data.test, _wanted(self.data.test)))

    @cached_property
    def constant(self) -> list[str]:
        """The equation that is the answer to most training problems; of several, the one that occurs most often."""
        counts, train = Counter(tuple(equation) for equation in self.data.train.equations), self.data.train
        wanted = _wanted(train)
        best = max(counts.items(), key=lambda one: (sum(_right(list(one[0]), train, wanted)), one[1], one[0]))
        return list(best[0])


def marks(answered: list[list[str]], problems: Problems, asked: Set[tuple[str, ...]] = frozenset()) -> dict[str, float]:
    """What published evaluations count, in percent of ``problems``; ``answered``: a prefix expression for each.

    ``value_accuracy``: the tree has the value of the problem's own equation (Xie and Sun, 2019; to
    ``expression.tolerance``); ``expression_accuracy``: it is that equation once the numbers are put in (published as
    equation accuracy; a number given twice is the same number); ``stated_accuracy``: it has the value that the file
    states, which a few equations miss (rounded or mistaken); ``unanswered``: the tree has no value, as it is
    not complete or divides by zero; ``new_value_accuracy``: of the ``new_problems`` alone, whose words were
    not ``asked`` in training.
    """
    values = [value_of(tree, numbers) for tree, numbers in zip(answered, problems.numbers, strict=True)]
    wanted = _wanted(problems)
    right = [_agree(a, b) for a, b in zip(values, wanted)]
    found, own = (
        [expression.put(tree, numbers) for tree, numbers in zip(trees, problems.numbers, strict=True)]
        for trees in (answered, problems.equations)
    )
    new = [one for one, words in zip(right, problems.words) if tuple(words) not in asked]
    return {
        "value_accuracy": 100 * _share(right),
        "new_value_accuracy": 100 * _share(new),
        "expression_accuracy": 100 * _share(a == b for a, b in zip(found, own)),
        "stated_accuracy": 100 * _share(same(a, b) for a, b in zip(values, problems.answers)),
        "unanswered": 100 * _share(value is None for value in values),
        "problems": len(problems),
        "new_problems": len(new),
    }


def _agree(found: float | None, wanted: float | None) -> bool:
    return wanted is not None and same(found, wanted)


def _wanted(problems: Problems) -> list[float | None]:
    """The value of each problem's own equation."""
    return [value_of(own, numbers) for own, numbers in zip(problems.equations, problems.numbers, strict=True)]


def _right(equation: list[str], problems: Problems, wanted: list[float | None]) -> list[bool]:
    """Which problems, of which these values are ``wanted``, the one ``equation`` answers."""
    return [_agree(value_of(equation, numbers), own) for numbers, own in zip(problems.numbers, wanted, strict=True)]


def _share(found) -> float:
    found = list(found)
    return sum(found) / max(1, len(found))


def _surprise(outputs: torch.Tensor, equations: torch.Tensor) -> torch.Tensor:
    """-log p of each tree, [batch]: ``outputs`` [batch, nodes, outcomes] are logits, ``equations`` -1 where none is."""
    each = cross_entropy(outputs.flatten(0, 1), equations.flatten(), ignore_index=-1, reduction="none")
    return each.view(equations.shape).sum(1)
