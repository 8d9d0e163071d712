"""Dense training: the reference line, and the shared parent of everything that prunes after training."""

from common import method
from common.facts import NEVER, Facts


class Method(method.Method):
    keeps_snapshots = True  # rewinding goes back to this stage's early weights
    facts = Facts(paper="none: the reference line", when=NEVER, score="none", schedule="dense", allocation="none")
