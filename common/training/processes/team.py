"""Several processes that train one stage together: each takes its share of every micro-batch, gradients are averaged.

``Team`` is what the loop asks; the base class is one process alone and costs nothing. ``Ranks`` is one process of
several: gloo between processors, nccl between GPUs. ``common.training.processes.rendezvous.join`` makes one.
"""

import contextlib
import gc
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from common.training.interruption import SAVE, Interruption
from common.training.processes.watchdog import Watch

PATIENCE = timedelta(minutes=30)  # for what the other processes do between two exchanges: a validation, a resume point
FAREWELL = 10.0  # seconds in which every process has read how the stage ended
BREAK = 2.0  # the same where one failed and may never read anything

Value = TypeVar("Value")
Lost = Callable[[], str]  # what became of a process that is known to be gone, or ""


class Disagreement(RuntimeError):
    """Processes that must hold the same masks or weights do not."""


class Team:
    """One process alone."""

    rank, size, local_rank = 0, 1, 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """What to call for the loss, so that gradients of ``model`` come out averaged over the processes.

        Here that is torch's DistributedDataParallel, which leaves the model and its parameters as they are. For
        models that no GPU holds, ``fully_shard`` (FSDP2) would take its place: it shards the parameters of the model
        itself, so the model would have to be wrapped before ``State`` looks for its weights, masks and scores would
        be taken of shards, and resume points would gather full tensors on the first process.
        """
        return model

    def accumulating(self, network: nn.Module, last: bool) -> AbstractContextManager:
        """Around forward and backward of a micro-batch: gradients are exchanged in the ``last`` of a step alone."""
        return contextlib.nullcontext()

    def share(self, indices: torch.Tensor) -> torch.Tensor:
        """This process's part of a micro-batch's examples."""
        return indices

    def any(self, wish: Interruption, moved: bool = False) -> tuple[Interruption, bool]:
        """(the strongest wish of all processes, has any moved its masks?): a reason to leave, ``SAVE`` or None.

        Every process asks before every step, so that all leave, save or compare masks at the same one.
        """
        return wish, moved

    def mean(self, value: float) -> float:
        """The mean of all processes' ``value``."""
        return value

    def gather(self, value: Value) -> list[Value]:
        """Each process's ``value``, in the order of ranks."""
        return [value]

    def tell(self, value: Value) -> Value:
        """The first process's ``value``, in all of them."""
        return value

    def agree(self, value: str, what: str) -> None:
        """``Disagreement``, naming the ranks, where ``value`` (a checksum of ``what``) is not the same everywhere."""
        found = self.gather(value)
        others = [str(rank) for rank, other in enumerate(found) if other != found[0]]
        if others:
            raise Disagreement(
                f"{what} differ between the processes of this stage: rank {', '.join(others)} not as rank 0. Whatever "
                "a method decides must follow from weights, gradients and state.stream(...), which are the same in all"
            )

    def guard(self, on_loss: Callable[[str], object]) -> None:
        """``on_loss(reason)`` is called should this process have to be ended because another one is lost."""

    def failure(self, error: BaseException, text: str) -> tuple[str, str]:
        """(reason, traceback) of a stage that ``error`` ended; tells the others."""
        return f"{type(error).__name__}: {error}".splitlines()[0][:1000], text

    def dismiss(self) -> None:
        """Training is over: the first process, which scores and writes, does not need the others any more."""

    def finish(self, outcome: str) -> str:
        """The outcome of the stage as the first process says it, in all of them."""
        return outcome

    def close(self) -> None:
        """Leave the team; nothing can be asked of it afterwards."""


ALONE = Team()


class Ranks(Team):
    """Process ``rank`` of ``size``. ``store``: what all reach through the first one, also while another is lost.

    It is a dist.TCPStore; torch's stubs do not know its clone().
    """

    def __init__(self, rank: int, size: int, local_rank: int, backend: str, store: Any, lost: Lost = lambda: ""):
        self.rank, self.size, self.local_rank, self.backend = rank, size, local_rank, backend
        self._store, self._lost, self._farewell = store, lost, BREAK
        self.watch = Watch(store.clone(), rank, size)
        group = dist.PrefixStore("group", store)
        dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=PATIENCE)
        self.watch.start()

    def wrap(self, model: nn.Module) -> nn.Module:
        # init_sync: weights are compared at the start, not overwritten; an initialisation that differs is a fault.
        # find_unused_parameters: what the loss does not reach is no error; and torch then does not regroup gradients
        # after its first step, which would make sums over three or more processes depend on when training was resumed.
        # (torch says once in the log that it found none: it could not know why we ask.)
        return DistributedDataParallel(model, init_sync=False, find_unused_parameters=True)

    def accumulating(self, network: Any, last: bool) -> AbstractContextManager:
        return contextlib.nullcontext() if last else network.no_sync()

    def share(self, indices: torch.Tensor) -> torch.Tensor:
        part = len(indices) // self.size
        return indices[self.rank * part : (self.rank + 1) * part]

    def any(self, wish: Interruption, moved: bool = False) -> tuple[Interruption, bool]:
        strength = 0 if not wish else 1 if wish is SAVE else 2
        found = torch.tensor([strength, int(moved)])
        dist.all_reduce(found, dist.ReduceOp.MAX)
        strongest, moved = found.tolist()
        if strongest == 2:
            wish = next(found for found in self.gather(wish if isinstance(wish, str) else None) if found)
        return (wish if strongest == 2 else SAVE if strongest else None), bool(moved)

    def mean(self, value: float) -> float:
        found = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(found)
        return found.item() / self.size

    def gather(self, value: Value) -> list[Value]:
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def tell(self, value: Value) -> Value:
        found = [value]
        dist.broadcast_object_list(found, src=0, device=torch.device("cpu"))
        return found[0]

    def failure(self, error: BaseException, text: str) -> tuple[str, str]:
        """A connection that broke says nothing of why: the reason is then that of the process that failed first."""
        reason, text = super().failure(error, text)
        broken = isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL"))
        if broken and self.rank == 0:
            end = time.monotonic() + BREAK / 2
            while time.monotonic() < end:
                if gone := self._lost():
                    return gone, text
                if told := self.watch.failure():
                    return told
                time.sleep(0.05)
        if broken:
            return f"lost contact with another process of this stage ({reason})", text
        own = f"rank {self.rank}: {reason}" if self.rank else reason
        self.watch.tell(own, text)
        return own, text

    def finish(self, outcome: str) -> str:
        """The others wait for the first process, which scores and writes after the last step, as long as it lives."""
        try:
            if self.rank == 0:
                self._farewell = BREAK if outcome == "failed" else FAREWELL
                self._store.set("outcome", outcome)
            while not self._store.check(["outcome"]):
                if self.watch.failure() or self.watch.reason:
                    return "failed"
                time.sleep(0.05)
            return self._store.get("outcome").decode()
        except RuntimeError:  # the first process is gone, and with it what it could have said
            return outcome if self.rank == 0 else "failed"

    def guard(self, on_loss: Callable[[str], object]) -> None:
        self.watch.on_loss = on_loss

    def dismiss(self) -> None:
        self.watch.alone = self.rank == 0

    def close(self) -> None:
        if dist.is_initialized():
            gc.collect()  # what still holds the group keeps its connections open, and the others waiting
            dist.destroy_process_group()
        if not self.watch.reason:
            self.watch.stop()  # before the first process takes the store away
        with contextlib.suppress(RuntimeError):  # a broken connection is no reason not to leave
            self._store.set(f"left/{self.rank}", "")
            end, others = time.monotonic() + self._farewell, [f"left/{rank}" for rank in range(self.size)]
            while self.rank == 0 and time.monotonic() < end and not self._lost() and not self._store.check(others):
                time.sleep(0.01)
        self.watch.stop()
        self._store = None
