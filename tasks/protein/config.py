"""What can be set for the protein task. Standard library only: this file is read before anything heavy is."""

import difflib
import math
from dataclasses import dataclass, field
from pathlib import Path

version = 1

# What a data set is for when task.target is empty, and where its classes divide the temperatures (degrees Celsius): a
# boundary belongs to the class above it. HotProtein's five are cryophilic, psychrophilic, mesophilic, thermophilic and
# hyperthermophilic; HP-S2C2 keeps the question below or at least 75.
targets = {
    "generated": "class",
    "hp-s": "class",
    "hp-s2c2": "class",
    "hp-s2c5": "class",
    "meltome": "temperature",
}
boundaries = {
    "generated": [46.0, 54.0],
    "hp-s": [5.0, 20.0, 45.0, 75.0],
    "hp-s2c2": [75.0],
    "hp-s2c5": [5.0, 20.0, 45.0, 75.0],
    "meltome": [45.0, 75.0],
}
folds = 10  # of HP-S2C2 and HP-S2C5 as published, and of every file that says nothing of a split
own_models = ("transformer",)  # trained from scratch
# Residues that pretrained models read where task.length is 0 and they take more: what ESM was trained on (1,024 tokens,
# Rives et al., 2021; Lin et al., 2023). For TAPE, ESM-IF1 and ProteinMPNN it is our choice: all read the same then.
usual_length = 1022
models = (*own_models, "esm", "tape", "antiberty", "esm-if1", "proteinmpnn")
structure_models = ("esm-if1", "proteinmpnn")
refuses = {"synflow": "its flow is not defined through attention, where queries and keys are multiplied"}


def _option(default, help: str, **metadata):
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help, **metadata})
    return field(default=default, metadata={"help": help, **metadata})


@dataclass
class Config:
    dataset: str = _option("generated", "generated, hp-s, hp-s2c2, hp-s2c5 or meltome")
    target: str = _option("", "class or temperature; empty: temperature for meltome, class for the others")
    boundaries: list[float] = _option([], "degrees at which a class begins; empty: the data set's own")
    fold: int = _option(0, "the part that is tested, 0-9; -1: the run's seed says (its last digit)", replicate=True)
    validation: int = _option(-1, "sequences held out for selection; -1: those the file marks, or a tenth of the rest")
    # Not part of the identity: the content is in the fingerprint.
    data: str = _option("", "folder with the data set's files; empty: where `make prepare` puts them", identity=False)
    file: str = _option("", "one CSV or FASTA file in that folder, where not the usual ones", identity=False)
    duplicates: str = _option("refuse", "a sequence twice in one split: refuse the file, or keep the first of them")

    model: str = _option("transformer", "transformer (from scratch), esm, tape, antiberty, esm-if1 or proteinmpnn")
    pretrained: str = _option(
        "", "file or folder of weights, not with task.hub; its content is fingerprinted", identity=False
    )
    hub: str = _option("", "name of pretrained weights on a hub, for example facebook/esm2_t6_8M_UR50D")
    recompute: bool = _option(
        False, "compute activations again in the backward pass: less memory, a third more time", identity=False
    )
    width: int = _option(32, "transformer: numbers per residue")
    layers: int = _option(2, "transformer: layers")
    heads: int = _option(4, "transformer: attention heads; must divide the width into an even number")
    dropout: float = _option(0.0, "share of values dropped, in the transformer's layers and before the head")
    head: str = _option("linear", "linear, or hidden: a layer of task.hidden units with normalisation before it")
    hidden: int = _option(512, "head=hidden: its units")
    pooling: str = _option("mean", "mean over residues, or first: the special token before them")
    backbone_rate: float = _option(1.0, "the backbone's learning rate as a factor on run.learning_rate, the head's")
    length: int = _option(0, "residues that are read of a sequence; 0: 512 of transformer, 510 of antiberty, else 1022")
    crop: str = _option("start", "what is kept of a longer sequence: start, or ends (half from either end)")
    pools: int = _option(16, "batches by length: so many batches are filled from one sorted pool; 1: at random")


CHOICES = {
    "dataset": tuple(targets),
    "target": ("", "class", "temperature"),
    "model": models,
    "duplicates": ("refuse", "first"),
    "head": ("linear", "hidden"),
    "pooling": ("mean", "first"),
    "crop": ("start", "ends"),
}
AT_LEAST = {
    "fold": -1, "validation": -1, "width": 1, "layers": 1, "heads": 1, "hidden": 1, "length": 0, "pools": 1
}  # fmt: skip


def validate(config: Config) -> list[str]:
    """Every complaint about ``config`` at once, each a sentence; an empty list when there is none."""
    found = []
    for name, valid in CHOICES.items():
        if getattr(config, name) not in valid:
            found.append(_unknown(name, getattr(config, name), valid))
    for name, least in AT_LEAST.items():
        if getattr(config, name) < least:
            found.append(f"task.{name} must be at least {least}, found {getattr(config, name)}")
    if config.fold >= folds:
        found.append(f"task.fold must be 0-{folds - 1}, or -1 for the run's seed, found {config.fold}")
    if not all(math.isfinite(one) for one in config.boundaries):
        found.append(f"task.boundaries must be finite, found {config.boundaries}")
    elif config.boundaries != sorted(set(config.boundaries)):
        found.append(f"task.boundaries must rise, found {config.boundaries}")
    if config.boundaries and (config.target or targets.get(config.dataset)) == "temperature":
        found.append(f"task.boundaries is {config.boundaries}, but task.target=temperature has no classes to divide")
    if config.head != "hidden" and config.hidden != Config.hidden:
        found.append(
            f"task.hidden is {config.hidden}, but task.head={config.head} has no hidden layer; task.head=hidden?"
        )
    if not 0 <= config.dropout < 1:
        found.append(f"task.dropout must lie in [0, 1), found {config.dropout}")
    if not config.backbone_rate > 0:
        found.append(
            f"task.backbone_rate must be above 0, found {config.backbone_rate}: nothing of the model is ever frozen"
        )
    return found + _of_model(config) + _of_files(config)


def _of_model(config: Config) -> list[str]:
    found = []
    if config.model in own_models:
        if config.heads > 0 and config.width % (2 * config.heads):
            found.append(
                f"task.width={config.width} must be a multiple of twice task.heads={config.heads}: positions turn "
                "pairs of each head's numbers"
            )
        for name in ("hub", "pretrained"):
            if getattr(config, name):
                value = getattr(config, name)
                found.append(f"task.{name} is '{value}', but task.model={config.model} is trained from scratch")
        if config.pooling == "first":
            found.append(f"task.pooling=first needs a special token before the residues, {config.model} has none")
    if config.model in own_models or config.model not in models:
        return found
    for name in ("width", "layers", "heads"):
        if getattr(config, name) != getattr(Config, name):
            found.append(
                f"task.{name} is {getattr(config, name)}, but the pretrained weights of task.model={config.model} "
                f"decide that; leave it at {getattr(Config, name)}"
            )
    if config.hub and config.model != "esm":
        found.append(f"task.hub is '{config.hub}', but task.model={config.model} is on no hub; task.hub= empties it")
    elif config.hub and config.pretrained:
        found.append(
            f"task.hub is '{config.hub}' and task.pretrained '{config.pretrained}', and only one can be loaded; "
            "task.hub= empties the first, task.pretrained= the second"
        )
    return found


def _of_files(config: Config) -> list[str]:
    found = []
    for name in ("data", "file"):
        if config.dataset == "generated" and getattr(config, name):
            found.append(
                f"task.{name} is '{getattr(config, name)}', but the generated sequences need no files; choose the data "
                f"set too: task.dataset={', '.join(sorted(set(targets) - {'generated'}))}"
            )
    if Path(config.file).name != config.file:
        found.append(f"task.file is '{config.file}'; expected a file's name, its folder is task.data (DATA=)")
    return found


def target(config: Config) -> str:
    """class or temperature."""
    return config.target or targets[config.dataset]


def pretrained(config: Config) -> bool:
    """Does training start from pretrained weights? Those of some models come with a package, and are not named."""
    return config.model not in own_models


def limits(config: Config) -> list[float]:
    """The temperatures at which a class begins, rising; there is one class more."""
    return list(config.boundaries or boundaries[config.dataset])


def classes(config: Config) -> int:
    """The number of classes; 1 where a temperature is predicted."""
    return len(limits(config)) + 1 if target(config) == "class" else 1


def folder(config: Config) -> Path:
    """Where the files are looked for: ``task.data``, or else the folder that `make prepare` fills."""
    return Path(config.data).expanduser() if config.data else Path("data") / "protein" / config.dataset


def _unknown(what: str, name: str, valid) -> str:
    near = difflib.get_close_matches(str(name), [v for v in valid if v], n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"task.{what} is '{name}', which is none of {', '.join(v for v in valid if v)}{hint}"
