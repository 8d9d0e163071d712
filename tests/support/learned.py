"""For tests of what methods learn beside the weights."""

from tests.support.training import Toy

LEARNED = ("l0", "variational_dropout")


class Double(Toy):
    """In float64, so that the order of additions does not show."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.inputs, self.targets = self.inputs.double(), self.targets.double()

    def build(self):
        return super().build().double()
