"""A ticket from gradual pruning: its final mask on the weights its training began with (Gale et al., 2019, sec. 5)."""

from common.methods.families.found_mask import FromGradual, State


class Method(FromGradual):
    facts = FromGradual.facts

    def start(self, state: State) -> None:
        state.load(state.starting_weights())
        state.set_masks(state.parent.masks())
