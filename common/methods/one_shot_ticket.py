"""One-shot tickets: prune the dense network once, rewind the survivors, train again (Frankle and Carbin, ICLR 2019)."""

from dataclasses import dataclass

from common import sparsity as sp
from common.method import option
from common.retraining import AfterTraining, Retraining


@dataclass
class Config(Retraining):
    allocation: str = option("global", "global, uniform, erk, erk_plus or rows")
    rewind: str = option("0", "what survivors go back to: a step of the dense training, or 'pretrained'")


class Method(AfterTraining):
    Config = Config

    def complaints(self):
        found, c = super().complaints(), self.config
        if c.retrain != "full":
            found.append("a ticket trains over the whole schedule; for retrain=weights and others use METHOD=omp_after")
        if c.rewind != "pretrained" and not c.rewind.isdecimal():
            found.append(f"method.rewind must be a step (0, 1, 2, ...) or 'pretrained', found {c.rewind!r}")
        return found

    def complaints_for(self, steps):
        if self.config.rewind.isdecimal() and int(self.config.rewind) > steps:
            return [f"method.rewind={self.config.rewind} is beyond the {steps} steps of the dense training"]
        return []

    def masks(self, state):
        pools = sp.allocate(self.config.allocation, state.weights, self.config.sparsity)
        return sp.select(sp.magnitude(state.weights), pools)

    def restart(self, state):
        state.load(state.parent.rewound(self.config.rewind))
