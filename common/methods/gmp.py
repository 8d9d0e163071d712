"""Gradual magnitude pruning: sparsity rises along a cubic while training (Zhu and Gupta, 2017)."""

from dataclasses import dataclass

from common.methods.families import gradual
from common.settings.schema import option


@dataclass
class Config(gradual.ByMagnitude):
    allocation: str = option("global", "global, uniform, erk, erk_plus or rows")


class Method(gradual.MagnitudeMethod):
    Config = Config
    facts = gradual.MagnitudeMethod.facts
