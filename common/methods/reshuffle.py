"""The control of any mask: another method's number of weights in each layer, at random places, on the starting weights.

Su et al. (NeurIPS 2020) and Frankle et al. (ICLR 2021, section 5): a method that does no better than its own reshuffled
masks has chosen layers' densities and no weights. ``method.of`` is trained first, with the settings in force for it.
"""

from dataclasses import dataclass

from common import config, method, registry
from common import sparsity as sp
from common.method import option


@dataclass
class Config(method.Sparse):
    of: str = option("snip", "the method whose final mask is reshuffled")
    settings: dict[str, str] = option({}, "its settings where they differ from those in force, e.g. {batches: 3}")


class Method(method.Method):
    Config = Config

    def complaints(self):
        found, of = super().complaints(), self.config.of
        known = [n for n in registry.methods() if n != "reshuffle" and "sparsity" in self.types(n)]
        if of not in known:
            return [*found, f"method.of must be one of {', '.join(known)}; found {of!r}"]
        for name, text in self.config.settings.items():
            if name == "sparsity" or name not in self.types(of):
                valid = ", ".join(n for n in self.types(of) if n != "sparsity")
                found.append(f"method.settings: {of} has no setting {name!r} to give here (it has: {valid or 'none'})")
                continue
            try:
                config.parse(text, self.types(of)[name])
            except ValueError as error:
                found.append(f"method.settings: {name} of {of}: expected {error}, found {text!r}")
        return found

    @staticmethod
    def types(name: str) -> dict[str, type]:
        return config.types(registry.method(name).Config)

    def ancestors(self):
        c = self.config
        given = {name: config.parse(text, self.types(c.of)[name]) for name, text in c.settings.items()}
        return [(c.of, {**given, "sparsity": c.sparsity})]

    def start(self, state):
        score = sp.random_score(state.weights, state.stream("mask"))
        state.set_masks(sp.select(score, sp.from_masks(state.parent.masks())))
