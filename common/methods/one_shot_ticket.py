"""One-shot tickets: prune the dense network once, rewind the survivors, train again (Frankle and Carbin, ICLR 2019)."""

from dataclasses import dataclass

from common.method import option
from common.retraining import (
    MagnitudeAfterTraining,
    MagnitudeRetraining,
    rewind_complaints,
    rewind_complaints_for,
)


@dataclass
class Config(MagnitudeRetraining):
    rewind: str = option("0", "what survivors go back to: a step of the dense training, or 'pretrained'")


class Method(MagnitudeAfterTraining):
    Config = Config

    def complaints(self):
        found, c = super().complaints(), self.config
        if c.retrain != "full":
            found.append("a ticket trains over the whole schedule; for retrain=weights and others use METHOD=omp_after")
        return found + rewind_complaints(c.rewind)

    def complaints_for(self, steps):
        return rewind_complaints_for(self.config.rewind, steps)

    def restart(self, state):
        state.load(state.parent.rewound(self.config.rewind))
