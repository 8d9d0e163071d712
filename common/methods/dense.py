"""Dense training: the reference line, and the shared parent of everything that prunes after training."""

from common.methods.families import base
from common.methods.families.facts import NEVER, Facts


class Method(base.Method):
    keeps_snapshots = True  # rewinding goes back to this stage's early weights
    facts = Facts(paper="none: the reference line", when=NEVER, score="none", schedule="dense", allocation="none")
