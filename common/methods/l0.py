"""L0 regularisation: a learned random gate on each weight, open at a price (Louizos, Welling and Kingma, ICLR 2018).

Training uses weight times gate, a gate drawn for every weight and forward pass from its hard concrete distribution; the
loss is the mean over examples of the task's plus ``strength / examples`` times the expected number of open gates. The
paper lets the weights of an input share a gate; a gate for every weight is The State of Sparsity's form (Gale et al.,
2019). Sparsity is an outcome in both; here the weights with the lowest log odds go until the target is met exactly, and
what the gates alone would have closed is measured: ``learned_sparsity``. The rest is multiplied by its gate. Where more
gates are closed than the target asks for, the best of these weights live by the target: they get the mean of their
sampled gates, which is small and never zero, so that the target is the share of zeros. Where far fewer are closed, the
cut breaks the network: raise ``strength``. ``rate`` is for Adam, which does not see how small the price of a single
gate is.
"""

from collections.abc import Callable
from dataclasses import dataclass

from common import sparsity as sp
from common.methods.families.learned import LearnedSparsity, Regularised, State, Tensor
from common.settings.schema import option


@dataclass
class Config(Regularised):
    strength: float = option(1.0, "lambda, the price of an open gate in nats over the whole training set", least=0)
    rate: float = option(30.0, "factor on the learning rate of the gates' log odds (sgd needs thousands)", above=0)
    closed: float = option(0.1, "share of gates closed at the start, by the mean of their log odds", above=0, below=1)


class Method(LearnedSparsity):
    Config = Config
    facts = LearnedSparsity.facts.but(
        paper="Louizos et al., ICLR 2018, arXiv:1712.01312; Gale et al., 2019, arXiv:1902.09574",
        score="log odds of a learned gate on each weight",
        choosing=18,
        cost="a step computes 8 bytes a weight of gates and gated weights; a target acts at the last step alone, yet "
        "each is trained anew",
    )

    def attach(self, state: State) -> None:
        for name, weight in state.weights.items():
            start = sp.starting_log_odds(weight.shape, self.config.closed, state.stream("gates", name))
            state.learn(f"log_odds/{name}", start, scale=self.config.rate)
        state.reparametrise(lambda: self.gated(state, sp.sampled_gate))

    @staticmethod
    def log_odds(state: State) -> dict[str, Tensor]:
        return {name: state.learned[f"log_odds/{name}"] for name in state.weights}

    def gated(self, state: State, gate: Callable) -> dict[str, Tensor]:
        odds = self.log_odds(state)
        return {name: weight * gate(odds[name]).to(weight.dtype) for name, weight in state.weights.items()}

    def price(self, state: State) -> Tensor | float:
        return sum(sp.open_probability(odds).sum() for odds in self.log_odds(state).values())

    def deployed(self, state: State) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self.gated(state, sp.gate).items()}

    def finish(self, state: State) -> float:
        odds = {name: values.detach() for name, values in self.log_odds(state).items()}
        masks = self.choose(state, odds)
        gates = {name: sp.gate(values) for name, values in odds.items()}
        closed = sum(int((values == 0).sum()) for values in gates.values())
        final = {n: w.detach() * gates[n].where(gates[n] > 0, sp.mean_gate(odds[n])) for n, w in state.weights.items()}
        state.load({**state.model.state_dict(), **final})
        state.set_masks(masks)
        return closed / state.masks.total
