"""One-shot magnitude pruning after training, without retraining: the trained network is scored as it was pruned.

How much of a trained network is spare: the curve falls slowly up to some sparsity and much faster beyond it, and ``make
report`` finds that corner (``launch/report/knee.py``). So the abstract of Jaiswal, Liu, Chen and Wang (NeurIPS 2023)
defines essential sparsity, in as many words; their experiments prune pretrained networks and fine-tune what is left,
which is ``essential``. As ``omp_after`` with ``method.retrain=none``, under a name of its own.
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
        paper="a control: the abstract of Jaiswal et al., NeurIPS 2023, arXiv:2306.03805",
        schedule="once",
        cost="",
        memory={},
    )
