"""One-shot magnitude pruning after dense training, then retraining (Han et al., 2015; policies: Renda et al., 2020)."""

from common.methods.families.after_training import MagnitudeAfterTraining


class Method(MagnitudeAfterTraining):
    facts = MagnitudeAfterTraining.facts.but(
        paper="Han et al., NeurIPS 2015, arXiv:1506.02626; Renda, Frankle and Carbin, ICLR 2020, arXiv:2003.02389"
    )
