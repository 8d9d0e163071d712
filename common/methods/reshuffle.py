"""The control of any mask: another method's number of weights in each layer, at random places, on the starting weights.

Su et al. (NeurIPS 2020) and Frankle et al. (ICLR 2021): a method that does no better than its own reshuffled
masks has chosen layers' densities and no weights. ``method.of`` is trained first, with the settings in force for it.
"""

from dataclasses import dataclass
from typing import Any

from common import registry
from common import sparsity as sp
from common.errors import nearest
from common.methods.families import base
from common.methods.families.base import State
from common.methods.families.facts import FOUND, Facts
from common.settings import schema
from common.settings.schema import option


@dataclass
class Config(base.Sparse):
    of: str = option("snip", "the method whose final mask is reshuffled")
    settings: dict[str, str] = option({}, "its settings where they differ from those in force, e.g. {batches: 3}")


class Method(base.Method):
    Config = Config
    facts = Facts(
        paper="a control: Su et al., NeurIPS 2020, arXiv:2009.11094; Frankle et al., ICLR 2021, arXiv:2009.08576",
        when=FOUND,
        score="random",
        schedule="constant, sparse from the start",
        allocation="the counts in each layer of the mask of `of`",
        choosing=8,
    )

    def complaints(self) -> list[str]:
        found, of = super().complaints(), self.config.of
        known = [n for n in registry.methods() if n != "reshuffle" and "sparsity" in self.types(n)]
        if of not in known:
            return [*found, f"method.of must be one of {', '.join(known)}; found {of!r}{nearest(of, known)}"]
        own = ("sparsity", "structure")  # the same for both
        for name, text in self.config.settings.items():
            if name in own or name not in self.types(of):
                valid = ", ".join(n for n in self.types(of) if n not in own)
                found.append(f"method.settings: {of} has no setting {name!r} to give here (it has: {valid or 'none'})")
                continue
            try:
                schema.parse(text, self.types(of)[name])
            except ValueError as error:
                found.append(f"method.settings: {name} of {of}: expected {error}, found {text!r}")
        return found

    @staticmethod
    def types(name: str) -> dict[str, Any]:
        return schema.types(registry.method(name).Config)

    def ancestors(self) -> list[tuple[str, dict]]:
        c = self.config
        given = {name: schema.parse(text, self.types(c.of)[name]) for name, text in c.settings.items()}
        return [(c.of, {**given, "sparsity": c.sparsity, "structure": c.structure})]

    def start(self, state: State) -> None:
        masks = state.parent.masks()
        shares = {name: int(bits.sum()) / bits.numel() for name, bits in masks.items()}  # of weights, or of blocks
        score = sp.random_score(state.weights, state.stream("mask"))
        state.set_masks(self.choose(state, score, allocation=lambda sizes, *_: sp.per_layer(sizes, shares)))
