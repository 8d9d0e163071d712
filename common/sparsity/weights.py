"""Which weights may be pruned: one declared set, the same for every method, tied tensors once."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TABLES = (nn.Embedding, nn.EmbeddingBag)
_NORMALISATION = (nn.LayerNorm, nn.RMSNorm)  # the ones whose scales may have two or more dimensions


def _owned_by(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> set[int]:
    return {id(p) for m in model.modules() if isinstance(m, kinds) for p in m.parameters(recurse=False)}


def prunable(model: nn.Module, embeddings: bool = False, exclude: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """The model's weight matrices and kernels (parameters of two or more dimensions) by name, in definition order.

    Biases and normalisation parameters are never in the set. Embedding tables are in it only on request; a matrix tied
    to an embedding follows the embedding. ``exclude`` holds shell-style patterns of names (a tied parameter goes by
    any of its names); one that matches nothing is a ``ValueError``, as are two different parameters that share memory.
    """
    left_out = _owned_by(model, _NORMALISATION if embeddings else _NORMALISATION + _TABLES)
    unused = set(exclude)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        matching = {pattern for pattern in exclude if fnmatch(name, pattern)} if parameter.ndim > 1 else set()
        unused -= matching
        if matching:
            left_out.add(id(parameter))
    if unused:
        names = [name for name, parameter in model.named_parameters() if parameter.ndim > 1]
        some = ", ".join(names[:12]) + f" and {len(names) - 12} more" * (len(names) > 12)
        raise ValueError(f"exclude pattern {sorted(unused)[0]!r} matches no weight of the model (it has: {some})")
    chosen: dict[str, nn.Parameter] = {}
    owner: dict[int, str] = {}
    for name, parameter in model.named_parameters():  # a tied parameter is listed once, under its first name
        if parameter.ndim < 2 or parameter.numel() == 0:
            continue
        other = owner.setdefault(parameter.data_ptr(), name)
        if other != name and parameter.device.type != "meta":
            raise ValueError(f"{other} and {name} share memory but are two parameters: tie by assigning one parameter")
        if id(parameter) not in left_out:
            chosen[name] = parameter
    if not chosen:
        raise ValueError("the model has no prunable weights (no parameter of two or more dimensions)")
    return chosen


def owners(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, str, str, nn.Module]]:
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
