"""What can be set for the arithmetic task. Standard library only: this file is read before anything heavy is."""

import difflib
from dataclasses import dataclass, field
from pathlib import Path

version = 2  # 2: recurrent layers of one direction each, whose weights have other names

folds = {"generated": 1, "mawps": 5, "asdiv-a": 5, "svamp": 1}  # of each data set, as published; 1: one split, its own
models = ("gts", "graph2tree")
refuses = {"synflow": "its flow is not defined through gates and attention, where activations are multiplied"}


def _option(default, help: str, **metadata):
    return field(default=default, metadata={"help": help, **metadata})


@dataclass
class Config:
    dataset: str = _option("generated", "generated, mawps, asdiv-a or svamp (which trains on MAWPS and ASDiv-A)")
    fold: int = _option(
        0, "the fold that is tested, 0-4; -1: the run's seed modulo 5; svamp and generated have 0 alone", replicate=True
    )
    # Not part of the identity: the content is in the fingerprint.
    data: str = _option("", "folder with the data set's files; empty: where `make prepare` puts them", identity=False)
    unreadable: str = _option(
        "refuse", "rows that cannot be used: refuse them, naming each, or skip and count them", identity=False
    )
    protocol: str = _option(
        "validation",
        "what selects: validation (held out of training), or published (nothing held out, the evaluation fold selects)",
    )
    validation: int = _option(-1, "training problems held out for selection; -1: a tenth; with protocol=published none")
    least_count: int = _option(
        2, "words that occur less often in training are read as the unknown word, which is thereby trained"
    )
    least_constants: int = _option(
        1, "constants rarer than this in the training problems' equations cannot be answered"
    )

    model: str = _option("gts", "gts (recurrent encoder, tree decoder) or graph2tree (quantity graphs between the two)")
    embedding: str = _option("learned", "learned with the rest from scratch, or pretrained (task.hub, task.pretrained)")
    pretrained: str = _option(
        "", "embedding=pretrained: folder of weights, not with task.hub; its content is fingerprinted", identity=False
    )
    hub: str = _option("", "embedding=pretrained: name of weights on a hub, for example roberta-base")
    embedding_rate: float = _option(
        1.0, "embedding=pretrained: its learning rate as a factor on run.learning_rate, that of all other parts"
    )
    embedding_width: int = _option(128, "numbers per operator and, with embedding=learned, per word")
    width: int = _option(512, "numbers per word in the encoder and per goal in the decoder")
    cell: str = _option(
        "gru", "recurrent encoder: gru (the authors' of both models) or lstm (that of Patel et al., 2021)"
    )
    layers: int = _option(2, "layers of the recurrent encoder")
    dropout: float = _option(0.5, "share of values dropped, everywhere that the papers drop some")
    graph_heads: int = _option(4, "graph2tree: heads of the graph encoder, half a graph kind each; even, divides width")
    graph_layers: int = _option(1, "graph2tree: layers of the graph encoder")
    quantity_graph: str = _option(
        "paper",
        "graph2tree: quantities and their cells (paper), or equal words of all cells too (published, the code's)",
    )
    beam: int = _option(5, "trees that are searched side by side for an answer")
    longest: int = _option(45, "nodes that an answered tree may have")
    pools: int = _option(1, "batches at random (1), or by length: so many are filled from one sorted pool")


CHOICES = {
    "dataset": tuple(folds),
    "unreadable": ("refuse", "skip"),
    "protocol": ("validation", "published"),
    "model": models,
    "cell": ("gru", "lstm"),
    "quantity_graph": ("paper", "published"),
    "embedding": ("learned", "pretrained"),
}
AT_MOST = {"longest": 1000, "beam": 1000}  # of what a search keeps in memory for every problem
AT_LEAST = {
    "fold": -1, "validation": -1, "least_count": 1, "least_constants": 1, "embedding_width": 1, "width": 2,
    "layers": 1, "graph_heads": 2, "graph_layers": 1, "beam": 1, "longest": 1, "pools": 1,
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
    for name, most in AT_MOST.items():
        if getattr(config, name) > most:
            found.append(f"task.{name} must be at most {most}, found {getattr(config, name)}")
    count = folds.get(config.dataset, 1)
    if config.fold >= count or (config.fold and count == 1):
        known = f"0-{count - 1}, or -1 for the run's seed" if count > 1 else "0, its only split (task.fold=0)"
        found.append(f"task.fold of {config.dataset} must be {known}, found {config.fold}")
    if not 0 <= config.dropout < 1:
        found.append(f"task.dropout must lie in [0, 1), found {config.dropout}")
    if not config.embedding_rate > 0:
        found.append(
            f"task.embedding_rate must be above 0, found {config.embedding_rate}: nothing of the model is ever frozen"
        )
    if config.protocol == "published" and config.validation != -1:
        found.append(
            f"task.validation is {config.validation}, but task.protocol=published holds nothing out: the evaluation "
            "fold selects; leave task.validation at -1"
        )
    if config.dataset == "generated" and config.data:
        found.append(
            f"task.data is '{config.data}', but the generated problems need no files; choose the data set too: "
            f"task.dataset={', '.join(name for name in folds if name != 'generated')}"
        )
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
    elif config.embedding == "pretrained" and config.hub and config.pretrained:
        found.append(
            f"task.hub is '{config.hub}' and task.pretrained '{config.pretrained}', and only one can be loaded; "
            "task.hub= empties the first, task.pretrained= the second"
        )
    return found


def fold(config: Config, seed: int) -> int:
    """The fold that a run of this seed tests."""
    return seed % folds[config.dataset] if config.fold == -1 else config.fold


def folder(config: Config) -> Path:
    """Where the files are looked for: ``task.data``, or else the folder that `make prepare` fills."""
    return Path(config.data).expanduser() if config.data else Path("data") / "arithmetic" / config.dataset


def _unknown(what: str, name: str, valid) -> str:
    near = difflib.get_close_matches(str(name).lower(), valid, n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"task.{what} is '{name}', which is none of {', '.join(valid)}{hint}"
