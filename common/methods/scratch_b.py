"""Scratch-B: gradual pruning's mask on a fresh initialisation, trained twice as long (Liu et al., ICLR 2019).

The learning-rate schedule is stretched over the longer training (the variant Gale et al., 2019, found best).
"""

from common.methods.families.found_mask import Scratch


class Method(Scratch):
    facts = Scratch.facts
    times = 2
