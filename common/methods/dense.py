"""Dense training: the reference line, and the shared parent of everything that prunes after training."""

from common import method


class Method(method.Method):
    keeps_snapshots = True  # rewinding goes back to this stage's early weights
