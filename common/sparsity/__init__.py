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

_HOME = {
    "prunable": "weights",
    "bare": "weights",
    "emptied_norms": "weights",
    "count": "weights",
    "Masks": "masks",
    "pack": "masks",
    "unpack": "masks",
    "reset_optimizer_state": "masks",
    "Score": "scores",
    "magnitude": "scores",
    "saliency": "scores",
    "gradient_magnitude": "scores",
    "gradient_flow": "scores",
    "random_score": "scores",
    "damage": "scores",
    "surgeon": "scores",
    "InverseFisher": "fisher",
    "fisher_diagonal": "fisher",
    "choose": "choosing",
    "form": "granularity",
    "Blocks": "granularity",
    "Pattern": "granularity",
    "pools": "granularity",
    "AllocationError": "allocation",
    "shapes_of": "allocation",
    "Pool": "allocation",
    "Groups": "allocation",
    "kept_count": "allocation",
    "allocate": "allocation",
    "global_pool": "allocation",
    "uniform": "allocation",
    "erdos_renyi_kernel": "allocation",
    "erdos_renyi_kernel_plus": "allocation",
    "per_layer": "allocation",
    "per_row": "allocation",
    "n_of_m": "allocation",
    "from_masks": "allocation",
    "select": "selection",
    "cubic": "schedules",
    "cosine": "schedules",
    "due": "schedules",
    "geometric_levels": "schedules",
    "drop_and_grow": "topology",
    "snapshot": "snapshots",
    "restore": "snapshots",
    "checksum": "snapshots",
    "augment": "initialisation",
    "log_alpha": "variational",
    "divergence": "variational",
    "noisy": "variational",
    "recurrent": "variational",
    "LocalNoise": "variational",
    "starting_log_odds": "hard_concrete",
    "sampled_gate": "hard_concrete",
    "gate": "hard_concrete",
    "open_probability": "hard_concrete",
    "mean_gate": "hard_concrete",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = globals()[name] = getattr(import_module(f"common.sparsity.{_HOME[name]}"), name)
        return value
    raise AttributeError(f"common.sparsity has no {name!r}; it has {', '.join(__all__)}")
