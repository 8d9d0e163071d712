"""Pretrained files read without running them, and filled into a network with every key accounted for."""

from argparse import Namespace
from fnmatch import fnmatch
from pathlib import Path

import torch
from torch import Tensor, nn

from common.errors import UserError, reason


def read(path: Path) -> dict:
    """What ``torch.save`` wrote to ``path``: containers, numbers, strings, tensors and a Namespace of settings.

    A file that asks for anything else is refused and not run. ``UserError`` where it cannot be read.
    """
    try:
        with torch.serialization.safe_globals([Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # torch raises a dozen kinds on a file that is not what it should be
        raise UserError(
            f"{path}: expected a file of weights written by torch.save, found something else ({reason(problem)}); "
            "fetch it once more"
        ) from problem
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a dictionary of weights, found {type(content).__name__}")
    return content


def fill(network: nn.Module, state: dict[str, Tensor], path: Path, ignore: tuple[str, ...] = ()) -> None:
    """Copy ``state`` into ``network``, both float32; keys that match a pattern in ``ignore`` belong to other parts.

    ``UserError`` that lists what is missing, what nothing in the network is called, and what has another shape.
    """
    found = {name: value for name, value in state.items() if not any(fnmatch(name, pattern) for pattern in ignore)}
    needed = network.state_dict()
    faults = [f"{name} is missing" for name in needed if name not in found]
    faults += [f"{name} is not expected" for name in found if name not in needed]
    faults += [
        f"{name} is {list(found[name].shape)} where {list(value.shape)} is expected"
        for name, value in needed.items()
        if name in found and found[name].shape != value.shape
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise UserError(
            f"{path} does not hold the weights of this model: {'; '.join(faults[:5])}{more}. Expected "
            f"{len(needed)} tensors, found {len(found)}: is the file another model's, or damaged?"
        )
    network.load_state_dict({name: found[name].to(value.dtype) for name, value in needed.items()})
