"""What can be set for the classic task. Nothing heavy is imported: this file is read before anything else is."""

from dataclasses import dataclass
from pathlib import Path

from common.settings import task
from common.settings.schema import option

version = 1  # raised when a fix changes results, so that old results are not taken for new ones

# Per data set: image shape (channels, height, width) and the examples that training and validation share
# (for MNIST and CIFAR-10 the published training set; for digits what our fixed test split leaves).
shapes = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
available = {"digits": 1437, "mnist": 60_000, "cifar10": 50_000}
classes = 10  # of each data set
smallest_validation = 10  # one example a class; fewer would make selection a coin toss


@dataclass
class Config:
    dataset: str = option("digits", "images", choices=tuple(shapes))
    model: str = option("lenet-300-100", "network", choices=("lenet-300-100", "resnet-20"))
    data: str = task.data_folder()
    validation: int = option(180, "examples taken from the training set for selection")
    augment: bool = option(False, "random crop (4 pixels of padding) and flip; cifar10 only")
    # No part of the identity: the content of the file is in the fingerprint.
    pretrained: str = option("", "file (a state dict) to start from; empty: random initialisation", identity=False)


def validate(config: Config) -> list[str]:
    """What is wrong with how the settings go together, all of it at once, each a sentence."""
    found, dataset = [], config.dataset
    most = available.get(dataset, max(available.values())) - smallest_validation
    if not smallest_validation <= config.validation <= most:
        between = f"between {smallest_validation} and {most}"
        found.append(f"task.validation is {config.validation}; for {dataset} it must lie {between}")
    if config.augment and dataset in ("digits", "mnist"):
        found.append(f"task.augment is for cifar10 only: a mirrored digit is another sign, and this is {dataset}")
    why = "the digits come with scikit-learn and need no folder"
    return found + task.unneeded_files(config, "digits", why, "data")


def folder(config: Config) -> Path:
    """Where the files are looked for."""
    return task.folder("classic", config)
