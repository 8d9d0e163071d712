"""What the settings of several tasks have in common. Read before anything heavy is: no library is imported."""

import dataclasses
from pathlib import Path
from typing import Any

from common.settings.schema import option


def data_folder() -> Any:
    """The setting ``data``. It names no stage: the same files elsewhere are the same data, and are fingerprinted."""
    return option("", "folder with the data set's files; empty: where `make prepare` puts them", identity=False)


def folder(task: str, config: Any) -> Path:
    """Where the files are looked for: ``task.data``, or else the folder that `make prepare` fills."""
    return Path(config.data).expanduser() if config.data else Path("data") / task / config.dataset


def unneeded_files(config: Any, embedded: str, why: str, *names: str) -> list[str]:
    """Complaints where a setting of ``names`` gives files and the data set is the ``embedded`` one, which has none."""
    if config.dataset != embedded:
        return []
    (dataset,) = (one for one in dataclasses.fields(config) if one.name == "dataset")
    others = ", ".join(name for name in dataset.metadata["choices"] if name != embedded)
    return [
        f"task.{name} is '{value}', but {why}; choose the data set too: task.dataset={others}"
        for name in names
        if (value := getattr(config, name))
    ]


def two_sources(config: Any) -> list[str]:
    """A complaint where pretrained weights are named twice."""
    if not (config.hub and config.pretrained):
        return []
    return [
        f"task.hub is '{config.hub}' and task.pretrained '{config.pretrained}', and only one can be loaded; "
        "task.hub= empties the first, task.pretrained= the second"
    ]
