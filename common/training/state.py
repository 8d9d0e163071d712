"""What a method sees of a stage: model, prunable weights, masks, optimizer, step; and the stage before it."""

from pathlib import Path

import torch
from torch import nn

from common import paths, record, seeds
from common import sparsity as sp
from common.training import checkpoint, probing, rewinding


class State:
    """Handed to every method call. ``step`` counts finished optimizer steps of ``steps``.

    ``network`` is what the loss calls: the model itself, or what makes several processes train it together.
    """

    def __init__(self, trainer, model: nn.Module, steps: int, parent: "Parent | None"):
        run = trainer.run
        self.model, self.steps, self.step, self.seed = model, steps, 0, run.seed
        self.network: nn.Module = model
        self.moved = False  # have masks changed since the processes of this stage last compared them?
        self.weights = sp.prunable(model, embeddings=run.prune_embeddings, exclude=tuple(run.exclude))
        self.masks = sp.Masks(self.weights)
        self.optimizer = None
        self.parent = parent
        self._trainer = trainer

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Set all parameters and buffers."""
        sp.restore(self.model, weights)

    def set_masks(self, masks: dict[str, torch.Tensor], grown_values=None) -> tuple[int, int]:
        """Change the masks, with the hygiene of ``Masks.update``; returns the numbers of grown and dropped weights."""
        self.moved = True
        return self.masks.update(masks, self.optimizer, grown_values)

    def agree(self, when: str, weights: bool = False) -> None:
        """Compare masks, and ``weights`` if asked for, with those of the stage's other processes.

        ``Disagreement`` where they differ. Every process must call it at the same step.
        """
        team, self.moved = self._trainer.team, False
        if team.size == 1:
            return
        team.agree(self.masks.checksum(), f"masks {when}")
        if weights:
            team.agree(sp.checksum(dict(self.model.named_parameters())), f"weights {when}")

    def gradients(self) -> dict[str, torch.Tensor]:
        """The dense gradients of the prunable weights (zeros where the loss does not reach one)."""
        return {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in self.weights.items()}

    def sums(self) -> dict[str, list[float]]:
        """Two sums a parameter, enough to see whether it moved without keeping a copy."""
        values = {name: parameter.detach().double() for name, parameter in self.model.named_parameters()}
        return {name: [value.sum().item(), value.abs().sum().item()] for name, value in values.items()}

    def stream(self, *names) -> int:
        """The seed of a named random stream."""
        return seeds.derive(self.seed, *names)

    def initialise(self, *names) -> dict[str, torch.Tensor]:
        """Weights of a freshly built model from the random stream ``names``."""
        return sp.snapshot(self._trainer.build_seeded(*names))

    def probe(self, batches: int, magnitudes: bool = False, dropout: bool = False) -> dict[str, torch.Tensor]:
        """Gradients at the current weights, averaged over ``batches`` training batches, leaving the run untouched.

        ``magnitudes``: the average of |g| instead of that of g. Dropout is off unless asked for; batch normalisation
        uses each batch's statistics, its running averages are put back. Batches come from a stream of their own.
        """
        return probing.gradients(self._trainer, self, batches, magnitudes, dropout)


class Parent:
    """The finished stage this one starts from, read from its folder."""

    def __init__(self, folder: Path, trainer):
        self.folder, self._trainer = Path(folder), trainer
        self._content = None

    def _file(self) -> dict:
        if self._content is None:
            path = paths.weights(self.folder)
            remedy = f"delete {paths.done(self.folder)} and repeat 'make sweep': that stage is then trained again"
            try:
                content = checkpoint.load(path)
            except FileNotFoundError:
                raise RuntimeError(f"{path}, the weights this stage starts from, is gone; {remedy}") from None
            except checkpoint.DamagedFile as error:
                raise checkpoint.DamagedFile(f"{error}, and this stage starts from it; {remedy}") from None
            if content["digest"] != self.folder.name:
                raise RuntimeError(f"{path} belongs to stage {content['digest']}, not to this folder; {remedy}")
            self._content = content
        return self._content

    def forget(self) -> None:
        """Give back the memory of its weights; they are read again when asked for."""
        self._content = None

    def weights(self) -> dict[str, torch.Tensor]:
        """Its final weights and buffers (the last step's, whatever step was selected for scoring)."""
        return self._file()["model"]

    def masks(self) -> dict[str, torch.Tensor]:
        """Its final masks, ``{name: bool}``."""
        bits, model = self._file()["masks"]["bits"], self.weights()
        return {name: sp.unpack(packed, model[name].shape) for name, packed in bits.items()}

    def rewound(self, to: str) -> dict[str, torch.Tensor]:
        """The weights of the first stage of this line at step ``to`` of its training, or the pretrained ones."""
        if to == "pretrained":
            return self._trainer.pretrained_state()
        return rewinding.snapshot_of(self._trainer, self.root(), int(to))

    def root(self) -> Path:
        folder = self.folder
        while (parent := record.read_config(folder)["parent"]) is not None:
            folder = folder.parent / parent
        return folder
