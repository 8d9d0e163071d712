"""The sparsity core: masks, scores, allocation, selection, schedules, topology, rewinding. Usable in any PyTorch loop.

Names are resolved on first use (PEP 562), so that importing this package, and with it every method file, does not
import torch: ``plan`` and ``status`` run on login nodes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names, with their types
    from common.sparsity.allocation import *  # noqa: F403
    from common.sparsity.choosing import *  # noqa: F403
    from common.sparsity.fisher import *  # noqa: F403
    from common.sparsity.granularity import *  # noqa: F403
    from common.sparsity.hard_concrete import *  # noqa: F403
    from common.sparsity.initialisation import *  # noqa: F403
    from common.sparsity.masks import *  # noqa: F403
    from common.sparsity.schedules import *  # noqa: F403
    from common.sparsity.scores import *  # noqa: F403
    from common.sparsity.selection import *  # noqa: F403
    from common.sparsity.snapshots import *  # noqa: F403
    from common.sparsity.topology import *  # noqa: F403
    from common.sparsity.variational import *  # noqa: F403
    from common.sparsity.weights import *  # noqa: F403

_NAMES = {  # by the module that they are in
    "weights": "prunable reasons bare emptied_norms count",
    "masks": "Masks pack unpack reset_optimizer_state",
    "scores": "Score magnitude saliency gradient_magnitude gradient_flow random_score damage surgeon",
    "fisher": "InverseFisher fisher_diagonal",
    "choosing": "choose",
    "granularity": "form Blocks Pattern met pools",
    "allocation": "AllocationError shapes_of Pool Groups kept_count allocate global_pool uniform uniform_first_dense "
    "erdos_renyi_kernel erdos_renyi_kernel_plus per_layer per_row n_of_m from_masks",
    "selection": "select",
    "schedules": "cubic cosine due geometric_levels",
    "topology": "drop_and_grow",
    "snapshots": "snapshot restore checksum",
    "initialisation": "augment",
    "variational": "starting_log_variance log_alpha divergence noisy recurrent LocalNoise",
    "hard_concrete": "starting_log_odds sampled_gate gate open_probability mean_gate",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = globals()[name] = getattr(import_module(f"common.sparsity.{_HOME[name]}"), name)
        return value
    raise AttributeError(f"common.sparsity has no {name!r}; it has {', '.join(__all__)}")
