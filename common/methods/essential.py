"""Essential sparsity: the smallest weights of a trained network go in one shot, and it is scored as it is.

Jaiswal, Liu, Chen and Wang, *The Emergence of Essential Sparsity in Large Pre-trained Models* (NeurIPS 2023): up to
some sparsity next to nothing is lost, beyond it the score falls much faster. That corner belongs to the curve, not to
one stage: ``make report`` finds it (``launch/report/knee.py``). The network pruned here is the one trained on the task;
to prune a pretrained network and fine-tune what is left, take ``omp_before`` with ``task.pretrained``.
"""

from dataclasses import dataclass

from common.methods.families.after_training import MagnitudeAfterTraining, MagnitudeRetraining, allocated
from common.settings.schema import option


@dataclass
class Config(MagnitudeRetraining):
    allocation: str = allocated(choices=("global", "uniform"))
    retrain: str = option(
        "none",
        "how the survivors are trained",
        choices={"none": "not at all: pruned and scored"},
        because="for retraining use METHOD=omp_after",
    )


class Method(MagnitudeAfterTraining):
    Config = Config
    facts = MagnitudeAfterTraining.facts.but(
        paper="Jaiswal et al., NeurIPS 2023, arXiv:2306.03805", schedule="once", cost="", memory={}
    )
