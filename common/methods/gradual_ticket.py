"""A ticket from gradual pruning: its final mask on the weights its training began with (Gale et al., 2019, sec. 5)."""

from common import method


class Method(method.Method):
    Config = method.Sparse

    def ancestors(self):
        return [("gmp", {"sparsity": self.config.sparsity})]

    def start(self, state):
        masks = state.parent.masks()
        state.load(state.starting_weights())
        state.set_masks(masks)
