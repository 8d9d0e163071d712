"""What a method sees of a stage: model, prunable weights, masks, optimizer, step; and the stage before it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from common import paths, record, seeds
from common import sparsity as sp
from common.sparsity.masks import Tensors
from common.training import memory
from common.training.probes import activations, batch_gradients, mean_gradients, synaptic_flow
from common.training.protocols import AnyTrainer
from common.training.reparametrised import Effective, Reparametrised
from common.training.resume import checkpoint, rewinding


class _Absent:
    """In the place of an attribute until the object gets one of its own."""

    def __init__(self, reason: str):
        self.reason = reason

    def __get__(self, instance: object, owner: type) -> "_Absent":
        if instance is None:
            return self
        raise AttributeError(self.reason)


def _absent(reason: str) -> Any:
    """The default of an attribute that may not be there: asking for it then raises ``AttributeError(reason)``."""
    return _Absent(reason)


class State:
    """Handed to every method call. ``step`` counts finished optimizer steps of ``steps``.

    ``network`` is what the loss calls: the model itself, or what computes its weights, or what makes several processes
    train it together. ``learned``: tensors that a method trains beside the model (``learn``).
    """

    optimizer: torch.optim.Optimizer = _absent("the optimizer is made after attach")
    parent: "Parent" = _absent("this stage starts from no other")
    finished: "Parent" = _absent("this stage is finished once it is measured, not before")  # as later ones will see it

    def __init__(self, trainer: AnyTrainer, model: nn.Module, steps: int, parent: "Parent | None"):
        run = trainer.run
        self.model, self.steps, self.step, self.seed = model, steps, 0, run.seed
        self.network: nn.Module = model
        self.moved = False  # have masks changed since the processes of this stage last compared them?
        asked = model, run.prune_embeddings, (*run.exclude, *trainer.never_prunable(model)), trainer.method.oriented
        self.weights: dict[str, nn.Parameter] = sp.prunable(*asked)
        self.masks = sp.Masks(self.weights)
        self.learned: dict[str, nn.Parameter] = {}
        self._scales: dict[str, float] = {}
        self._effective: Effective | None = None
        self._trainer = trainer
        if parent is not None:
            self.parent = parent

    @property
    def run_steps(self) -> int:
        """Optimizer steps by the run's settings: those of a dense training; ``steps`` are this stage's."""
        return self._trainer.run_steps

    @property
    def splits(self) -> tuple[str, ...]:
        """What ``evaluate`` can be asked for."""
        none = self._trainer.settings["task"].get("validation") == 0
        return ("test",) if none else ("validation", "test")

    @property
    def examples(self) -> int:
        """Number of training examples."""
        return self._trainer.examples()

    def learn(self, name: str, tensor: torch.Tensor, scale: float = 1.0) -> nn.Parameter:
        """A tensor that is trained beside the model and is no part of it; in ``attach`` alone.

        ``tensor``: its starting values, any real dtype; ``scale``: a factor on the learning rate. It gets no weight
        decay. It is in resume points under ``name``, in the check for finite gradients, in the norm that clipping
        measures, and averaged over processes; it is not prunable and never counted. Its value on resume is the saved
        one. ``ValueError``: a name that is taken, or too late.
        """
        if hasattr(self, "optimizer") or name in self.learned:
            what = "the name is taken" if name in self.learned else "the optimizer has been made, call it in attach"
            raise ValueError(f"cannot learn {name}: {what}")
        device = next(self.model.parameters()).device
        self.learned[name] = nn.Parameter(tensor.detach().to(device, copy=True))
        self._scales[name] = scale
        return self.learned[name]

    def reparametrise(self, effective: Effective) -> None:
        """Let training use ``effective()``, weights by name, in the places of the stored ones; in ``attach`` alone.

        It is called once a forward pass in training mode; gradients go through it to the stored weights and to the
        learned tensors it uses. Validation, probes and all that is saved see the stored weights.
        """
        if hasattr(self, "optimizer") or self._effective is not None:
            raise ValueError("reparametrise is called once, in attach")
        self._effective = effective

    def called(self) -> nn.Module:
        """What the loss calls in one process."""
        plain = not self.learned and self._effective is None
        return self.model if plain else Reparametrised(self.model, self.learned, self._effective)

    def learned_groups(self) -> list[dict[str, Any]]:
        """The learned tensors' optimizer groups."""
        return [{"params": [p], "scale": self._scales[n], "weight_decay": 0.0} for n, p in self.learned.items()]

    def parameters(self) -> list[nn.Parameter]:
        """All that has gradients: the model's parameters, then the learned tensors."""
        return [*self.model.parameters(), *self.learned.values()]

    @contextmanager
    def standing_in(self, weights: dict[str, torch.Tensor] | None) -> Iterator[None]:
        """Inside, the model's parameters of these names have these values; afterwards their own, bit for bit."""
        named = dict(self.model.named_parameters(remove_duplicate=False))
        weights = weights or {}
        own = {name: named[name].detach().clone() for name in weights}
        try:
            with torch.no_grad():
                for name, value in weights.items():
                    named[name].copy_(value)
            yield
        finally:
            with torch.no_grad():
                for name, value in own.items():
                    named[name].copy_(value)

    def build(self) -> nn.Module:
        """Another model of this kind, leaving the run's random numbers untouched."""
        return self._trainer.build_seeded("initialisation")

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Set all parameters and buffers."""
        sp.restore(self.model, weights)

    def set_masks(
        self, masks: Tensors, grown_values: Tensors | None = None, correction: Tensors | None = None
    ) -> tuple[int, int]:
        """Change the masks, with the hygiene of ``Masks.update``; returns the numbers of grown and dropped weights.

        ``correction`` (``{name: tensor}`` of the weights' shapes) is added to the weights that live under the new
        masks: the one place for methods that make survivors compensate for what is dropped (OBS; SparseGPT). It is
        computed from the weights as they are before this call. The optimizer's memory of survivors stays.
        ``ValueError`` if it names another tensor or has another shape or a value that is not finite; nothing is
        changed then.
        """
        for name, change in (correction or {}).items():
            if name not in self.weights or change.shape != self.weights[name].shape:
                found = f"{name}{tuple(change.shape)}"
                raise ValueError(f"correction of {found}: no prunable weight of that name and shape")
            if not torch.isfinite(change).all():
                raise ValueError(f"the correction of {name} is not finite")
        if empty := sp.emptied_norms(self.model, self.weights, masks):
            raise ValueError(
                f"{empty[0]} is divided by the norm of each output's weights (weight normalisation), and these masks "
                "leave an output none: prune with method.allocation=rows, or remove the weight normalisation"
            )
        moved = self.masks.update(masks, getattr(self, "optimizer", None), grown_values)
        self.moved = True
        with torch.no_grad():
            for name, change in (correction or {}).items():
                self.weights[name].add_(change.to(self.weights[name]) * self.masks[name])
        return moved

    def agree(self, when: str, weights: bool = False) -> None:
        """Compare masks, and ``weights`` if asked for, with those of the stage's other processes.

        ``Disagreement`` where they differ. Every process must call it at the same step.
        """
        team, self.moved = self._trainer.team, False
        if team.size == 1:
            return
        team.agree(self.masks.checksum(), f"masks {when}")
        if weights:
            learned = {f"learned {name}": parameter for name, parameter in self.learned.items()}
            team.agree(sp.checksum({**dict(self.model.named_parameters()), **learned}), f"weights {when}")

    def gradients(self) -> dict[str, torch.Tensor]:
        """The dense gradients of the prunable weights (zeros where the loss does not reach one)."""
        return {n: torch.zeros_like(w) if w.grad is None else w.grad for n, w in self.weights.items()}

    def sums(self) -> dict[str, list[float]]:
        """Three sums per parameter, enough to see whether it moved without keeping a copy.

        The squares see what leaves the other two alone: biases of two classes that move by opposite amounts.
        """
        values = {name: parameter.detach().double() for name, parameter in self.model.named_parameters()}
        return {n: [v.sum().item(), v.abs().sum().item(), v.square().sum().item()] for n, v in values.items()}

    def free_memory(self) -> int:
        """Bytes that this process can still have on the device that the model is on."""
        return memory.available(self._trainer.device)

    def stream(self, *names: object) -> int:
        """The seed of a named random stream."""
        return seeds.derive(self.seed, *names)

    def starting_weights(self) -> dict[str, torch.Tensor]:
        """What every dense training of this seed starts from: pretrained weights where the task has them."""
        return self._trainer.pretrained_state()

    def initialise(self, *names: str) -> dict[str, torch.Tensor]:
        """Weights of a freshly built model from the random stream ``names``."""
        return sp.snapshot(self._trainer.build_seeded(*names))

    def probe(self, batches: int, magnitudes: bool = False, dropout: bool = False) -> dict[str, torch.Tensor]:
        """Gradients at the current weights, averaged over ``batches`` training batches, leaving the run untouched.

        ``magnitudes``: the average of |g| instead of that of g. Dropout is off unless asked for; batch normalisation
        uses each batch's statistics, its running averages are put back. Batches come from a stream of their own.
        """
        return mean_gradients.gradients(self._trainer, self, batches, magnitudes, dropout)

    def gradients_of(self, batches: Iterable[int]) -> Iterator[dict[str, torch.Tensor]]:
        """The gradient of each training batch by its number, at the current weights, leaving the run untouched.

        Yields the dense gradients of the prunable weights (``{name: float32[shape]}``, of the batch's mean loss), one
        batch at a time. Evaluation mode: dropout is off, batch normalisation uses its running averages. Numbers go
        from 0 on without end, in shuffled passes of a stream that the current step has for itself; the same number at
        the same step is the same batch. The processes of a stage share each batch and all see its gradient.
        """
        return batch_gradients.gradients(self._trainer, self, batches)

    def loss(self, batches: int, masks: dict[str, torch.Tensor] | None = None) -> float:
        """The mean training loss over ``batches`` batches, taken as in ``probe``, leaving the run untouched.

        At the current weights, or at what ``masks`` (``{name: bool}``, all prunable weights) would leave of them.
        """
        return mean_gradients.loss(self._trainer, self, batches, masks)

    def hessian_gradient(self, batches: int, temperature: float = 1.0) -> dict[str, torch.Tensor]:
        """The Hessian of the loss times its gradient at the current weights, over the prunable ones, as they are.

        Both are averages over the same ``batches`` batches, taken as in ``probe`` without dropout; the model's outputs
        are divided by ``temperature``. By differentiating twice: exact, at about four times ``probe``'s cost.
        """
        return mean_gradients.hessian_gradient(self._trainer, self, batches, temperature)

    def activations(self, batches: int) -> dict[str, activations.Inputs]:
        """Norm, mean and variance of what each input of each prunable weight is given, leaving the run untouched.

        Over ``batches`` training batches of a stream of their own, in evaluation mode. ``ValueError``: a weight is not
        one of a linear layer or of a convolution without groups.
        """
        return activations.inputs(self._trainer, self, batches)

    def synaptic_flow(self) -> dict[str, torch.Tensor]:
        """|w dR/dw| as a share of R, for every prunable weight as it is now (masks applied), float64 on its device.

        R is the sum of the outputs of the network with |w| for every parameter, fed with ones (Tanaka et al., NeurIPS
        2020): a layer that all paths cross has scores that add up to 1. The data give one example's
        shape and nothing else. Real inputs are ones; where inputs are tokens, the output of every embedding table is.
        Biases are left out and normalisations are their scale alone, so that R is the paper's product of weights (its
        code keeps |bias| and shifts; at initialisation these are nothing in the networks that it prunes). Memory: a
        copy of the model in double precision and its gradient. ``ValueError``: a weight is no part of such a product.
        """
        return synaptic_flow.scores(self._trainer, self)


def _wrong(weights: Path) -> str:
    """Why a finished stage's weights are not those that training wrote; "" where they are, or were removed."""
    try:
        record.check_weights(weights)
    except FileNotFoundError:
        return ""
    except ValueError as error:
        return str(error)
    return ""


class Parent:
    """The finished stage this one starts from, read from its folder."""

    def __init__(self, folder: Path, trainer: AnyTrainer):
        self.folder, self._trainer = Path(folder), trainer
        self._content: dict[str, Any] = {}

    def _file(self) -> dict[str, Any]:
        if not self._content:
            self._content = self._read(paths.weights(self.folder))
        return self._content

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            record.check_weights(path)
            content = checkpoint.load(path)
        except FileNotFoundError:
            raise RuntimeError(f"{path}, the weights this stage starts from, is gone; {self._remedy()}") from None
        except (checkpoint.DamagedFile, ValueError) as error:
            remedy = self._remedy(str(error))
            raise checkpoint.DamagedFile(f"{error}, and this stage starts from it; {remedy}") from None
        if content["digest"] != self.folder.name:
            wrong = f"{path} belongs to stage {content['digest']}, not to this folder"
            raise RuntimeError(f"{wrong}; {self._remedy(wrong)}")
        return content

    def _remedy(self, reason: str = "") -> str:
        """What helps where its weights are of no use: to train it again, and what it would stumble over as well.

        Their DONE is withdrawn, so that a sweep does so.
        """
        damaged, folder = {self.folder: reason} if reason else {}, self.folder
        with suppress(OSError, yaml.YAMLError):  # what cannot be read is told when it is needed
            while above := record.read_config(folder)["parent"]:
                folder = folder.parent / above
                if wrong := _wrong(paths.weights(folder)):
                    damaged[folder] = wrong
        those = "that stage" if len(damaged) < 2 else f"these stages: {', '.join(one.name for one in damaged)}"
        try:
            for one, why in damaged.items():
                record.withdraw(one, why)
        except OSError:
            marks = ", ".join(str(paths.done(one)) for one in damaged)
            return f"delete {marks} and repeat 'make sweep': it trains {those} again"
        return f"repeat 'make sweep': it trains {those} again"

    def before(self) -> "Parent":
        """The stage that it starts from."""
        return Parent(self.folder.parent / record.read_config(self.folder)["parent"], self._trainer)

    def forget(self) -> None:
        """Give back the memory of its weights; they are read again when asked for."""
        self._content = {}

    def weights(self) -> dict[str, torch.Tensor]:
        """Its final weights and buffers (the last step's, whatever step was selected for scoring)."""
        return self._file()["model"]

    def scored(self) -> dict[str, torch.Tensor]:
        """The weights and buffers that its score was read from: those that selection chose, else the final ones."""
        summary = record.read_json(paths.summary(self.folder))
        if summary["scored_step"] == summary["steps"]:
            return self.weights()
        return self._read(paths.selected(self.folder))["model"]

    def masks(self) -> dict[str, torch.Tensor]:
        """Its final masks, ``{name: bool}``."""
        bits, model = self._file()["masks"]["bits"], self.weights()
        return {name: sp.unpack(packed, model[name].shape) for name, packed in bits.items()}

    def rewound(self, to: str) -> dict[str, torch.Tensor]:
        """The weights of the first stage of this line at step ``to`` of its training, or the pretrained ones."""
        if to == "pretrained":
            return self._trainer.pretrained_state()
        return rewinding.snapshot_of(self._trainer, self.root(), int(to))

    def of_root(self) -> dict[str, torch.Tensor]:
        """The final weights of the first stage of this line."""
        return Parent(self.root(), self._trainer).weights()

    def root(self) -> Path:
        """The folder of the first stage of this line."""
        folder = self.folder
        while (parent := record.read_config(folder)["parent"]) is not None:
            folder = folder.parent / parent
        return folder
