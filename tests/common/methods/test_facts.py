"""docs/methods.md is what the code says, and what methods say of themselves is measured."""

import dataclasses
import re
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from common import record, registry
from common import sparsity as sp
from common.errors import UserError
from common.methods.families.facts import WHEN, Facts
from common.settings import schema
from launch.cli import help, methods_page
from launch.request import arguments
from tests.support import training
from tests.support.cli import ROOT, copy, launch
from tests.support.training import Toy

NEAR = 1.5  # bytes a weight: buffers of a fixed size, such as the selection's chunks, in a network of 370,000


def test_the_page_is_what_the_code_says():
    page = (ROOT / "docs" / "methods.md").read_text() if (ROOT / "docs" / "methods.md").exists() else ""
    assert page == methods_page.text(), "docs/methods.md is not what the code says: `make docs` writes it anew"


@pytest.mark.parametrize("name", registry.methods())
def test_every_method_says_what_it_is(name):
    told = methods_page.facts(name)  # of its own: not silently those of another method
    assert isinstance(told, Facts) and told.when in WHEN
    assert all((told.paper, told.score, told.schedule, told.topology)), "an empty fact"
    asked = {field.name for field in dataclasses.fields(registry.method(name).Config)}
    of_its_own = getattr(methods_page.defaults(name), "allocation", None)  # None: as another method's is
    assert bool(of_its_own) != bool(told.allocation), "the allocation is a setting or a fact, one of them"
    assert set(re.findall(r"`(\w+)`", " ".join([told.score, told.schedule, told.topology, told.allocation]))) <= {
        *asked,
        *registry.methods(),
    }
    for setting in filter(None, told.memory):
        assert setting.split("=")[0] in asked


def test_a_method_without_facts_of_its_own_is_named(monkeypatch):
    silent = type("Method", (registry.method("gmp"),), {})
    monkeypatch.setattr(registry, "method", lambda name: silent)
    with pytest.raises(UserError, match=r"common/methods/new.py.*no facts"):
        methods_page.facts("new")


def test_the_manuals_method_gets_a_row(tmp_path):
    """In a copy of the checkout: without facts the page leaves it out, with them `help` shows it as well."""
    root, page = copy(tmp_path / "copy"), (ROOT / "docs" / "method.md").read_text()
    block = next(part for part in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "# common/methods/" in part)
    name = re.match(r"# common/methods/(\w+)\.py\n", block)[1]
    path = root / "common" / "methods" / f"{name}.py"
    silent = re.sub(r"    facts = .*?\n    \)\n", "", block, flags=re.DOTALL)
    path.write_text(silent)
    assert "facts" in block and "facts = " not in silent
    done = launch("docs", root=root)
    assert done.returncode == 0 and f"without {name}: no facts" in done.stdout, done.stderr
    assert (root / "docs" / "methods.md").read_text() == (ROOT / "docs" / "methods.md").read_text()
    path.write_text(block)
    for answer in ("is written", "is what the code says"):
        done = launch("docs", root=root)
        assert done.returncode == 0 and answer in done.stdout and "without" not in done.stdout, done.stderr
    written = (root / "docs" / "methods.md").read_text()
    assert f"| [{name}](#{name}) | before training | \\|g\\| |" in written and f"### {name}" in written
    shown = launch("help", f"method={name}", root=root)
    assert re.search(r"own steps +1 T\n", shown.stdout) and "before training" in shown.stdout


# --- steps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sparsity", "own", "line"),
    [
        ("dense", 0.8, 1, 1),
        ("omp_after", 0.8, 1, 2),
        ("imp", 0.8, 1, 9),  # 0.8^8 < 0.2: eight rounds and the dense training
        ("imp", 0.8926258176, 1, 11),  # ten rounds, exactly
        ("imp", 0.9, 1, 12),
        ("gmp", 0.9, 1, 1),
        ("magnitude_v2", 0.9, 1.5, 1.5),
        ("scratch_b", 0.9, 2, 3),  # gradual pruning found the mask
        ("reshuffle", 0.9, 1, 2),
    ],
)
def test_steps_count_what_a_stage_stands_on(name, sparsity, own, line):
    assert methods_page.steps(name, sparsity) == (own, line)


# --- memory and looks, measured ---------------------------------------------------------------------------------------


NONE = Facts(paper="", when="", score="", schedule="")


class Large(Toy):
    """So many weights that fixed buffers do not count."""

    looks = 0

    def build(self) -> nn.Module:
        between = nn.Linear(12, 600), nn.ReLU(), nn.Linear(600, 600), nn.ReLU()
        return nn.Sequential(*between, nn.Linear(600, 3))

    def loss(self, model, batch):
        self.looks += 1
        return super().loss(model, batch)


def begun(name: str, **values):
    """(trainer, state) of a stage with a method's default settings but ``values``; its parent is a stand-in."""
    stage = record.read_config(training.line(name, {"run.optimizer": "adam"}, 0.5)[-1])
    values = dataclasses.asdict(methods_page.defaults(name)) | values
    asked = {"sparsity": 0.5, "every": 3, "settings": {}, "gradients": 20, "iterations": 10}  # quick
    chosen = values | {key: value for key, value in asked.items() if key in values}
    run = {**stage["settings"]["run"], "steps": 6, "device": "cpu"}
    worker = Large({**stage["settings"], "run": run, "method": chosen}, name)
    start = {n: tensor.clone() for n, tensor in worker.build().state_dict().items()}
    weights = {n: w for n, w in start.items() if w.ndim > 1}
    masks = sp.select(sp.magnitude(weights), sp.global_pool(weights, 0.5))
    parent = SimpleNamespace(
        weights=lambda: start,
        scored=lambda: start,
        masks=lambda: masks,
        of_root=lambda: start,
        rewound=lambda to: start,
        folder="parent",
    )
    parent.before = lambda: parent
    return worker, worker.begin(parent)


def most(call) -> tuple[int, object]:
    """The most bytes that ``call`` had allocated at a moment, beyond those before it; and its answer."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        answer = call()
    now = peak = 0
    events = (event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]")
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak, answer


def held(thing, seen: set) -> int:
    """Bytes of the tensors of two dimensions and more that ``thing`` leads to, but for those ``seen``."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if torch.is_tensor(thing):
        return thing.nbytes * (thing.ndim > 1) + (0 if thing.grad is None else held(thing.grad, seen))
    if isinstance(thing, dict):
        return sum(held(value, seen) for value in list(thing.values()))
    if isinstance(thing, (list, tuple)):
        return sum(held(value, seen) for value in thing)
    return held(vars(thing), seen) if hasattr(thing, "__dict__") and not isinstance(thing, type) else 0


def beside(state, method) -> float:
    """Bytes a prunable weight that the method keeps beside the weights, their gradients, the optimizer's and masks."""
    usual = {id(getattr(state, name, None)) for name in ("parent", "_trainer", "model", "masks", "optimizer")} | {
        id(state)
    }
    usual |= {id(parameter) for parameter in state.model.parameters()}
    own = held(vars(method), set(usual))
    learned = held(state.learned, set()) + sum(held(state.optimizer.state[p], set()) for p in state.learned.values())
    return (own + learned) / state.masks.total


@pytest.mark.parametrize("name", registry.methods())
def test_choosing_takes_the_memory_and_the_looks_it_is_said_to(name):
    worker, state = begun(name)
    told, peaks = methods_page.facts(name), []
    peak, _ = most(lambda: worker.method.start(state))
    peaks.append(peak)
    assert worker.looks == told.at("looks", worker.method.config)
    on_gradients, on_step = worker.method.on_gradients, worker.method.on_step

    def measured(call):
        def measuring(state):
            peak, answer = most(lambda: call(state))
            peaks.append(peak)
            return answer

        return measuring

    worker.method.on_gradients, worker.method.on_step = measured(on_gradients), measured(on_step)
    while state.step < state.steps:
        worker.step(state)
    declared = told.at("choosing", worker.method.config)
    assert max(peaks) / state.masks.total == pytest.approx(declared, abs=NEAR, rel=0.05)


def settings_with_memory() -> list[tuple[str, str]]:
    told = {name: registry.method(name).facts for name in registry.methods()}
    return [(name, setting) for name, facts in told.items() for setting in dict.fromkeys(["", *(facts or NONE).memory])]


@pytest.mark.parametrize(("name", "setting"), settings_with_memory())
def test_a_method_keeps_the_memory_it_is_said_to(name, setting):
    key, _, text = setting.partition("=")
    types = schema.types(registry.method(name).Config)
    worker, state = begun(name, **({key: schema.parse(text, types[key])} if key else {}))
    worker.method.start(state)
    told, on_gradients = methods_page.facts(name).memory, worker.method.on_gradients
    found = [beside(state, worker.method)]

    def look(state):
        found.append(beside(state, worker.method))  # gradients are there now
        return on_gradients(state)

    worker.method.on_gradients = look
    while state.step < state.steps:
        worker.step(state)
    declared = told.get("", 0) + (told.get(setting, 0) if setting else 0)
    assert max(found) == pytest.approx(declared, abs=0.1)


@cache
def page() -> str:
    return methods_page.text()


@pytest.mark.parametrize("name", registry.methods())
def test_what_a_method_measures_is_declared_and_the_page_lists_it(name):
    worker, state = begun(name)
    worker.method.start(state)
    while state.step < state.steps:
        worker.step(state)
    state.finished = state.parent
    told = methods_page.facts(name).measures
    assert set(worker.method.measure(state, worker.evaluate)) == set(told)
    section = page().split(f"\n### {name}\n")[1].split("\n### ")[0]
    shown = help.settings(arguments.parse([f"method={name}"]))
    for measured, meaning in told.items():
        assert f"| `{measured}` | {meaning} |" in section and "\n" not in meaning
        assert re.search(rf"measures {measured} +{re.escape(meaning)}\n", shown)
    assert ("measured beside the score" in section) == bool(told)


def test_oberts_memory_is_what_it_checks_before_it_starts():
    """The formula of the table, beside what the surgeon asks the device for."""
    weights = {"w": torch.empty(4000, 4000, device="meta")}
    for block, passes in ((50, 1), (10, 1), (50, 4)):
        chosen = registry.method("obert").Config(block=block, passes=passes)
        declared = registry.method("obert").facts.at("choosing", chosen)
        assert sp.InverseFisher.memory(weights, block, passes) / 16e6 == pytest.approx(declared, rel=0.03)
