"""Parents and children of stages, also where damaged files name a parent that is gone or form a circle."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.runs.lineage import Lineage


@dataclass(frozen=True)
class Stage:
    digest: str
    parent: str | None = None


def lineage(**parents: str | None) -> Lineage[Stage]:
    return Lineage([Stage(digest, parent) for digest, parent in parents.items()])


def names(stages) -> str:
    return "".join(stage.digest for stage in stages)


def test_a_family():
    family = lineage(a=None, b="a", c="b", d="a", e="gone")
    stages = family.stages
    assert names(family.ancestors(stages["c"])) == "ba" and names(family.descendants(["a"])) == "bdc"
    assert names(family.children("a")) == "bd" and family.children("c") == [] and family.parent(stages["a"]) is None
    assert names(family.descendants(["a"], through=lambda stage: stage.digest != "b")) == "d"
    assert [family.whole(stage) for stage in stages.values()] == [True] * 4 + [False]
    assert family.heights() == {"a": 3, "b": 2, "c": 1, "d": 1, "e": 1} and family.depth(stages["c"]) == 2
    assert names(family.descendants(["gone"])) == "e"


@pytest.mark.parametrize("parents", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "c", "b": "a", "c": "b", "d": "b"}])
def test_a_circle_ends(parents):
    family = lineage(**parents)
    for stage in family.stages.values():
        assert not family.whole(stage) and family.depth(stage) <= len(parents)
        assert stage not in family.descendants([stage.digest])
    assert len(family.heights()) == len(parents)


@given(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("abcdefg") | st.none(), max_size=6))
def test_ancestors_and_descendants_are_each_others_mirror(parents):
    family = lineage(**parents)
    above = {(one.digest, other.digest) for one in family.stages.values() for other in family.ancestors(one)}
    below = {(other.digest, digest) for digest in family.stages for other in family.descendants([digest])}
    assert above == below
