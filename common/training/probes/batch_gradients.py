"""The gradients of single batches, one after the other, without training: for second-order methods."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from common.training import optimization
from common.training.probes.undisturbed import differentiable, modes_kept
from common.training.protocols import AnyState, AnyTrainer


def gradients(trainer: AnyTrainer, state: AnyState, batches: Iterable[int]) -> Iterator[dict[str, torch.Tensor]]:
    """See ``State.gradients_of``."""
    # of each step its own: prunings during one training do not look at the same examples again
    order = optimization.Order(state.stream("gradients", state.step), trainer.examples(), trainer.run.batch_size)
    team, parameters = trainer.team, list(state.model.parameters())
    for position in batches:
        # all is put back before anyone sees the gradients: who asks may stop early, or draw random numbers meanwhile
        own = [parameter.grad for parameter in parameters]
        noise = _noise(trainer.device, state.stream("gradients", state.step, "noise", position))
        try:
            with modes_kept(state.model), noise, differentiable(state.model):
                state.model.eval()
                state.model.zero_grad()
                batch = trainer.batch(team.share(order(position)), position * team.size + team.rank)
                loss = trainer.loss(state.network, batch)  # averages gradients over the processes of the stage
                loss.backward()
            if not math.isfinite(value := loss.item()):
                raise ValueError(f"the loss of a training batch is not finite ({value}): no gradients to prune by")
            found = state.gradients()
        finally:
            for parameter, gradient in zip(parameters, own, strict=True):
                parameter.grad = gradient
        yield found


@contextmanager
def _noise(device: torch.device, seed: int) -> Iterator[None]:
    """What a loss draws. ``torch.manual_seed`` would also note every call for devices that are not in use."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng([torch.cuda.current_device()] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed(seed)
        yield
