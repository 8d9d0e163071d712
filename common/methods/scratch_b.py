"""Scratch-B: gradual pruning's mask on a fresh initialisation, trained twice as long (Gale, Elsen and Hooker, 2019).

Liu et al. (ICLR 2019), whose name it is, train for as much computation as the dense network takes: more steps the
fewer operations are left, which dense tensors with zeros do not save here. The learning-rate schedule is stretched over
the longer training (the variant Gale et al., 2019, found best).
"""

from common.methods.families.found_mask import Scratch


class Method(Scratch):
    facts = Scratch.facts
    times = 2
