"""A forest of stages as Slurm arrays: every stage once, each after its parent, within the site's limits."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from launch.slurm.arrays import arrays


@dataclass(frozen=True)
class Stage:
    digest: str
    parent: str | None
    processes: int = 1


def forest(parents: list[int | None]) -> list[Stage]:
    return [Stage(str(i), None if p is None else str(p)) for i, p in enumerate(parents)]


@st.composite
def forests(draw, most=40):
    size = draw(st.integers(1, most))
    return forest([draw(st.none() | st.integers(0, i - 1)) if i else None for i in range(size)])


@st.composite
def lines(draw):
    """What sweeps look like: per seed a dense stage, chains of rounds and single stages on it."""
    seeds, rounds, leaves = draw(st.integers(1, 6)), draw(st.integers(0, 6)), draw(st.integers(0, 12))
    parents: list[int | None] = []
    for _ in range(seeds):
        dense = len(parents)
        parents.append(None)
        parents += [dense] * leaves
        for k in range(rounds):
            parents.append(dense if k == 0 else len(parents) - 1)
    return forest(parents)


def waits_for(found, number: int, lane: int) -> set[str]:
    """The stages that are done for certain when this element starts: those of the elements it waits for, and so on."""
    after = found[number].after
    if not isinstance(after, tuple):
        return set()
    other, index = after
    assert other < number, "an array waits for one that is submitted later"
    index = lane if index is None else index
    return {s.digest for s in found[other].lanes[index]} | waits_for(found, other, index)


def check(stages: list[Stage], found, outside=()) -> None:
    seen = [s.digest for array in found for lane in array.lanes for s in lane]
    assert sorted(seen) == sorted(s.digest for s in stages)
    known = {s.digest for s in stages}
    for number, array in enumerate(found):
        for index, lane in enumerate(array.lanes):
            ready = waits_for(found, number, index)
            for stage in lane:
                if stage.parent in known:
                    assert stage.parent in ready, f"{stage} may start before its parent"
                elif stage.parent in outside:
                    root = number
                    while isinstance(found[root].after, tuple):
                        root = found[root].after[0]
                    assert found[root].after == outside[stage.parent]
                ready.add(stage.digest)
        if isinstance(array.after, tuple) and array.after[1] is None:
            assert len(array.lanes) == len(found[array.after[0]].lanes), "aftercorr onto an array of another length"


@settings(max_examples=300, deadline=None)
@given(forests() | lines(), st.integers(1, 7) | st.just(1001))
def test_every_stage_once_and_after_its_parent(stages, most):
    found = arrays(stages, most=most)
    check(stages, found)
    assert all(len(array.lanes) <= most for array in found)
    assert all(len(lane) == 1 for array in found for lane in array.lanes), "nothing shares an element without need"


@settings(max_examples=300, deadline=None)
@given(forests() | lines(), st.integers(1, 7) | st.just(1001), st.integers(1, 30))
def test_few_elements_hold_everything(stages, most, limit):
    found = arrays(stages, most=most, limit=limit)
    check(stages, found)
    assert sum(len(array.lanes) for array in found) <= limit
    assert all(len(array.lanes) <= most for array in found)
    if len(stages) <= limit:
        assert all(len(lane) == 1 for array in found for lane in array.lanes)


@settings(max_examples=200, deadline=None)
@given(forests(), st.data())
def test_parents_under_way_are_waited_for(stages, data):
    gone = data.draw(st.sets(st.sampled_from([s.digest for s in stages])))
    todo = [s for s in stages if s.digest not in gone]
    # what an earlier submission trains includes whatever it stands on; the rest of those gone are done
    live = {d: f"77_{d}" for d in data.draw(st.sets(st.sampled_from(sorted(gone)))) if gone} if gone else {}
    check(todo, arrays(todo, live), live)


def test_children_wait_for_their_own_parent_only():
    """Three seeds, one dense stage each, ten one-shot stages and a chain of ten rounds on it."""
    parents, stages = [], []
    for _ in range(3):
        dense = len(parents)
        parents.append(None)
        parents += [dense] * 10
        parents += [dense, *(len(parents) + k for k in range(9))]
    stages = forest(parents)
    found = arrays(stages)
    check(stages, found)
    assert len(found) == 1 + 3 + 10, "dense; ten one-shot stages a seed; ten rounds"
    assert [array.after for array in found if len(array.lanes) == 10] == [(0, 0), (0, 1), (0, 2)]
    rounds = [array for array in found if len(array.lanes) == 3 and array.after is not None]
    assert all(array.after[1] is None for array in rounds), "round k of a seed waits for round k - 1 of that seed alone"


def test_different_needs_never_share_an_array():
    stages = [Stage(str(i), None, processes=1 + i % 2) for i in range(10)]
    found = arrays(stages, need=lambda stage: stage.processes)
    assert sorted((array.need, len(array.lanes)) for array in found) == [(1, 5), (2, 5)]
    found = arrays(stages, need=lambda stage: stage.processes, limit=3)
    assert sum(len(array.lanes) for array in found) <= 3
    for array in found:
        assert {stage.processes for lane in array.lanes for stage in lane} == {array.need}


def test_what_cannot_fit_is_said():
    stages = [Stage("a", "x"), Stage("b", "y")]
    with pytest.raises(UserError, match="max_submitted"):
        arrays(stages, {"x": "1_0", "y": "1_1"}, limit=1)
    with pytest.raises(UserError, match="needs 1 or more"):
        arrays([Stage("a", None)], limit=0)


def test_chains_are_merged_before_anything_waits_that_need_not():
    stages = forest([None, 0, 1, 2, None, 4, 5, 6])
    found = arrays(stages, limit=2)
    assert [[s.digest for s in lane] for array in found for lane in array.lanes] == [list("0123"), list("4567")]


def test_ten_thousand_stages_take_no_time():
    import time

    parents = []
    for _ in range(50):
        dense = len(parents)
        parents.append(None)
        parents += [dense] * 170
        parents += [dense, *(len(parents) + k for k in range(29))]
    stages = forest(parents)
    began = time.process_time()
    found = arrays(stages)
    check(stages, found)
    assert len(found) < 300 and time.process_time() - began < 20
