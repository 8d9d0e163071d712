"""Which weights may be pruned: one declared set, the same for every method, tied tensors once."""

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from common.sparsity.masks import Tensors

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_TABLES = (nn.Embedding, nn.EmbeddingBag)
_NORMALISATION = (nn.LayerNorm, nn.RMSNorm)  # the ones whose scales may have two or more dimensions
# Parametrisations under which a zero that is stored is a zero that computes: w divided by its spectral norm, and
# w divided by its norm times a scale.
_KEEP_ZEROS = (parametrizations._SpectralNorm, parametrizations._WeightNorm)


# Parameters of torch's own layers, also under weight and spectral normalisation and its module for pruning.
_TOLD = re.compile(
    r"(weight|bias|in_proj_(weight|bias)|[qkv]_proj_weight|bias_[kv]|(weight|bias)_([ih]h|hr)(_l\d+(_reverse)?)?)(_orig|_[gv])?"
)


class Weights(dict[str, nn.Parameter]):
    """Prunable weights by name, which know the model they are of."""

    def __init__(self, model: nn.Module, chosen: Mapping[str, nn.Parameter]) -> None:
        super().__init__(chosen)
        self._model, self._transposed = model, _transposed(model, chosen)
        names = {id(weight): name for name, weight in chosen.items()}
        self._places = {
            names[id(parameter)]: (module, attribute)
            for module in model.modules()
            for attribute, parameter in module.named_parameters(recurse=False)
            if id(parameter) in names
        }

    def check(self) -> None:
        """``ValueError`` where the model has another tensor by now: masks would zero one that nobody computes with."""
        there = set(map(id, self._model.modules()))
        for name, (module, attribute) in self._places.items():
            if module._parameters.get(attribute) is not self[name] or id(module) not in there:
                raise ValueError(
                    f"{name} was replaced in the model (load_state_dict(assign=True), or an assignment) after it was "
                    "declared prunable: call prunable again, and make the masks and the optimizer anew"
                )

    def check_oriented(self) -> None:
        """``ValueError`` where inputs and outputs of a weight are not on the axes where others have them."""
        if self._transposed:
            raise ValueError(
                f"{self._transposed[0]} is of a transposed convolution, whose first axis are inputs: rows, blocks and "
                "N:M are not defined there; exclude it"
            )


def prunable(
    model: nn.Module, embeddings: bool = False, exclude: Sequence[str] = (), oriented: bool = False
) -> Weights:
    """The matrices and kernels that multiply inputs, by name, in definition order.

    These are parameters of two or more dimensions. Never in the set are normalisation (the scales of weight
    normalisation among it), biases (``bias_k`` and ``bias_v`` of attention among them) and what is frozen
    (``requires_grad=False``), since no method could train what it leaves of it. A parameter that a module outside of
    ``torch.nn`` holds itself does not say what it is used for: it is in the set if two or more of its dimensions are
    larger than 1, as those of a table of positions are, and those of a class token or of a bias of shape (1, C, 1, 1)
    are not; ``bare`` lists these parameters. Embedding tables are in it only on request; a matrix tied to an embedding
    follows the embedding. ``exclude`` holds shell-style patterns of names (a tied parameter goes by any of its names).

    ``oriented``: structures along inputs or outputs are wanted, which transposed convolutions, whose first axis are
    the inputs, do not have where others do.

    A model that was compiled, or that trains in several processes, is known by its own names (see ``unwrapped``).

    ``ValueError``: a pattern that matches nothing; parameters that share memory; parametrisations under which zeros do
    not last (``orthogonal``); uninitialised (lazy), complex or sparse-gradient weights; tensors that do not hold all
    their numbers themselves (sharded, quantised, sparse); with ``oriented``, transposed convolutions; nothing to prune.
    """
    model = unwrapped(model)
    left_out = _dense(model, embeddings, exclude)
    _refuse_shared_memory(model)
    chosen = {
        name: parameter  # a tied parameter is listed once, under its first name
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and parameter.numel() > 0 and id(parameter) not in left_out
    }
    if not chosen and exclude:
        raise ValueError(f"the model has no prunable weights left: {', '.join(map(repr, exclude))} leaves all dense")
    if not chosen:
        raise ValueError("the model has no prunable weights (no parameter of two or more dimensions)")
    _refuse(model, chosen)
    weights = Weights(model, chosen)
    if oriented:
        weights.check_oriented()
    return weights


def reasons(model: nn.Module, embeddings: bool = False, exclude: Sequence[str] = ()) -> dict[str, str]:
    """Why each parameter of two or more dimensions is dense, "" for what ``prunable`` takes; by name, tied ones once.

    ``ValueError`` as by ``prunable`` for patterns that match nothing and for lazy parameters.
    """
    model = unwrapped(model)
    dense = _dense(model, embeddings, exclude)
    return {name: dense.get(id(p), "") for name, p in model.named_parameters() if p.ndim > 1}


def bare(model: nn.Module) -> dict[str, bool]:
    """Parameters of two or more dimensions whose use their module does not tell -> may they be in the prunable set?"""
    return {
        f"{path}.{attribute}".lstrip("."): _is_matrix(parameter)
        for path, module in unwrapped(model).named_modules()
        for attribute, parameter in module.named_parameters(recurse=False)
        if not nn.parameter.is_lazy(parameter) and parameter.ndim > 1 and not _tells(module, attribute)
    }


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, whatever ``torch.compile`` or data parallelism has put around it.

    Its names are then its own: masks, random scores and snapshots are the same with and without.
    """
    while True:
        parallel = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
        inner = getattr(model, "module" if parallel else "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _dense(model: nn.Module, embeddings: bool, exclude: Sequence[str]) -> dict[int, str]:
    """By the ids of parameters that are no prunable weights, whatever their shape, why not."""
    found: dict[int, str] = {}
    exclude = [exclude] if isinstance(exclude, str) else exclude
    layers = _layers(model)
    for module in model.modules():
        own, layer = dict(module.named_parameters(recurse=False)), layers.get(id(module), module)
        scales = [f"{hook.name}_g" for hook in _hooks(module) if isinstance(hook, WeightNorm)]
        if isinstance(module, parametrize.ParametrizationList) and isinstance(module[0], parametrizations._WeightNorm):
            scales.append("original0")
        for name, parameter in own.items():
            why = ""
            if not parameter.requires_grad:
                why = "frozen"
            elif isinstance(layer, _NORMALISATION) or name in scales:
                why = "normalisation"
            elif isinstance(layer, _TABLES) and not embeddings:
                why = "an embedding table (run.prune_embeddings)"
            elif isinstance(module, nn.MultiheadAttention) and name in ("bias_k", "bias_v"):
                why = "a bias"
            elif not nn.parameter.is_lazy(parameter) and not _is_matrix(parameter) and not _tells(module, name):
                why = f"{type(module).__name__} holds it itself, and one dimension alone is larger than 1"
            if why:
                found.setdefault(id(parameter), why)
    unused = set(exclude)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if nn.parameter.is_lazy(parameter):
            raise ValueError(f"{name} has no shape yet: run the model once on a batch before it is pruned")
        matching = {pattern for pattern in exclude if fnmatch(name, pattern)} if parameter.ndim > 1 else set()
        unused -= matching
        if matching:
            found.setdefault(id(parameter), f"excluded by {min(matching)}")
    if unused:
        names = [name for name, parameter in model.named_parameters() if parameter.ndim > 1]
        some = ", ".join(names[:12]) + f" and {len(names) - 12} more" * (len(names) > 12)
        raise ValueError(f"exclude pattern {sorted(unused)[0]!r} matches no weight of the model (it has: {some})")
    return found


def _layers(model: nn.Module) -> dict[int, nn.Module]:
    """By the ids of what holds a parametrised tensor's parameters the layer that computes with the tensor."""
    parametrised: list[Any] = [module for module in model.modules() if parametrize.is_parametrized(module)]
    return {id(held): module for module in parametrised for held in module.parametrizations.values()}


def _tells(module: nn.Module, attribute: str) -> bool:
    """Is it a parameter that a layer of torch's has, so that its use is known?"""
    if isinstance(module, parametrize.ParametrizationList):
        return True
    if not _TOLD.fullmatch(attribute):  # of a subclass's own
        return False
    # subclasses too: a layer that was parametrised is of a class made on the spot
    homes = {base.__module__ for base in type(module).__mro__ if base is not nn.Module}
    return any(home.startswith("torch.nn.modules.") and not home.endswith(".container") for home in homes)


def _is_matrix(parameter: torch.Tensor) -> bool:
    return sum(side > 1 for side in parameter.shape) > 1


def _is_plain(parameter: torch.Tensor) -> bool:
    """Does it hold all its numbers, in its own memory? A shard, a quantised and a sparse tensor do not."""
    return type(parameter.detach()) is torch.Tensor and parameter.layout is torch.strided


def _hooks(module: nn.Module) -> list:
    return list(module._forward_pre_hooks.values())


def _transposed(model: nn.Module, chosen: Mapping[str, nn.Parameter]) -> list[str]:
    """The names of weights of transposed convolutions."""
    layers = _layers(model)
    return [
        name for name, _, _, module in owners(model, chosen) if isinstance(layers.get(id(module), module), TRANSPOSED)
    ]


def _refuse(model: nn.Module, chosen: dict[str, nn.Parameter]) -> None:
    """``ValueError`` for weights whose zeros would not last, or that cannot be ranked."""
    layers = _layers(model)
    for name, attribute, _, module in owners(model, chosen):
        weight, layer = chosen[name], layers.get(id(module), module)
        if not _is_plain(weight):
            held = type(weight.detach()).__name__ if weight.layout is torch.strided else str(weight.layout)
            raise ValueError(
                f"{name} is a {held}, which does not hold all its numbers itself; masks are of whole, plain tensors: "
                "prune a model that is neither sharded (DistributedDataParallel leaves it whole) nor quantised, or "
                "exclude the weight"
            )
        if weight.is_complex():
            raise ValueError(f"{name} is complex: magnitudes and signs of complex weights are not ranked; exclude it")
        if isinstance(layer, _TABLES) and layer.sparse:
            raise ValueError(f"{name} has sparse gradients (sparse=True), which masks cannot follow: make it dense")
        if isinstance(module, parametrize.ParametrizationList):
            for kind in module:
                if not isinstance(kind, _KEEP_ZEROS) and not getattr(kind, "keeps_zeros", False):
                    raise ValueError(
                        f"{name} is parametrised by {type(kind).__name__}, under which a stored zero need not be a "
                        "zero that computes: remove the parametrisation, exclude the weight, or set keeps_zeros = True "
                        f"in {type(kind).__name__} if zeros do last"
                    )
        known = (WeightNorm, SpectralNorm, BasePruningMethod)
        for hook in _hooks(module):
            if attribute.endswith("_orig") and not isinstance(hook, known) and hasattr(hook, "name"):
                raise ValueError(f"{name} is recomputed by {type(hook).__name__} before each use: exclude it")


def _refuse_shared_memory(model: nn.Module) -> None:
    """``ValueError`` where two parameters share memory: pruning one would prune the other."""
    taken: dict[int, list[tuple[int, int, str]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or parameter.numel() == 0 or parameter.device.type == "meta" or not _is_plain(parameter):
            continue
        size = parameter.element_size()
        first = parameter.data_ptr()
        last = first + size * (1 + sum((n - 1) * stride for n, stride in zip(parameter.shape, parameter.stride())))
        spans = taken.setdefault(parameter.untyped_storage().data_ptr(), [])
        for start, end, other in spans:
            if first < end and start < last:
                raise ValueError(
                    f"{other} and {name} share memory but are two parameters: tie by assigning one parameter"
                )
        spans.append((first, last, name))


def emptied_norms(model: nn.Module, weights: Tensors, masks: Tensors) -> list[str]:
    """Names of weights under weight normalisation that have an output whose weights are all pruned: 0 / 0 there.

    ``masks``: ``{name: bool[shape]}``.
    """
    found: list[str] = []
    for name, attribute, _, module in owners(model, weights):
        dims = [hook.dim for hook in _hooks(module) if isinstance(hook, WeightNorm) and attribute == f"{hook.name}_v"]
        if isinstance(module, parametrize.ParametrizationList):
            dims += [kind.dim for kind in module if isinstance(kind, parametrizations._WeightNorm)]
        dim = next(iter(dims), None)
        if dim is None or name in found:
            continue
        bits = masks[name]
        if not bool((bits.any() if dim == -1 else bits.movedim(dim, 0).flatten(1).any(1)).all()):
            found.append(name)
    return found


def owners(model: nn.Module, weights: Tensors) -> Iterator[tuple[str, str, str, nn.Module]]:
    """(weight's name, attribute, module's path, module) for every module that owns one of ``weights``.

    A tied weight has several owners, and comes once for each.
    """
    names = {id(weight): name for name, weight in weights.items()}
    for path, module in model.named_modules():
        for attribute, parameter in module.named_parameters(recurse=False):
            if (name := names.get(id(parameter))) is not None:
                yield name, attribute, path, module


def count(model: nn.Module) -> int:
    """Number of parameters of the model, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
