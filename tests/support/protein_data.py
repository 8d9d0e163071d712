"""For tests of the protein data: a small HP-S2C2 on disk, and how it is read."""

from tasks.protein.config import Config
from tasks.protein.files import datasets
from tests.support.protein_files import (
    made,
)

rows = made()


def s2c2(folder, **values) -> Config:
    return Config(dataset="hp-s2c2", data=str(folder), **values)


def one(config: Config) -> datasets.Source:
    (found,) = datasets.read(config).values()
    return found
