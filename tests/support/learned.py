"""For tests of what methods learn beside the weights."""

import torch

from tests.support.training import Toy

LEARNED = ("l0", "variational_dropout")


class Double(Toy):
    """In float64, so that the order of additions does not show."""

    kind = torch.float64

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.inputs, self.targets = self.inputs.to(self.kind), self.targets.to(self.kind)

    def build(self):
        return super().build().to(self.kind)


class Half(Double):
    """With parameters of bfloat16."""

    kind = torch.bfloat16
