"""Scratch-E: gradual pruning's mask on a fresh initialisation, trained for as many steps (Liu et al., ICLR 2019)."""

from common.methods.families.found_mask import Scratch


class Method(Scratch):
    facts = Scratch.facts
