"""The ticket's control: IMP's masks on a fresh random initialisation (Frankle and Carbin, 2019, section 2)."""

from common.tickets import Tickets


class Method(Tickets):
    def restart(self, state):
        state.load(state.initialise("reinitialise"))
