"""Gradual magnitude pruning: sparsity rises along a cubic while training (Zhu and Gupta, 2017)."""

from dataclasses import dataclass

from common.methods.families import gradual
from common.methods.families.base import allocated


@dataclass
class Config(gradual.ByMagnitude):
    allocation: str = allocated()


class Method(gradual.MagnitudeMethod):
    Config = Config
    facts = gradual.MagnitudeMethod.facts
