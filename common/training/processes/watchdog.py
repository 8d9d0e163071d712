"""Notices that a process of a stage failed or is gone, and ends this one where the loop cannot get out by itself.

Between processors a lost process breaks its connections and the next exchange raises at once. A GPU that waits for
another, or a node that lost its power, raises nothing for a long time: this thread ends such a wait.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

BEAT = 1.0  # seconds between two signs of life
SILENT = 90  # beats of this process without a sign of life of another: it is taken for lost
GRACE = 30.0  # seconds for the loop to end by itself once something is known to be wrong


class Watch(threading.Thread):
    """``store``: a connection of its own. ``on_loss(reason)`` is called before this process is ended."""

    def __init__(self, store: Any, rank: int, size: int):
        super().__init__(daemon=True, name="watch")
        self.store, self.rank = store, rank
        self.others = list(range(1, size)) if rank == 0 else [0]
        self.reason = ""
        self.on_loss: Callable[[str], object] = lambda reason: None
        self.alone = False  # has this process no more need of the others?
        self._over = threading.Event()

    def tell(self, reason: str, text: str) -> None:
        """Let all processes know that this one failed; the first to say so is the one that is believed."""
        with contextlib.suppress(RuntimeError):  # where the first process is gone there is nobody to tell
            self.store.compare_set("failure", "", json.dumps([reason, text]))

    def failure(self) -> tuple[str, str] | None:
        """(reason, traceback) of the process that failed first, None where none has said so."""
        try:
            if not self.store.check(["failure"]):
                return None
            reason, text = json.loads(self.store.get("failure"))
            return reason, text
        except RuntimeError as error:
            return (f"the first process is gone ({error})".splitlines()[0], "") if self.rank else None

    def run(self) -> None:
        """The thread's work."""
        # Beats are counted, not seconds: when a suspended job goes on, the pause counts as nobody's silence.
        beats = 0
        seen: dict[int, tuple[bytes | None, int]] = dict.fromkeys(self.others, (None, 0))
        while not self.reason and not self._over.wait(BEAT):
            beats += 1
            try:
                self.store.set(f"alive/{self.rank}", str(beats))
                if self.alone:
                    continue
                found = self.failure()
                self.reason = found[0] if found else ""
                for rank in [] if found else self.others:
                    sign = self.store.get(f"alive/{rank}") if self.store.check([f"alive/{rank}"]) else None
                    if sign != seen[rank][0]:
                        seen[rank] = sign, beats
                    elif beats - seen[rank][1] > SILENT:
                        self.reason = f"rank {rank} gave no sign of life for {SILENT * BEAT:.0f} seconds"
            except RuntimeError as error:
                self.reason = f"the first process of this stage is gone ({error})".splitlines()[0]
        if not self._over.wait(GRACE if self.reason else 0):
            try:
                self.on_loss(self.reason)
                print(f"rank {self.rank} ends: {self.reason}", file=sys.stderr, flush=True)
            finally:
                os._exit(1)

    def stop(self) -> None:
        """End the thread, and wait until it has ended."""
        self._over.set()
        if self.is_alive():
            self.join()
