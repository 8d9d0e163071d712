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
    "dense": (1, "e9eafd4877712e27"),
    "essential": (1, "c5735441551ba175"),
    "gmp": (1, "f5279415cc2a44b0"),
    "gradual_random": (1, "b44e4f9cf81007cd"),
    "gradual_ticket": (2, "02e6f57897b0a741"),
    "granet": (1, "33dab918cd1589d6"),
    "grasp": (1, "2d741da52a5a85ac"),
    "imp": (9, "fcd917be6909f785"),
    "imp_reinit": (9, "c54f649ee2707009"),
    "instability": (10, "6163a064b3c87884"),
    "l0": (1, "ee37ea414a7d276e"),
    "magnitude_v2": (1, "b2ee74ac5804bf01"),
    "obd": (2, "902855e13cc20d30"),
    "obert": (2, "e1e650e53c35f233"),
    "omp_after": (2, "cfa36f6ed68ba416"),
    "omp_before": (1, "d6a0b14c30fd0a88"),
    "omp_no_retraining": (2, "bddf90241b9922d4"),
    "one_shot_ticket": (2, "45b77352fcccb516"),
    "random_after": (2, "9f167c955f860dcb"),
    "random_before": (1, "e824f44ab67054c1"),
    "random_search": (1, "92c04b695afc3be6"),
    "reshuffle": (2, "345bf65ef1491bfc"),
    "rigl": (1, "5b412b20879f374c"),
    "scratch_b": (2, "8c486ff4651f8714"),
    "scratch_e": (2, "aa4a4935fb9775ec"),
    "set": (1, "207f37e532b84b0d"),
    "snip": (1, "7b963bd2bfcb23ae"),
    "sr_ste": (1, "9f14b725dbf8ca27"),
    "synflow": (1, "e0435f7b8e30453c"),
    "variational_dropout": (1, "0d00267797a1b56a"),
}
OTHER = {"imp": "48cfda6917bd6acd", "rigl": "bb503454ef888339"}
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
    monkeypatch.setattr(identity, "checked", lambda task, settings: identity.Checked("checksum", (), ()))
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
