"""What can be set for the protein task. Nothing heavy is imported: this file is read before anything else is."""

import math
from dataclasses import dataclass
from pathlib import Path

from common.settings import task
from common.settings.schema import option

version = 1

# What a data set is for when task.target is empty, and where its classes divide the temperatures (degrees Celsius): a
# boundary belongs to the class above it. HotProtein's five are cryophilic, psychrophilic, mesophilic, thermophilic and
# hyperthermophilic; HP-S2C2 keeps the question below or at least 75.
targets = {"generated": "class", "hp-s": "class", "hp-s2c2": "class", "hp-s2c5": "class", "meltome": "temperature"}
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
pretrained_models = ("esm", "tape", "antiberty", "esm-if1", "proteinmpnn")
structure_models = ("esm-if1", "proteinmpnn")
refuses = {"synflow": "its flow is not defined through attention, where queries and keys are multiplied"}


@dataclass
class Config:
    dataset: str = option("generated", "sequences", choices=tuple(targets))
    target: str = option(
        "",
        "what is predicted",
        choices={"": "temperature for meltome, class for the others", "class": "", "temperature": ""},
    )
    boundaries: list[float] = option([], "degrees at which a class begins; empty: the data set's own")
    fold: int = option(
        0,
        "the part that is tested; -1: the run's seed says (its last digit)",
        least=-1,
        most=folds - 1,
        because="-1 stands for the run's seed",
        replicate=True,
    )
    validation: int = option(-1, "held out for selection; -1: those the file marks, or a tenth of the rest", least=-1)
    data: str = task.data_folder()
    file: str = option("", "one CSV or FASTA file in that folder, where not the usual ones", identity=False)
    duplicates: str = option(
        "refuse",
        "what to do about a sequence that occurs twice in one split",
        choices={"refuse": "the file", "first": "keep that one"},
    )

    model: str = option(
        "transformer", "network", choices={"transformer": "from scratch", **dict.fromkeys(pretrained_models, "")}
    )
    pretrained: str = option("", "file or folder of weights, fingerprinted; or task.hub", identity=False)
    hub: str = option("", "name of pretrained weights on a hub, for example facebook/esm2_t6_8M_UR50D")
    recompute: bool = option(False, "compute activations twice: less memory, a third more time", identity=False)
    width: int = option(32, "transformer: numbers per residue", least=1, most=65536)
    layers: int = option(2, "transformer: layers", least=1, most=1000)
    heads: int = option(
        4, "transformer: attention heads; must divide the width into an even number", least=1, most=1024
    )
    dropout: float = option(0.0, "share dropped, in the transformer's layers and before the head", least=0, below=1)
    head: str = option(
        "linear",
        "what predicts from the representation",
        choices={"linear": "", "hidden": "a layer of task.hidden units with normalisation before it"},
    )
    hidden: int = option(512, "head=hidden: its units", least=1, most=65536)
    pooling: str = option(
        "mean",
        "how a sequence becomes one vector",
        choices={"mean": "over residues", "first": "the special token before them"},
    )
    backbone_rate: float = option(
        1.0,
        "the backbone's learning rate as a factor on run.learning_rate, the head's",
        above=0,
        because="nothing of the model is ever frozen",
    )
    length: int = option(0, "residues read of a sequence; 0: transformer 512, antiberty 510, else 1022", least=0)
    crop: str = option("start", "what is kept of a longer one", choices={"start": "", "ends": "half from either end"})
    pools: int = option(16, "batches by length: so many batches are filled from one sorted pool; 1: at random", least=1)


def validate(config: Config) -> list[str]:
    """What is wrong with how the settings go together, all of it at once, each a sentence."""
    found = []
    if all(map(math.isfinite, config.boundaries)) and config.boundaries != sorted(set(config.boundaries)):
        found.append(f"task.boundaries must rise, found {config.boundaries}")
    if config.boundaries and (config.target or targets.get(config.dataset)) == "temperature":
        found.append(f"task.boundaries is {config.boundaries}, but task.target=temperature has no classes to divide")
    if config.head != "hidden" and config.hidden != Config.hidden:
        no = f"task.head={config.head} has no hidden layer"
        found.append(f"task.hidden is {config.hidden}, but {no}; task.head=hidden?")
    if Path(config.file).name != config.file:
        found.append(f"task.file is '{config.file}'; expected a file's name, its folder is task.data (DATA=)")
    embedded = "the generated sequences need no files"
    return found + _of_model(config) + task.unneeded_files(config, "generated", embedded, "data", "file")


def _of_model(config: Config) -> list[str]:
    found = []
    if config.model in own_models:
        if config.heads > 0 and config.width % (2 * config.heads):
            found.append(
                f"task.width={config.width} must be a multiple of twice task.heads={config.heads}: positions turn "
                "pairs of each head's numbers"
            )
        for name in ("hub", "pretrained"):
            if value := getattr(config, name):
                found.append(f"task.{name} is '{value}', but task.model={config.model} is trained from scratch")
        if config.pooling == "first":
            found.append(f"task.pooling=first needs a special token before the residues, {config.model} has none")
    if config.model not in pretrained_models:
        return found
    for name in ("width", "layers", "heads"):
        if getattr(config, name) != getattr(Config, name):
            found.append(
                f"task.{name} is {getattr(config, name)}, but the pretrained weights of task.model={config.model} "
                f"decide that; leave it at {getattr(Config, name)}"
            )
    if config.hub and config.model != "esm":
        found.append(f"task.hub is '{config.hub}', but task.model={config.model} is on no hub; task.hub= empties it")
        return found
    return found + task.two_sources(config)


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
    """Where the files are looked for."""
    return task.folder("protein", config)
