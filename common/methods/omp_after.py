"""One-shot magnitude pruning after dense training, then retraining (Han et al., 2015; policies: Renda et al., 2020)."""

from common.retraining import MagnitudeAfterTraining


class Method(MagnitudeAfterTraining):
    pass
