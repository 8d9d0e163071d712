"""Gradual magnitude pruning: sparsity rises along a cubic while training (Zhu and Gupta, 2017)."""

from dataclasses import dataclass

from common.methods.families.base import allocated
from common.methods.families.gradual import ByMagnitude, GradualMagnitudePruning


@dataclass
class Config(ByMagnitude):
    allocation: str = allocated()


class Method(GradualMagnitudePruning):
    Config = Config
    facts = GradualMagnitudePruning.facts
