"""Iterative magnitude pruning, shared by the ticket (``imp``) and its controls: train, prune, start again, repeat.

Frankle and Carbin (ICLR 2019); late rewinding: Frankle et al. (ICML 2020). Each round is a stage of its own whose
parent is the round before, so rounds are results on the curve and are shared by every target on the same grid.
"""

from dataclasses import dataclass
from math import ceil, log1p

from common import sparsity as sp
from common.methods.families.after_training import Retraining, Rewound
from common.methods.families.base import State, allocated, settings
from common.methods.families.facts import ROUNDS
from common.settings.schema import option

MOST_ROUNDS = 1000  # each is a training of its own; more is a slip of the pen


@dataclass
class Config(Retraining):
    sparsity: float | None = option(  # type: ignore[assignment]  # None where a number of rounds says how sparse
        None, "target share of zeros; rounds are added until it is met exactly", least=0, below=1
    )
    rounds: int | None = option(None, "instead of a target: how many rounds (needed for allocation=layers)")
    rate: float = option(0.2, "share of the living weights pruned in a round", above=0, below=1)
    rates: dict[str, float] = option({}, "allocation=layers: rates by name, as {head.weight: 0.1}", least=0, below=1)
    allocation: str = allocated(choices={"global": "all weights compete", "layers": "each keeps its own share"})
    rewind: str = option(
        "0",
        "what survivors go back to: a step of the dense training, whose rest they train anew (0: initialisation, all "
        "of it), or 'pretrained'",
    )


class Tickets(Rewound):
    """Subclasses say in ``go_back`` what the surviving weights start from; with ``retrain`` the policy says so.

    ``retrain=full`` is Frankle and Carbin's: from the weights at step ``rewind`` to the end, with the rest of the
    schedule (Frankle et al., 2020). The policies of Renda et al. (2020) apply in every round.
    """

    Config = Config
    levels = ("sparsity", "rounds")
    version = 2  # 1 replayed the whole schedule from late weights too
    rounds_method = "imp"  # the method of all rounds but the last
    facts = Rewound.facts.but(
        paper="Frankle and Carbin, ICLR 2019, arXiv:1803.03635; Frankle et al., ICML 2020, arXiv:1912.05671",
        when=ROUNDS,
        score="magnitude of the trained weights",
        schedule="geometric: a round prunes `rate` of what lives",
        choosing=8,
    )

    def complaints(self) -> list[str]:
        found, c = super().complaints(), self.config
        if (c.sparsity is None) == (c.rounds is None):
            one_of = "method.sparsity (a target) or method.rounds (a number of rounds)"
            found.append(f"give either {one_of}, not both or none")
        elif c.sparsity == 0:
            found.append("method.sparsity=0 is dense training: use METHOD=dense")
        rounds = c.rounds
        if rounds is None and c.sparsity is not None and 0 < c.sparsity < 1 and 0 < c.rate < 1:
            rounds = ceil(log1p(-c.sparsity) / log1p(-c.rate) - 1e-9)
        if rounds is not None and not 0 <= rounds - 1 < MOST_ROUNDS:
            found.append(f"pruning takes from 1 to {MOST_ROUNDS} rounds, these settings ask for {rounds}")
        if c.allocation == "layers" and c.rounds is None:
            own = "method.allocation=layers prunes each layer at its own rate"
            found.append(f"{own}: give method.rounds, not a sparsity")
        if c.rounds is not None and ":" in c.structure:
            found.append("method.rounds says how sparse, and so does N:M: give method.sparsity instead")
        if c.retrain == "none":
            found.append("a ticket is trained in every round: method.retrain=none is for pruning once, after training")
        if c.rates and c.allocation != "layers":
            found.append("method.rates are per layer: they need method.allocation=layers")
        if c.retrain != "full" and c.rewind != "0":
            found.append(f"method.rewind is for method.retrain=full; {c.retrain} says itself what survivors start from")
        return found

    def ancestors(self) -> list[tuple[str, dict]]:
        if self.config.sparsity is None:
            earlier = [{"rounds": k} for k in range(1, self.config.rounds)]
        else:
            earlier = self.levels_before(sp.geometric_levels(self.config.sparsity, self.config.rate)[:-1])
        common = settings(self.config)
        return [("dense", {}), *((self.rounds_method, {**common, **level}) for level in earlier)]

    def levels_before(self, sparsities: list[float]) -> list[dict]:
        """The settings that tell earlier rounds from the last.

        Under N:M a round keeps whole weights of every M: as N' of M it is what those who ask for N':M ask for.
        """
        form = sp.form(self.config.structure)
        if not isinstance(form, sp.Pattern):
            return [{"sparsity": sparsity} for sparsity in sparsities]
        kept = dict.fromkeys(form.kept(sparsity) for sparsity in sparsities)
        steps = [sp.Pattern(n, form.m) for n in kept if form.n < n < form.m]
        return [{"sparsity": step.sparsity, "structure": str(step)} for step in steps]

    @property
    def target(self) -> float:
        c = self.config
        return c.sparsity if c.rounds is None else 1 - (1 - c.rate) ** c.rounds

    def shaped(self) -> bool:
        return super().shaped() or bool(self.config.rates)

    def allocation(self, sizes, sparsity, living=None):
        c = self.config
        if c.allocation == "global":
            return sp.global_pool(sizes, sparsity)
        if unknown := sorted(set(c.rates) - set(sizes)):
            raise ValueError(f"method.rates names {unknown[0]!r}; the prunable weights are {', '.join(sizes)}")
        # shares of the original count, not of the last round's: rounding does not add up over rounds
        return sp.per_layer(sizes, {name: (1 - c.rates.get(name, c.rate)) ** c.rounds for name in sizes})

    def start(self, state: State) -> None:
        state.load(state.parent.weights())
        masks = self.choose(state, sp.magnitude(state.weights), within=state.parent.masks())
        if self.config.retrain == "full":
            self.go_back(state)
        else:
            self.restart(state)
        state.set_masks(masks)

    def go_back(self, state: State) -> None:
        raise NotImplementedError(f"{type(self).__name__} must say what the surviving weights start from")
