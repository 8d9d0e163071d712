"""docs/methods.md: what every method does and what it costs, from its code and the facts that it declares."""

import dataclasses
import inspect
import re
import sys
from typing import Any

from common import registry
from common.errors import UserError
from common.methods.families.facts import Facts
from common.settings import groups, schema
from launch.plan import planner
from launch.request import compose
from launch.request.arguments import Request
from launch.runs.lineage import Lineage

STEPS = 1_000_000  # optimizer steps of one dense training, T: so many that rounding does not show
LEVELS = (0.8, 0.9)
START = """# Methods

Written by `make docs` from the code; do not edit. Every method is a `METHOD=`, one file in `common/methods/`
([add one](method.md)). Settings are given as `SET="method.<name>=<value>"`, several values as `a,b`.

Defaults are those of a method's file. A task may change them (`methods:` in `tasks/<task>/config.yaml`; in `classic`
gradual pruning and RigL act more often), and so may a preset: `make help METHOD=rigl TASK=classic PRESET=laptop` shows
what is in force.

## What each does

**allocation** is how the budget is spread over layers, the default first; **structure** is what can live or go as one
(`weights`: each alone, `RxC`: blocks, `N:M`: N of every M). Sparsity is the share of zeros.

"""
COSTS = """
## What each costs

With default settings, for a model whose dense training takes T optimizer steps.

- **own steps**: of the stage itself. **with ancestors**: with those of all stages that it descends from, at 80% and at
  90% sparsity; results share ancestors (ten sparsities after training share one dense network).
- **batches looked at**: to choose masks, in addition to the steps.
- **bytes a weight**: memory per prunable weight throughout training, in addition to weight, gradient and optimizer
  (4 + 4 + 8 with Adam) and 1 for the mask. **bytes while choosing**: the peak while masks are chosen. What a method
  learns beside the weights is counted with its gradient and Adam's two moments. `tests/common/methods/test_facts.py`
  measures both.

"""


def declared(name: str) -> bool:
    """Does a method declare facts of its own? Inherited ones describe another method."""
    return vars(registry.method(name)).get("facts") is not None


def facts(name: str) -> Facts:
    """The facts that a method declares. ``UserError`` where it declares none of its own."""
    if not declared(name):
        raise UserError(
            f"common/methods/{name}.py: class Method declares no facts = Facts(...) "
            "(see common/methods/families/facts.py)"
        )
    return registry.method(name).facts


def defaults(name: str) -> Any:
    """A method's settings at the defaults of its file."""
    return registry.method(name).Config()


def allocation(name: str) -> str:
    """How the budget is spread over layers: the setting, default first, or what the method declares."""
    values = defaults(name)
    first = getattr(values, "allocation", None)
    if first is None:
        return facts(name).allocation
    (field,) = (one for one in dataclasses.fields(values) if one.name == "allocation")
    others = [choice for choice in field.metadata["choices"] if choice != first]
    return f"{first}; or {', '.join(others)}" if others else first


def structure(name: str) -> str:
    """What can live or go as one, beside single weights."""
    if getattr(defaults(name), "structure", None) is None:
        return "none"
    return ", ".join(registry.method(name).structures)


def steps(name: str, sparsity: float) -> tuple[float, float]:
    """Optimizer steps of a stage, alone and with all its ancestors, as multiples of a dense training's."""
    composer = compose.Composer(Request())
    settings = composer.settings(name)
    settings["method"] = dataclasses.asdict(defaults(name))
    settings["run"] |= {"steps": STEPS, "seed": 0}
    if "sparsity" in settings["method"]:
        settings["method"]["sparsity"] = sparsity
    forest = planner.Forest(composer)
    stage = forest.stages[forest.add(name, settings)]
    budgets = []
    for one in (stage, *Lineage(forest.stages.values()).ancestors(stage)):
        method = registry.method(one.method)
        budgets.append(method(groups.build(method.Config, one.config["settings"]["method"])).budget(STEPS))
    return budgets[0] / STEPS, sum(budgets) / STEPS


def memory(name: str) -> str:
    """Bytes per prunable weight throughout training: always, and what settings add."""
    found = dict(facts(name).memory)
    always = found.pop("", 0)
    return "; ".join([f"{always:g}", *(f"{value:+g} with `{setting}`" for setting, value in found.items())])


def rows(name: str) -> dict[str, str]:
    """Everything about a method, by column."""
    told, values = facts(name), defaults(name)
    (own, line), (_, more) = (steps(name, level) for level in LEVELS)
    return {
        "prunes": told.when,
        "score": told.score,
        "allocation": allocation(name),
        "structure": structure(name),
        "schedule": told.schedule,
        "topology": told.topology,
        "paper": told.paper,
        "own steps": f"{own:g} T",
        "with ancestors": f"{line:g} T" if line == more else f"{line:g} T at 80%, {more:g} T at 90%",
        "batches looked at": f"{told.at('looks', values):g}",
        "bytes a weight": memory(name),
        "bytes while choosing": f"{told.at('choosing', values):g}",
        "besides": told.cost,
    }


def summary(name: str) -> str:
    """The first paragraph of a method's file."""
    registry.method(name)
    text = inspect.getdoc(sys.modules[f"common.methods.{name}"]) or ""
    return " ".join(text.split("\n\n")[0].split())


def text() -> str:
    """The whole page: every method that declares facts."""
    names = [name for name in registry.methods() if declared(name)]
    found = {name: rows(name) for name in names}
    does = ("prunes", "score", "allocation", "structure", "schedule", "topology", "paper")
    costs = ("own steps", "with ancestors", "batches looked at", "bytes a weight", "bytes while choosing", "besides")
    page = START + _table(found, does) + COSTS + _table(found, costs) + "\n## Settings\n"
    for name in names:
        page += f"\n### {name}\n\n{summary(name)}\n"
        if fields := dataclasses.fields(registry.method(name).Config):
            page += "\n| setting | default | meaning |\n|---|---|---|\n"
            values = defaults(name)
            page += "".join(_line([f"`{f.name}`", _value(getattr(values, f.name)), schema.meaning(f)]) for f in fields)
        if measures := facts(name).measures:
            page += "\n| measured beside the score | meaning |\n|---|---|\n"
            page += "".join(_line([f"`{measured}`", meaning]) for measured, meaning in measures.items())
    return page


def _table(found: dict[str, dict[str, str]], columns: tuple[str, ...]) -> str:
    head = _line(["method", *columns]) + "|---" * (len(columns) + 1) + "|\n"
    return head + "".join(
        _line([f"[{name}](#{name})", *(_linked(row[column]) for column in columns)]) for name, row in found.items()
    )


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _linked(text: str) -> str:
    return re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _value(value: Any) -> str:
    """A default as one writes it on the command line."""
    if value is None or value == {} or value == "":
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:.6g}`" if isinstance(value, float) else f"`{value}`"
