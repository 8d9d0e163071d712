"""What names a stage: digests that stay put, every setting that matters in them, and nothing else."""

import dataclasses

import pytest

from common import registry
from common.settings import groups, run, schema
from common.settings.schema import option
from common.stage import identity
from launch.plan import planner
from launch.request import arguments, compose
from launch.request.arguments import Request

# Of stages with every setting at the default of its dataclass (not of a task's config.yaml), seed 0, sparsity 0.8 and
# a made-up checksum of the data. A change here means that results of earlier code are trained again: it must be wanted.
DIGESTS = {
    "dense": (1, "3418c44bacade103"),
    "essential": (2, "e1c8e7bb7d371fed"),
    "gmp": (1, "bfd129434ff3c6ae"),
    "gradual_random": (1, "84817ea4b5176dc4"),
    "gradual_ticket": (2, "9e5a5621a890cce0"),
    "granet": (1, "4750539b937aa085"),
    "grasp": (1, "c0be6d50b8b595e6"),
    "imp": (9, "b10536ff805270aa"),
    "imp_reinit": (9, "b013c22067a5e57e"),
    "instability": (10, "0402800c416a7eb3"),
    "l0": (1, "1740763744a54614"),
    "magnitude_v2": (1, "fd44ac5acc3da54c"),
    "obd": (2, "e85d7adfbb85def6"),
    "obert": (2, "6cc01da69d3d6f38"),
    "omp_after": (2, "f04d734a7c6a8c41"),
    "omp_before": (1, "63571d197e3e08ea"),
    "one_shot_ticket": (2, "a2a84a1986e5b55e"),
    "random_after": (2, "75e151565dd501b9"),
    "random_before": (1, "1964049516e35a92"),
    "random_search": (1, "cc394d4906ee7aac"),
    "reshuffle": (2, "c96082f29eaf8b35"),
    "rigl": (1, "64a5f20100885ec0"),
    "scratch_b": (2, "706060634c4cdd42"),
    "scratch_e": (2, "edbb4f53b70e9915"),
    "set": (1, "e5c746c6df7504d8"),
    "snip": (1, "1f5ed99cce15ad88"),
    "sr_ste": (1, "3d162385e10f12d3"),
    "synflow": (1, "296d6a01275889f3"),
    "variational_dropout": (1, "aeaf29567d6d3daa"),
}
OTHER = {"imp": "50fb56850e122952", "rigl": "ca78f1fd6d370d47"}
NOT_IDENTITY = {
    "run": {"log_every", "checkpoint_seconds", "checkpoint_every", "device"},
    "task": {"data", "pretrained"},
    "method": {"passes"},  # obert: memory against time
}


def defaults(method: str) -> dict:
    made = {group: groups.merge(cls, group, []) for group, cls in groups.classes("classic", method).items()}
    if "sparsity" in made["method"]:
        made["method"]["sparsity"] = 0.8
    return made


def digest(method: str, settings: dict | None = None, **changes) -> str:
    content = {"versions": identity.versions("classic", method), "data": "checksum", "parent": None, **changes}
    return identity.digest("classic", method, settings or defaults(method), **content)


def lines(method: str, monkeypatch) -> list[str]:
    """The digests of a stage's line, from the root."""
    monkeypatch.setattr(identity, "checked", lambda task, settings: ("checksum", ()))
    forest = planner.Forest(compose.Composer(Request()))
    forest.add(method, defaults(method))
    return list(forest.stages)


@pytest.mark.parametrize("method", registry.methods())
def test_digests_stay_put(monkeypatch, method):
    found = lines(method, monkeypatch)
    assert (len(found), found[-1]) == DIGESTS[method]


def test_digests_of_other_settings_stay_put():
    settings = defaults("imp")
    settings["method"] |= {"sparsity": None, "rounds": 3, "allocation": "layers", "rates": {"output.weight": 0.1}}
    assert digest("imp", settings, parent="0123456789abcdef") == OTHER["imp"]
    settings = defaults("rigl")
    settings["run"] |= {"optimizer": "sgd", "schedule": "steps", "milestones": [0.5], "nesterov": True, "seed": 3}
    settings["task"] |= {"dataset": "cifar10", "model": "resnet-20", "augment": True}
    assert digest("rigl", settings) == OTHER["rigl"]


def other(value, kind):
    """A value that is not ``value``."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        return [*value, 0.9]
    if isinstance(value, dict):
        return {**value, "x": 0.9}
    return 3 if "int" in str(kind) else 0.3


FIELDS = [
    ("dense", group, f.name)
    for group in ("run", "task")
    for f in dataclasses.fields(groups.classes("classic", "dense")[group])
]
FIELDS += [(m, "method", f.name) for m in registry.methods() for f in dataclasses.fields(registry.method(m).Config)]


@pytest.mark.parametrize("method, group, name", FIELDS)
def test_every_setting_that_matters_is_in_the_digest(method, group, name):
    settings, before = defaults(method), digest(method)
    kind = schema.types(groups.classes("classic", method)[group])[name]
    settings[group][name] = other(settings[group][name], kind)
    assert (digest(method, settings) == before) == (name in NOT_IDENTITY[group])


def test_all_else_that_matters(monkeypatch):
    before = digest("imp")
    assert digest("imp", data="other") != before and digest("imp", parent="0" * 16) != before
    assert digest("imp_reinit") != before
    assert digest("imp", dict(reversed(defaults("imp").items()))) == before
    for where, name in (
        (identity, "CORE_VERSION"),
        (registry.task_part("classic", "config"), "version"),
        (registry.method("imp"), "version"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, getattr(where, name) + 1)
            assert digest("imp") != before
    assert digest("imp") == before


def test_a_field_added_later_at_its_neutral_value_changes_no_digest():
    @dataclasses.dataclass
    class Before:
        rate: float = option(0.2, "rate")

    @dataclasses.dataclass
    class After(Before):
        noise: float = option(0.5, "noise", neutral=0.0)
        patterns: list[str] = option(["a"], "patterns", neutral=[])

    old = identity.determining(Before, {"rate": 0.2})
    assert identity.determining(After, {"rate": 0.2, "noise": 0.0, "patterns": []}) == old
    assert identity.determining(After, {"rate": 0.2, "noise": 0.1, "patterns": []}) == {"rate": 0.2, "noise": 0.1}
    assert identity.determining(After, {"rate": 0.2}) == old, "of a stage that was planned before they were there"
    assert "patterns" in identity.determining(After, {"rate": 0.2, "noise": 0.0, "patterns": ["a"]})


def test_the_same_number_in_another_spelling_is_the_same_stage():
    kind = schema.types(run.Run)
    assert schema.parse("10", kind["epochs"]) == schema.parse("1e1", kind["epochs"]) == 10.0
    assert isinstance(schema.parse("10", kind["epochs"]), float)
    assert repr(schema.parse("[0,1]", kind["milestones"])) == "[0.0, 1.0]"  # 0 and 0.0 are different text in a digest


def test_zero_has_one_identity_whatever_its_sign():
    """run.clip_norm=0 and then -0.0 trained everything twice, and results.csv held every row double."""

    def stages(*words: str) -> set[str]:
        return set(planner.make(arguments.parse(["method=omp_after", "run.seed=0", *words])).stages)

    assert stages("run.clip_norm=0") == stages("run.clip_norm=-0.0") == stages("run.clip_norm=0.0,-0")
    assert stages("run.milestones=[0,0.5]") == stages("run.milestones=[-0.0,0.5]")
    assert groups.merge(run.Run, "run", [("a file", {"milestones": [-0.0, 1.0]})])["milestones"][0].hex() == "0x0.0p+0"
