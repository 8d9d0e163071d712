"""Typed configuration in layers, and the digest that names a stage.

Three groups: ``run`` (how to train), ``task`` (the folder's Config) and ``method`` (the file's Config). Later layers
win; an unknown key or a wrong type is an error that names the layer it came from.
"""

import dataclasses
import hashlib
import json
import types as kinds
import typing
from dataclasses import dataclass
from functools import cache

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from common import registry
from common.errors import UserError, nearest
from common.method import option

CORE_VERSION = 1  # part of every digest: raised when a fix in the core or the loop changes results


@dataclass
class Run:
    """How a stage is trained; the same fields for every task."""

    seed: int = option(0, "one seed for initialisation, data order, dropout and masks (separate named streams)")
    epochs: float = option(10.0, "passes over the training set, when steps is 0")
    steps: int = option(0, "optimizer steps; 0: from epochs")
    batch_size: int = option(60, "examples per micro-batch")
    accumulate: int = option(1, "micro-batches per optimizer step")
    processes: int = option(1, "processes (one a GPU) that share each micro-batch evenly", neutral=1)
    optimizer: str = option("adam", "sgd, adam or adamw")
    learning_rate: float = option(1.2e-3, "peak learning rate")
    momentum: float = option(0.9, "sgd: momentum")
    nesterov: bool = option(False, "sgd: Nesterov's form of momentum")
    weight_decay: float = option(0.0, "L2 (sgd, adam) or decoupled (adamw) decay")
    schedule: str = option("constant", "learning rate: constant, linear, cosine, steps or one_cycle")
    warmup_steps: int = option(0, "steps of linear warm-up from 0; of one_cycle: the step at its peak")
    milestones: list[float] = option([0.5, 0.75], "schedule=steps: shares of training after which the rate is decayed")
    decay: float = option(0.1, "schedule=steps: factor at each milestone")
    clip_norm: float = option(0.0, "largest norm of the masked gradient; 0: no clipping")
    precision: str = option("float32", "float32 or bfloat16 (autocast; weights stay float32)")
    prune_embeddings: bool = option(False, "are embedding tables in the prunable set?")
    exclude: list[str] = option([], "name patterns of weights to leave dense")
    evaluate_every: int = option(100, "optimizer steps between evaluations on the validation split; 0: once an epoch")
    select: str = option(
        "last", "the scored weights: last, best_loss or best_score (on validation, once masks are final)"
    )
    log_every: int = option(20, "optimizer steps between logged training losses", identity=False)
    checkpoint_seconds: float = option(60.0, "seconds between resume points", identity=False)
    checkpoint_every: int = option(0, "optimizer steps between resume points; 0: by time alone", identity=False)
    device: str = option("auto", "auto, cpu or cuda", identity=False)

    def steps_of(self, examples: int) -> int:
        """Optimizer steps of ``epochs`` passes over so many training examples."""
        return max(1, round(self.epochs * examples / (self.batch_size * self.accumulate)))


CHOICES = {
    "optimizer": ("sgd", "adam", "adamw"),
    "schedule": ("constant", "linear", "cosine", "steps", "one_cycle"),
    "precision": ("float32", "bfloat16"),
    "select": ("last", "best_loss", "best_score"),
    "device": ("auto", "cpu", "cuda"),
}
POSITIVE = ("batch_size", "accumulate", "processes", "learning_rate", "log_every")
NOT_NEGATIVE = ("seed", "epochs", "steps", "momentum", "weight_decay", "warmup_steps", "decay", "clip_norm")
NOT_NEGATIVE += ("evaluate_every", "checkpoint_seconds", "checkpoint_every")


def complaints_of_run(run: Run) -> list[str]:
    found = []
    for name, valid in CHOICES.items():
        value = getattr(run, name)
        if value not in valid:
            found.append(f"run.{name} must be one of {', '.join(valid)}; found {value!r}{nearest(value, valid)}")
    found += [f"run.{n} must be above 0, found {getattr(run, n)}" for n in POSITIVE if not getattr(run, n) > 0]
    found += [
        f"run.{n} must not be negative, found {getattr(run, n)}" for n in NOT_NEGATIVE if not getattr(run, n) >= 0
    ]
    found += [f"run.milestones must be shares in [0, 1], found {m}" for m in run.milestones if not 0 <= m <= 1]
    if run.processes > 0 and run.batch_size % run.processes:
        found.append(
            f"run.processes={run.processes} must divide run.batch_size={run.batch_size}: each process takes an equal "
            "share of every micro-batch"
        )
    if run.steps == 0 and run.epochs == 0:
        found.append("run.epochs and run.steps are both 0: one of them says how long to train")
    if run.schedule == "one_cycle" and run.warmup_steps == 0:
        found.append("run.schedule=one_cycle rises for run.warmup_steps, which is 0; usual are 3 of 10 steps")
    if run.optimizer == "sgd" and run.nesterov and run.momentum == 0:
        found.append("run.nesterov needs run.momentum above 0")
    return found


@cache
def classes(task: str, method: str) -> dict:
    """The dataclass of each group."""
    return {"run": Run, "task": registry.task_part(task, "config").Config, "method": registry.method(method).Config}


def keys(task: str, methods: list[str]) -> list[str]:
    """Every setting of a task under some methods: ``run.steps``, ``task.dataset``, ``method.sparsity``, each once."""
    found = [(group, cls) for name in methods for group, cls in classes(task, name).items()]
    return list(dict.fromkeys(f"{group}.{name}" for group, cls in found for name in types(cls)))


@cache
def types(cls) -> dict[str, type]:
    """The type of each field of a dataclass."""
    return typing.get_type_hints(cls)


def parse(text: str, kind) -> object:
    """A command-line word as the type of its field. ``ValueError`` names the expected type.

    Strict where YAML is not: ``no`` is not False for a string, ``0123`` is not 83, ``1.0`` is no whole number.
    """
    options = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, kinds.UnionType) else (kind,)
    if type(None) in options and text in ("null", "none", "None", ""):
        return None
    kind = next(o for o in options if o is not type(None))
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise ValueError("true or false")
    if kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            raise ValueError("a whole number" if kind is int else "a number") from None
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError("a finite number")
        return value
    return _collection(text, kind)


def _collection(text: str, kind):
    """``[a, b]`` or ``{a: 1, b: 2}`` with every element as its own type."""
    wanted = typing.get_origin(kind) or kind
    element = (typing.get_args(kind) or (str,))[-1]
    form = "a list such as [a, b]" if wanted is list else "a mapping such as {name: value}"
    # make splits SET at spaces, so {a:1} must do; BaseLoader leaves every scalar the text it is
    text = text.replace(":", ": ") if wanted is dict else text
    try:
        value = yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError):
        value = None
    if not isinstance(value, wanted):
        raise ValueError(form)
    if not all(isinstance(v, str) for v in (value.values() if wanted is dict else value)):
        raise ValueError(f"{form}, not nested")
    try:
        return (
            {k: parse(v, element) for k, v in value.items()} if wanted is dict else [parse(v, element) for v in value]
        )
    except ValueError as error:
        raise ValueError(f"{form}, each value {error}") from None


def merge(cls, group: str, layers: list[tuple[str, dict]]) -> dict:
    """One group's values: the dataclass defaults overlaid by ``layers`` (origin, values).

    ``UserError`` on a bad layer.
    """
    node = OmegaConf.structured(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    for origin, values in layers:
        if not isinstance(values or {}, dict):
            raise UserError(f"{origin}: {group} must hold keys and values, found {values!r}")
        for key in values or {}:
            if key not in names:
                known = f"{group} has: {', '.join(names)}" if names else f"this {group} has no settings"
                raise UserError(f"{origin}: unknown key {group}.{key}{nearest(key, names)} ({known})")
        try:
            node = OmegaConf.merge(node, values or {})
            OmegaConf.resolve(node)
        except OmegaConfBaseException as error:
            raise UserError(f"{origin}: {group}.{error.full_key}: {str(error).splitlines()[0]}") from None
    return OmegaConf.to_container(node)


def build(cls, values: dict):
    """The dataclass of a group from its values."""
    return cls(**values)


def identity(cls, values: dict) -> dict:
    """The values that determine results: without ``identity=False`` fields and those at their ``neutral`` value.

    A field added later carries ``neutral=<the value that has no effect>``, so that older digests stand; values that
    were written before it was added do without it.
    """
    return {
        name: values[name]
        for name, neutral in _determining(cls)
        if not neutral or (values.get(name, neutral[0]),) != neutral
    }


@cache
def _determining(cls) -> list[tuple[str, tuple]]:
    """The fields that are part of the identity, each with its neutral value in a tuple; () where there is none."""
    chosen = [f for f in dataclasses.fields(cls) if f.metadata.get("identity", True)]
    return [(f.name, (f.metadata["neutral"],) if "neutral" in f.metadata else ()) for f in chosen]


def digest(task: str, method: str, settings: dict, versions: dict, data: str, parent: str | None) -> str:
    """The name of a stage: SHA-256 (first 16 hex digits) of everything that determines its result, and nothing else."""
    chosen = {group: identity(cls, settings[group]) for group, cls in classes(task, method).items()}
    content = dict(task=task, method=method, settings=chosen, versions=versions, data=data, parent=parent)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def versions(task: str, method: str) -> dict:
    return {
        "core": CORE_VERSION,
        "task": registry.task_part(task, "config").version,
        "method": registry.method(method).version,
    }


def complaints(task: str, method: str, settings: dict) -> list[str]:
    """Everything wrong with a stage's settings, from all three groups."""
    cls = classes(task, method)
    run = build(Run, settings["run"])
    found, asked = complaints_of_run(run), build(cls["task"], settings["task"])
    found += registry.task_part(task, "config").validate(asked)
    if reason := getattr(registry.task_part(task, "config"), "refuses", {}).get(method):
        found.append(f"task {task} cannot be pruned by {method}: {reason}; choose another method")
    chosen = registry.method(method)(build(cls["method"], settings["method"]))
    found += chosen.complaints()
    if run.steps > 0:  # with run.epochs the data say how many
        found += chosen.complaints_for(run.steps)
    pretrained = getattr(registry.task_part(task, "config"), "pretrained", lambda c: getattr(c, "pretrained", ""))
    if settings["method"].get("rewind") == "pretrained" and not pretrained(asked):
        found.append("method.rewind=pretrained needs pretrained weights, task.pretrained is empty")
    if run.select != "last" and settings["task"].get("validation") == 0:
        found.append(f"run.select={run.select} needs a validation split, task.validation is 0")
    return found


@cache  # reading the data takes a second, and a sweep asks once a stage
def _checked(task: str, values: str, stamp: tuple) -> tuple[str, tuple[str, ...]]:
    """``stamp`` belongs to the key alone: files replaced since the last call are read again."""
    told: list[str] = []
    return registry.task_part(task, "prepare").check(_task_settings(task, values), told.append), tuple(told)


def fingerprint(task: str, settings: dict) -> str:
    """The checksum of the data a stage trains on, as its task computes it; ``UserError`` where one is missing."""
    return checked(task, settings)[0]


def checked(task: str, settings: dict) -> tuple[str, tuple[str, ...]]:
    """``fingerprint``, and a sentence for everything that the data's reader went on with: rows left out, leaks."""
    values, prepare = json.dumps(settings["task"], sort_keys=True), registry.task_part(task, "prepare")
    try:
        stamp = prepare.stamp(_task_settings(task, values)) if hasattr(prepare, "stamp") else ()
        return _checked(task, values, stamp)
    except OSError as error:
        raise UserError(f"task {task}: cannot read its data: {error}") from None


@cache
def _task_settings(task: str, values: str):
    return build(registry.task_part(task, "config").Config, json.loads(values))
