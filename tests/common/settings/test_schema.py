"""What a declaration of a setting says is what is checked, and what lists of settings show."""

import dataclasses
from math import inf, nan

import pytest

from common import registry
from common.settings import schema
from common.settings.run import Run
from common.settings.schema import option
from launch.slurm.cluster import Cluster


@dataclasses.dataclass
class Settings:
    kind: str = option("", "what it is", choices=("", "linear", "cubic"))
    only: str = option("none", "how", choices={"none": "not at all"}, because="METHOD=other does")
    share: float = option(0.5, "a share", least=0, below=1, because="it is the share of zeros")
    maybe: float | None = option(None, "a share or nothing", above=0, most=1)
    scale: float = option(1.0, "a factor", above=0)
    steps: int = option(0, "a count", least=0)
    points: int = option(3, "places", least=3, most=1000)
    free: float = option(0.0, "any number")
    parts: list[float] = option([0.5], "shares", least=0, most=1)
    rates: dict[str, float] = option({}, "rates by name", least=0, below=1)


@pytest.mark.parametrize(
    ("values", "complaints"),
    [
        ({}, []),
        ({"kind": "Linaer"}, ["x.kind must be one of linear, cubic; found 'Linaer'; did you mean 'linear'?"]),
        ({"only": "full"}, ["x.only must be none; found 'full': METHOD=other does"]),
        ({"share": 1.0}, ["x.share must be in [0, 1), found 1.0: it is the share of zeros"]),
        ({"share": 0.0, "maybe": 1.0, "points": 1000, "parts": [0.0, 1.0], "rates": {"a": 0.0}}, []),
        ({"maybe": 0.0}, ["x.maybe must be in (0, 1], found 0.0"]),
        ({"scale": 0}, ["x.scale must be above 0, found 0"]),
        ({"steps": -1}, ["x.steps must not be negative, found -1"]),
        ({"points": 2}, ["x.points must be in [3, 1000], found 2"]),
        ({"free": nan}, ["x.free must be finite, found nan"]),
        ({"scale": inf}, ["x.scale must be finite, found inf"]),
        ({"parts": [2.0, 0.5, -1.0]}, [f"x.parts must be in [0, 1], found {found}" for found in (2.0, -1.0)]),
        ({"rates": {"a": 0.5, "b": 1.0}}, ["x.rates: b must be in [0, 1), found 1.0"]),
        (
            {"kind": "x", "steps": -1},
            ["x.kind must be one of linear, cubic; found 'x'", "x.steps must not be negative, found -1"],
        ),
    ],
)
def test_complaints_name_the_setting_and_say_what_was_expected_and_found(values, complaints):
    assert schema.complaints("x", Settings(**values)) == complaints


def test_a_list_of_settings_shows_what_is_valid():
    assert [schema.meaning(one) for one in dataclasses.fields(Settings)] == [
        "what it is: linear, cubic",
        "how: none (not at all)",
        "a share; in [0, 1)",
        "a share or nothing; in (0, 1]",
        "a factor; above 0",
        "a count; not negative",
        "places; in [3, 1000]",
        "any number",
        "shares; in [0, 1]",
        "rates by name; in [0, 1)",
    ]


def test_defaults_are_valid():
    methods = [registry.method(name).Config for name in registry.methods()]
    for cls in (Run, Cluster, *methods, *(registry.task_part(task, "config").Config for task in registry.tasks())):
        assert schema.complaints("x", cls()) == [], cls


@pytest.mark.parametrize(
    "text, value",
    [
        ("[*.weight]", ["*.weight"]),
        ("[a, *.weight,*b]", ["a", "*.weight", "*b"]),
        ('["*.weight", "a,*b"]', ["*.weight", "a,*b"]),
        ("[0123, no, 1:30, ~]", ["0123", "no", "1:30", "~"]),
        ("{a:1:30,b: 2, c:x}", {"a": "1:30", "b": "2", "c": "x"}),
        ("{}", {}),
    ],
)
def test_texts_in_a_list_are_what_is_written(text, value):
    assert schema.parse(text, dict[str, str] if isinstance(value, dict) else list[str]) == value
