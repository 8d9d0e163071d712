"""Variational dropout: learn how noisy each weight may be, keep the least noisy (Molchanov et al., ICML 2017).

Weights have a learned variance; the loss is the mean over examples of the task's plus ``strength / examples`` times the
divergence of all weights from a log-uniform prior. At strength 1 that is the variational lower bound. As in The State
of Sparsity (Gale et al., 2019) the penalty grows during training. The paper keeps what has log alpha below a threshold,
and sparsity is an outcome; here the noisiest weights go until the target is met, exactly, and what the threshold
would have removed is measured: ``learned_sparsity``. Where that is far below the target, the cut breaks the network:
raise ``strength``. With few examples the bound itself prunes far and fits badly: where accuracy at moderate sparsity is
wanted, lower it. ``rate`` is for Adam, which does not see how small the penalty of a single weight is.

Weights of recurrent layers are drawn themselves, once a batch for all steps of the sequences (Lobacheva, Chirkova and
Vetrov, 2017, draw once a sequence); the outputs of all other layers are drawn for each example.
"""

from dataclasses import dataclass

from common import sparsity as sp
from common.errors import UserError
from common.methods.families.learned import LearnedSparsity, Regularised, State, Tensor
from common.settings.schema import option


@dataclass
class Config(Regularised):
    strength: float = option(1.0, "factor on the divergence; at 1 the loss is the variational lower bound", least=0)
    rate: float = option(3.0, "factor on the learning rate of log variances (sgd needs thousands)", above=0)
    log_variance: float = option(-10.0, "what these start from", least=-100, most=100, because="it is a logarithm")
    threshold: float = option(3.0, "log alpha above which all is noise; the cut does without", least=-100, most=100)


class Method(LearnedSparsity):
    Config = Config
    facts = LearnedSparsity.facts.but(
        paper="Molchanov et al., ICML 2017, arXiv:1701.05369; Gale et al., 2019, arXiv:1902.09574",
        score="-log alpha: learned noise, as a share of the weight",
        choosing=12,
        cost="a step takes every product of the forward and the backward pass twice; a target acts at the last step "
        "alone, yet each is trained anew",
    )

    def attach(self, state: State) -> None:
        for name, weight in state.weights.items():
            start = sp.starting_log_variance(weight, self.config.log_variance)
            state.learn(f"log_variance/{name}", start, scale=self.config.rate)
        variances, recurrent = self.log_variances(state), sp.recurrent(state.model, state.weights)
        if recurrent:  # an output of theirs is not linear in them
            state.reparametrise(lambda: {name: sp.noisy(state.weights[name], variances[name]) for name in recurrent})
        try:
            local = {name: weight for name, weight in state.weights.items() if name not in recurrent}
            self.local = sp.LocalNoise(state.model, local, variances)
        except ValueError as error:
            raise self.impossible(error) from None

    @staticmethod
    def impossible(error: ValueError) -> UserError:
        return UserError(f"variational dropout: {error}; leave this weight dense (run.exclude) or take another method")

    @staticmethod
    def log_variances(state: State) -> dict[str, Tensor]:
        return {name: state.learned[f"log_variance/{name}"] for name in state.weights}

    def price(self, state: State) -> Tensor | float:
        try:
            self.local.check()  # the forward pass of this step was the first chance to see it
        except ValueError as error:
            raise self.impossible(error) from None
        variances = self.log_variances(state)
        return sum(sp.divergence(sp.log_alpha(w, variances[name])).sum() for name, w in state.weights.items())

    def deployed(self, state: State) -> dict[str, Tensor]:
        kept = self.below_threshold(state)
        return {name: weight.detach() * kept[name] for name, weight in state.weights.items()}

    def below_threshold(self, state: State) -> dict[str, Tensor]:
        variances = self.log_variances(state)
        return {n: sp.log_alpha(w, variances[n]).detach() <= self.config.threshold for n, w in state.weights.items()}

    def finish(self, state: State) -> float:
        kept = sum(int(living.sum()) for living in self.below_threshold(state).values())
        least_noisy = sp.Score(lambda w, v: -sp.log_alpha(w, v), state.weights, self.log_variances(state))
        state.set_masks(self.choose(state, least_noisy))
        return (state.masks.total - kept) / state.masks.total
