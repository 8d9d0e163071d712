"""The one loop: order of hooks, precision, accumulation, masks, evaluation, selection, resume points.

A task subclasses ``Trainer`` and says what its model, batches, loss and score are; it never copies the loop. One
step: micro-batches accumulate, each process of the stage taking its share; anything not finite stops the stage before
a weight or mask moves; the method sees the dense averaged gradient; gradients are masked and only then clipped;
optimizer; masks again; the method's step.
"""

import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common import registry, seeds
from common import sparsity as sp
from common.errors import UserError
from common.settings import groups, run
from common.training import optimization
from common.training.interruption import SAVE, Stop
from common.training.processes.team import ALONE, Team
from common.training.resume import journal, restore
from common.training.state import Parent, State

ANSWERS = ("score", "loss", "constant")  # what ``evaluate`` must say
SNAPSHOT_SHARES = (0.0, 0.01, 0.05)  # dense training keeps its weights at these shares of its steps, for rewinding


class NotFinite(RuntimeError):
    """The loss or a gradient is NaN or infinite."""


class Trainer:
    """Base of every task's trainer. ``settings`` are a stage's resolved ``run``, ``task`` and ``method`` values."""

    metric = "accuracy"  # what ``score`` is; higher is better
    planned_data: str | None = None  # the fingerprint the stage was planned with, to compare with what is read
    as_planned = False  # have the data been compared with it?
    team: Team = ALONE  # the processes that train the stage together

    def __init__(self, settings: dict[str, dict[str, Any]], method: str, task: str):
        cls = groups.classes(task, method)
        self.settings, self.task_name, self.method_name = settings, task, method
        self.run: run.Run = groups.build(run.Run, settings["run"])
        self.task = groups.build(cls["task"], settings["task"])
        # A Method of common/methods/families/base.py; methods import the state of the loop, the loop imports no method
        self.method: Any = registry.method(method)(groups.build(cls["method"], settings["method"]))
        cuda = torch.cuda.is_available()
        if self.run.device == "cuda" and not cuda:
            raise UserError("run.device=cuda, but torch sees no GPU here; use run.device=auto")
        self.device = torch.device("cuda" if cuda and self.run.device != "cpu" else "cpu")
        self.warnings: list[str] = []
        self.best: dict[str, Any] = {}  # the step that selection prefers so far: value, step, loss, score, its model
        self.last_validation: float | None = None
        self.start_sums: dict[str, list[float]] = {}
        self.noise: tuple[str, ...] = ()  # of the step under way, as ``Method.noise`` says

    # --- what a task says -------------------------------------------------------------------------------------------

    def load(self) -> Any:
        """The task's examples in their splits, as ``common.data.splits.Splits`` or with more fields than that."""
        raise NotImplementedError

    def build(self) -> nn.Module:
        """The model in its starting state (pretrained weights loaded), using torch's global random stream."""
        raise NotImplementedError

    def examples(self) -> int:
        """Number of training examples."""
        raise NotImplementedError

    def batch(self, indices: torch.Tensor, position: int) -> Any:
        """The examples ``indices`` (int64), on ``self.device``; a function of both arguments alone.

        ``position`` is another number for every call of a training: noise of the data, such as augmentation, is
        drawn from ``self.stream(name, position)``.
        """
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Mean loss over the batch, a scalar with gradient. Outputs must come from calling ``model`` itself."""
        raise NotImplementedError

    def evaluate(self, model: nn.Module, split: str) -> dict[str, Any]:
        """On ``validation`` or ``test``: ``score`` (see ``metric``), ``loss``, ``constant`` (one answer for all?)."""
        raise NotImplementedError

    def baseline(self) -> float:
        """The test score of the best constant answer, chosen on the training set."""
        raise NotImplementedError

    def parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Optimizer groups; ``scale`` multiplies a group's learning rate."""
        return [{"params": [p for p in model.parameters() if p.requires_grad]}]

    def never_prunable(self, model: nn.Module) -> tuple[str, ...]:
        """Patterns of weights that stay dense whatever ``run.exclude`` says; each must match one."""
        return ()

    def data_order(self, seed: int) -> optimization.Order:
        """Which examples make up each batch, a function of (seed, position) alone."""
        return optimization.Order(seed, self.examples(), self.run.batch_size)

    # --- building blocks --------------------------------------------------------------------------------------------

    @property
    def run_steps(self) -> int:
        """Optimizer steps by the run's settings: those of a dense training."""
        return self.run.steps or self.run.steps_of(self.examples())

    @property
    def steps(self) -> int:
        """Optimizer steps of this stage: a method may want more or fewer, or none."""
        return self.method.budget(self.run_steps)

    @property
    def batch_size(self) -> int:
        """Examples per optimizer step."""
        return self.run.batch_size * self.run.accumulate

    @cached_property
    def data(self) -> Any:
        """What ``load`` gives, read once. ``UserError`` where it is not what the plan saw."""
        found = self.load()
        self._compare(found)
        self.warnings += getattr(found, "warnings", [])
        return found

    def _compare(self, data: Any) -> None:
        """Are these the data that were planned? ``UserError`` where they are others; nothing where they do not say."""
        checksum = getattr(data, "checksum", None)
        self.as_planned = checksum is not None
        if self.as_planned and self.planned_data not in (None, checksum):
            sums = f"checksum {self.planned_data}, now {checksum}"
            raise UserError(f"the data changed since planning ({sums}): run 'make sweep' again")

    def _unverified(self) -> list[str]:
        """What to say at the end of a training on data that were never compared with those planned."""
        if self.planned_data is None or self.as_planned:
            return []
        file = f"tasks/{self.task_name}/trainer.py"
        return [
            f"the data that this stage trained on were not compared with those planned: {file} must read them as "
            "self.data, and load() must return their checksum (docs/task.md)"
        ]

    def judged(self, model: nn.Module, split: str) -> dict[str, Any]:
        """What ``evaluate`` says. ``UserError`` where it is not what the loop needs."""
        found = self.evaluate(model, split)
        where = f"tasks/{self.task_name}/trainer.py: evaluate(model, {split!r})"
        if not isinstance(found, dict) or (missing := [name for name in ANSWERS if name not in found]):
            what = f"no {', no '.join(missing)} among {', '.join(found)}" if isinstance(found, dict) else repr(found)
            raise UserError(f"{where} must return a dictionary with {', '.join(ANSWERS)} (docs/task.md), found {what}")
        for name in ("score", "loss"):
            if not isinstance(found[name], (int, float)):
                raise UserError(f"{where}: {name} must be a number, found {type(found[name]).__name__}")
        return found

    def build_seeded(self, *stream: str) -> nn.Module:
        """A model that drew its random numbers from the named stream ``stream``."""
        with self.random_stream(*stream):
            return self.build()

    @contextmanager
    def random_stream(self, *names: str) -> Iterator[None]:
        """Inside, torch's random numbers come from the stream ``names``; outside they go on as if undisturbed."""
        with torch.random.fork_rng([torch.cuda.current_device()] if self.device.type == "cuda" else []):
            torch.manual_seed(seeds.derive(self.run.seed, *names))
            yield

    def pretrained_state(self) -> dict[str, torch.Tensor]:
        """What every dense training of this seed starts from, on the CPU."""
        return sp.snapshot(self.build_seeded("initialisation"))

    def begin(self, parent: Parent | None) -> State:
        """A fresh stage: model, method, optimizer, masks."""
        model = self.build_seeded("initialisation").to(self.device)
        state = State(self, model, self.steps, parent)
        self.method.attach(state)
        state.network = self.team.wrap(state.called())
        state.optimizer = optimization.optimizer(self.run, self.parameter_groups(model) + state.learned_groups())
        self._draw(())
        return state

    def stream(self, *names: object) -> int:
        """The seed of a named random stream of the noise in training: other data order, other augmentation."""
        return seeds.derive(self.run.seed, *names, *self.noise)

    def _draw(self, noise: tuple[str, ...], dropout: bool = True) -> None:
        """Let ``noise`` be in the names of the streams from here on; ``dropout``: which also begins anew."""
        self.noise = noise
        self.order = self.data_order(self.stream("data"))
        own = [self.team.rank] if self.team.rank else []  # dropout and other noise: each process has its own
        if dropout:
            torch.manual_seed(self.stream("training", *own))

    def step(self, state: State) -> float:
        """One optimizer step; returns the mean loss of its micro-batches. ``NotFinite``: nothing has moved."""
        state.model.train()
        noise = self.method.noise(state.step)
        if noise != self.noise:  # it changes here, or did before a resume point, which has the random state
            self._draw(noise, dropout=noise != (self.method.noise(state.step - 1) if state.step else ()))
        rate = optimization.learning_rate(self.run, *self.method.clock(state.step, self.run_steps))
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        total, team = 0.0, self.team
        for micro in range(self.run.accumulate):
            position = state.step * self.run.accumulate + micro
            batch = self.batch(team.share(self.order(position)), position * team.size + team.rank)
            with team.accumulating(state.network, last=micro + 1 == self.run.accumulate):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.run.precision == "bfloat16"):
                    loss = self.loss(state.network, batch) + self.method.penalty(state)
                (loss / self.run.accumulate).backward()
            total += loss.item() / self.run.accumulate
        total = team.mean(total)
        self._check_finite(state, total)
        if not self.method.on_gradients(state):
            state.masks.apply_to_gradients()
            if self.run.clip_norm:
                nn.utils.clip_grad_norm_(state.parameters(), self.run.clip_norm)
            state.optimizer.step()
            state.masks.apply()
        state.optimizer.zero_grad()
        state.step += 1
        self.method.on_step(state)
        return total

    def _check_finite(self, state: State, loss: float) -> None:
        gradients = [p.grad for p in state.parameters() if p.grad is not None]
        if not math.isfinite(loss) or not math.isfinite(nn.utils.get_total_norm(gradients).item()):
            what = "loss" if not math.isfinite(loss) else "gradient"
            state.optimizer.zero_grad()
            smaller = "run.learning_rate" + " or method.strength" * hasattr(self.method.config, "strength")
            raise NotFinite(f"the {what} is not finite at step {state.step} (loss {loss}); try a smaller {smaller}")

    # --- the stage --------------------------------------------------------------------------------------------------

    def fit(self, folder: Path, digest: str, parent: Parent | None, stop: Stop) -> State | str:
        """Train to the end and return the final state, or the reason for which ``stop()`` ended it (resumable)."""
        late = [*run.complaints_of_size(self.run, self.examples()), *self.method.complaints_for(self.run_steps)]
        if late:  # a plan said so, where the task could tell how many examples there are
            raise UserError("; ".join(late))
        state = self.begin(parent)
        saved, warnings = restore.choose(self.team, folder, digest)
        if saved is None:
            self.method.start(state)
            self.start_sums = state.sums()
        else:
            restore.restore(self, state, saved)
        if parent is not None:
            parent.forget()  # a second copy of a large model is not to be held for the whole training
        self.warnings += warnings
        if frozen := [n for n, p in state.model.named_parameters() if not p.requires_grad and p.ndim > 1]:
            self.warnings.append(f"frozen weights are dense and in no count of the prunable set: {', '.join(frozen)}")
        hidden = "data" in vars(self) or type(self).data is not Trainer.data
        if hidden and not self.as_planned:  # a task's own attribute in the place of the one that compares
            self._compare(self.data)
        state.agree("at the start", weights=True)
        kind = journal.Silence if self.team.rank else journal.Journal
        with closing(kind(folder, digest, saved["metrics"] if saved else 0)) as log:
            return self._train(state, stop, log, fresh=saved is None)

    def _train(self, state: State, stop: Stop, log: journal.Journal, fresh: bool) -> State | str:
        shares = SNAPSHOT_SHARES if self.method.keeps_snapshots else ()
        wanted = {round(share * state.steps) for share in shares}
        last_save = time.monotonic()
        log.begin(state.step, state.steps)
        if 0 in wanted and fresh:
            log.snapshot(0, state.model)
        if not state.steps:  # pruned and left alone: there is nothing to train, but something to choose and to score
            self._validate(state, log)
        while state.step < state.steps:
            due = SAVE if time.monotonic() - last_save > self.run.checkpoint_seconds else None
            wish, moved = self.team.any(stop() or due, state.moved)
            if moved:
                state.agree(f"after step {state.step}")
            if wish:
                self._save(state, log)
                last_save = time.monotonic()
                if isinstance(wish, str):
                    return wish
            loss = self.step(state)
            if state.step in wanted:
                log.snapshot(state.step, state.model)
            if state.step % self.run.log_every == 0 or state.step == state.steps:
                rate = state.optimizer.param_groups[0]["lr"]
                log.write(state.step, loss=loss, learning_rate=rate, sparsity=state.masks.sparsity)
            if self._evaluates(state.step) or state.step == state.steps:
                self._validate(state, log)
            if self.run.checkpoint_every and state.step % self.run.checkpoint_every == 0:
                self._save(state, log)
                last_save = time.monotonic()
            log.tick(state.step)
        state.agree("at the end", weights=True)
        self.warnings += self._unverified()
        log.commit()
        return state

    def _evaluates(self, step: int) -> bool:
        """Is the validation split looked at after so many steps: every so many, or where one ended an epoch?"""
        if self.run.evaluate_every:
            return step % self.run.evaluate_every == 0
        return step * self.batch_size // self.examples() > (step - 1) * self.batch_size // self.examples()

    def _save(self, state: State, log: journal.Journal) -> None:
        state.agree(f"after step {state.step}")
        log.save(restore.content(self, state))

    def _validate(self, state: State, log: journal.Journal) -> None:
        if self.settings["task"].get("validation") == 0:
            return
        state.model.eval()
        deployed = self.method.deployed(state) if state.step < state.steps else None  # the last step's are final
        with state.standing_in(deployed):
            self._select(state, self.judged(state.model, "validation"), log)

    def _select(self, state: State, found: dict[str, Any], log: journal.Journal) -> None:
        """Note what was ``found`` on the validation split, and keep the weights if they are the best so far."""
        log.write(state.step, validation_loss=found["loss"], validation_score=found["score"])
        self.last_validation = found["score"]
        if not self.method.settled(state.step, state.steps):
            return
        by_score = self.run.select == "best_score"
        value = found["score"] if by_score else -found["loss"]
        value = -math.inf if math.isnan(value) else value  # nothing is larger than NaN: it would stay the best for ever
        if not self.best or value > self.best["value"]:  # ties go to the earlier step
            self.best = {"value": value, "step": state.step, "loss": found["loss"], "score": found["score"]}
            if self.run.select != "last":
                self.best["model"] = sp.snapshot(state.model)

    def unmoved(self, state: State) -> list[str]:
        """Trainable tensors that still have their starting values: a frozen head or backbone nobody asked for.

        Those without a living weight are left out: they cannot move, and are reported as empty layers.
        """
        if not state.steps:
            return []
        now = state.sums()  # where a data set has none of something, such as constants, a tensor may be empty
        trained = {n for n, p in state.model.named_parameters() if p.requires_grad and p.numel()}
        trained -= {name for name, kept in state.masks.counts.items() if not kept}
        return [n for n in now if n in trained and now[n] == self.start_sums[n]]
