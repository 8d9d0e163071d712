"""The ticket's control: IMP's masks on a fresh random initialisation (Frankle and Carbin, 2019)."""

from common.methods.families.rounds import State, Tickets


class Method(Tickets):
    facts = Tickets.facts.but(paper="control of `imp`: Frankle and Carbin, ICLR 2019, arXiv:1803.03635", choosing=9)

    def complaints(self) -> list[str]:
        found, policy = super().complaints(), self.config.retrain
        if policy != "full":
            found.append(f"a fresh initialisation has no weights to keep: method.retrain must be full, found {policy}")
        return found

    def budget(self, steps: int) -> int:
        return steps  # a fresh initialisation begins at the beginning, wherever the rounds before it went back to

    def go_back(self, state: State) -> None:
        state.load(state.initialise("reinitialise"))
