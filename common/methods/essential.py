"""Essential sparsity: the smallest weights of a pretrained network go in one shot, and the others are fine-tuned.

Jaiswal, Liu, Chen and Wang, *The Emergence of Essential Sparsity in Large Pre-trained Models* (NeurIPS 2023), in the
order of the authors' code: masks are chosen by the magnitude of the pretrained weights, over all layers together and
before anything is learned of the task; then the task is trained under them. Up to some sparsity next to nothing is
lost, beyond it the score falls much faster. That corner belongs to the curve, not to one stage: ``make report`` finds
it (``launch/report/knee.py``). A task that starts from random weights is refused: their magnitude is another question,
that of ``omp_before``. A network that is pruned after its training and scored as it is: ``omp_no_retraining``.

Deviation: the code prunes the matrices of attention and feed-forward layers, which is the task's choice here
(``run.exclude``).
"""

from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.before_training import Allocated, BeforeTraining, Score, State, allocated


@dataclass
class Config(Allocated):
    allocation: str = allocated(choices=("global", "uniform"))


class Method(BeforeTraining):
    Config = Config
    version = 2  # 1 pruned the network trained on the task and scored it as it was: omp_no_retraining
    needs_pretrained = True
    facts = BeforeTraining.facts.but(
        paper="Jaiswal et al., NeurIPS 2023, arXiv:2306.03805", score="magnitude of the pretrained weights", choosing=6
    )

    def score(self, state: State) -> Score:
        return sp.magnitude(state.weights)
