"""What the parts of the loop ask of the trainer and of the state, so that none of them has to import either."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn

from common import sparsity as sp
from common.settings.run import Run
from common.training.processes.team import Team


class AnyTrainer(Protocol):
    """See ``common.training.trainer.Trainer``."""

    run: Run
    settings: dict[str, dict[str, Any]]
    method: Any  # methods import the state, which asks for this
    device: torch.device
    team: Team

    def __init__(self, settings: dict[str, dict[str, Any]], method: str, task: str): ...

    @property
    def run_steps(self) -> int: ...

    @property
    def steps(self) -> int: ...

    def examples(self) -> int: ...

    def batch(self, indices: torch.Tensor, position: int) -> Any: ...

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor: ...

    def never_prunable(self, model: nn.Module) -> Sequence[str]: ...

    def build_seeded(self, *stream: str) -> nn.Module: ...

    def random_stream(self, *names: str) -> AbstractContextManager[None]: ...

    def pretrained_state(self) -> dict[str, torch.Tensor]: ...

    def begin(self, parent: None) -> Any:
        """A ``State``."""

    def step(self, state: Any) -> float: ...


class AnyState(Protocol):
    """See ``common.training.state.State``."""

    model: nn.Module
    network: nn.Module
    weights: dict[str, nn.Parameter]
    masks: sp.Masks
    step: int

    def stream(self, *names: object) -> int: ...

    def gradients(self) -> dict[str, torch.Tensor]: ...
