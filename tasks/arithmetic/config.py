"""What can be set for the arithmetic task. Nothing heavy is imported: this file is read before anything else is."""

from dataclasses import dataclass
from pathlib import Path

from common.settings import task
from common.settings.schema import option

version = 2  # 2: recurrent layers of one direction each, whose weights have other names

folds = {"generated": 1, "mawps": 5, "asdiv-a": 5, "svamp": 1}  # of each data set, as published; 1: one split, its own
refuses = {"synflow": "its flow is not defined through gates and attention, where activations are multiplied"}


@dataclass
class Config:
    dataset: str = option("generated", "problems; svamp trains on MAWPS and ASDiv-A", choices=tuple(folds))
    fold: int = option(
        0, "fold that is tested, 0-4; -1: the seed modulo 5; svamp and generated have 0 alone", least=-1, replicate=True
    )
    data: str = task.data_folder()
    unreadable: str = option(
        "refuse",
        "what to do about rows that cannot be used",
        choices={"refuse": "naming each", "skip": "and count them"},
        identity=False,
    )
    protocol: str = option(
        "validation",
        "what selects",
        choices={
            "validation": "problems held out of training",
            "published": "the evaluation fold, nothing is held out",
        },
    )
    validation: int = option(-1, "problems held out for selection; -1: a tenth; protocol=published: none", least=-1)
    least_count: int = option(2, "words rarer in training are read as the unknown word, to train that", least=1)
    least_constants: int = option(1, "constants rarer in the training equations cannot be answered", least=1)

    model: str = option(
        "gts",
        "network",
        choices={"gts": "recurrent encoder, tree decoder", "graph2tree": "quantity graphs between the two"},
    )
    embedding: str = option(
        "learned",
        "where the words' vectors come from",
        choices={"learned": "with the rest from scratch", "pretrained": "task.hub, task.pretrained"},
    )
    pretrained: str = option("", "embedding=pretrained: folder of weights, fingerprinted; or task.hub", identity=False)
    hub: str = option("", "embedding=pretrained: name of weights on a hub, for example roberta-base")
    embedding_rate: float = option(
        1.0,
        "embedding=pretrained: its learning rate as a factor on run.learning_rate, that of all other parts",
        above=0,
        because="nothing of the model is ever frozen",
    )
    embedding_width: int = option(
        128, "numbers per operator and, with embedding=learned, per word", least=1, most=65536
    )
    width: int = option(512, "numbers per word in the encoder and per goal in the decoder", least=2, most=65536)
    cell: str = option(
        "gru", "recurrent encoder", choices={"gru": "the authors' of both models", "lstm": "that of Patel et al., 2021"}
    )
    layers: int = option(2, "layers of the recurrent encoder", least=1, most=1000)
    dropout: float = option(0.5, "share of values dropped, everywhere that the papers drop some", least=0, below=1)
    graph_heads: int = option(
        4, "graph2tree: graph encoder's heads, half a kind each; even, divides width", least=2, most=1024
    )
    graph_layers: int = option(1, "graph2tree: layers of the graph encoder", least=1, most=1000)
    quantity_graph: str = option(
        "paper",
        "graph2tree: what the quantity graph joins",
        choices={"paper": "quantities and their cells", "published": "equal words of all cells too, as the code does"},
    )
    # most: a search keeps them in memory for every problem
    beam: int = option(5, "trees that are searched side by side for an answer", least=1, most=1000)
    longest: int = option(45, "nodes that an answered tree may have", least=1, most=1000)
    pools: int = option(1, "batches at random (1), or by length: so many are filled from one sorted pool", least=1)


def validate(config: Config) -> list[str]:
    """What is wrong with how the settings go together, all of it at once, each a sentence."""
    found, count = [], folds.get(config.dataset, 1)
    if config.fold >= count or (config.fold and count == 1):
        known = f"0-{count - 1}, or -1 for the run's seed" if count > 1 else "0, its only split (task.fold=0)"
        found.append(f"task.fold of {config.dataset} must be {known}, found {config.fold}")
    if config.protocol == "published" and config.validation != -1:
        found.append(
            f"task.validation is {config.validation}, but task.protocol=published holds nothing out: the evaluation "
            "fold selects; leave task.validation at -1"
        )
    found += task.unneeded_files(config, "generated", "the generated problems need no files", "data")
    return found + _of_model(config)


def _of_model(config: Config) -> list[str]:
    found = []
    if config.model == "gts" and config.quantity_graph == "published":
        found.append("task.quantity_graph=published is of task.model=graph2tree; gts reads no graph")
    if config.model == "graph2tree" and config.graph_heads > 0:
        if config.graph_heads % 2:
            found.append(f"task.graph_heads={config.graph_heads} must be even: half of them see each kind of graph")
        if config.width % config.graph_heads:
            found.append(f"task.graph_heads={config.graph_heads} must divide task.width={config.width}")
    if config.embedding == "learned":
        for name in ("hub", "pretrained"):
            if value := getattr(config, name):
                found.append(f"task.{name} is '{value}', but task.embedding=learned starts from scratch")
    elif config.embedding == "pretrained" and not (config.hub or config.pretrained):
        found.append("task.embedding=pretrained needs task.hub, for example roberta-base, or a folder task.pretrained")
    elif config.embedding == "pretrained":
        found += task.two_sources(config)
    return found


def pretrained(config: Config) -> bool:
    """Does training start from pretrained weights, of a folder or a hub?"""
    return config.embedding == "pretrained"


def fold(config: Config, seed: int) -> int:
    """The fold that a run of this seed tests."""
    return seed % folds[config.dataset] if config.fold == -1 else config.fold


def folder(config: Config) -> Path:
    """Where the files are looked for."""
    return task.folder("arithmetic", config)
