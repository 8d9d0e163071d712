"""Pruning the starting weights once, before the first training step; shared by scores and their controls."""

from dataclasses import dataclass

from common.methods.families import base
from common.methods.families.facts import BEFORE, Facts


@dataclass
class Config(base.Sparse):
    allocation: str = base.allocated()


class Method(base.Method):
    """Subclasses set the masks in ``start``."""

    Config = Config
    facts = Facts(paper="", when=BEFORE, score="", schedule="once")
