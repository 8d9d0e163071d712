"""One-shot tickets: prune the dense network once, rewind the survivors, train again (Frankle and Carbin, ICLR 2019)."""

from dataclasses import dataclass

from common.methods.families.after_training import MagnitudeAfterTraining, MagnitudeRetraining, Rewound, State
from common.settings.schema import option


@dataclass
class Config(MagnitudeRetraining):
    rewind: str = option(
        "0", "what survivors go back to: a step of the dense training, whose rest they train anew, or 'pretrained'"
    )


class Method(Rewound, MagnitudeAfterTraining):
    Config = Config
    version = 2  # 1 replayed the whole schedule from late weights too
    facts = MagnitudeAfterTraining.facts.but(
        paper="Frankle and Carbin, ICLR 2019, arXiv:1803.03635; Frankle et al., ICML 2020, arXiv:1912.05671",
        schedule="once, before training again",
    )

    def complaints(self) -> list[str]:
        found, c = super().complaints(), self.config
        if c.retrain != "full":
            found.append("a ticket trains by method.rewind; for retrain=weights and others use METHOD=omp_after")
        return found

    def restart(self, state: State) -> None:
        state.load(state.parent.rewound(self.config.rewind))
