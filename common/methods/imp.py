"""IMP: train, prune the smallest, rewind the survivors, repeat (Frankle and Carbin, 2019; Frankle et al., 2020)."""

from common.methods.families.rounds import State, Tickets


class Method(Tickets):
    facts = Tickets.facts

    def go_back(self, state: State) -> None:
        state.load(state.parent.rewound(self.config.rewind))
