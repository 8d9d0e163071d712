"""What can be set for the classic task. Standard library only: this file is read before anything heavy is."""

import difflib
from dataclasses import dataclass, field
from pathlib import Path

version = 1  # raised when a fix changes results, so that old results are not taken for new ones

# Per data set: image shape (channels, height, width) and the examples that training and validation share
# (for MNIST and CIFAR-10 the published training set; for digits what our fixed test split leaves).
shapes = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
available = {"digits": 1437, "mnist": 60_000, "cifar10": 50_000}
models = ("lenet-300-100", "resnet-20")
smallest_validation = 10  # one example a class; fewer would make selection a coin toss


@dataclass
class Config:
    dataset: str = field(default="digits", metadata={"help": "digits, mnist or cifar10"})
    model: str = field(default="lenet-300-100", metadata={"help": "lenet-300-100 or resnet-20"})
    # Not part of the identity: the same files in another folder are the same data (their fingerprint is recorded).
    data: str = field(
        default="",
        metadata={"help": "folder with the data set's files; empty: where `make prepare` puts them", "identity": False},
    )
    validation: int = field(default=180, metadata={"help": "examples taken from the training set for selection"})
    augment: bool = field(default=False, metadata={"help": "random crop (4 pixels of padding) and flip; cifar10 only"})
    # Not part of the identity either: the content of the file is in the fingerprint.
    pretrained: str = field(
        default="",
        metadata={"help": "weights file (a state dict) to start from; empty: random initialisation", "identity": False},
    )


def validate(config: Config) -> list[str]:
    """Every complaint about ``config`` at once, each a sentence; an empty list when there is none."""
    complaints = []
    if config.dataset not in shapes:
        complaints.append(_unknown("dataset", config.dataset, shapes))
    if config.model not in models:
        complaints.append(_unknown("model", config.model, models))
    most = available.get(config.dataset, max(available.values())) - smallest_validation
    if not smallest_validation <= config.validation <= most:
        complaints.append(
            f"task.validation is {config.validation}; for {config.dataset} it must lie between "
            f"{smallest_validation} and {most}"
        )
    if config.augment and config.dataset in ("digits", "mnist"):
        complaints.append(
            f"task.augment is for cifar10 only: a mirrored digit is another sign, and this is {config.dataset}"
        )
    if config.data and config.dataset == "digits":
        complaints.append(
            f"task.data is '{config.data}', but the digits come with scikit-learn and need no folder; "
            "choose the data set too: task.dataset=mnist or task.dataset=cifar10"
        )
    return complaints


def classes(config: Config) -> int:
    """The number of classes: ten in each of the three data sets."""
    return 10


def input_shape(config: Config) -> tuple[int, int, int]:
    """Channels, height and width of one image."""
    return shapes[config.dataset]


def folder(config: Config) -> Path:
    """Where the files are looked for: ``task.data``, or else the folder that `make prepare` fills."""
    return Path(config.data).expanduser() if config.data else Path("data") / "classic" / config.dataset


def _unknown(what: str, name: str, valid) -> str:
    near = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"task.{what} is '{name}', which is none of {', '.join(valid)}{hint}"
