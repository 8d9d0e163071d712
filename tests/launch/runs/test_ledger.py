"""The list of what was handed to Slurm, also after a kill in the middle of a line."""

import json

import pytest

from launch.runs import ledger, records
from launch.slurm import live_records
from tests.support.fake_slurm import job


def intent(sweep, array, elements, **more):
    place = dict(cluster="c", code="/code", folder=str(sweep / "array"), processes=1, depends="")
    ledger.write(sweep, "intent", array=array, elements=elements, **place, **more)


def test_an_array_and_its_number(tmp_path):
    intent(tmp_path, "a", [["t/1"], ["t/2", "t/3"]])
    assert [e.id for e in ledger.of_sweep(tmp_path)] == [None, None]
    ledger.write(tmp_path, "submitted", array="a", job="12")
    first, second = ledger.of_sweep(tmp_path)
    assert (first.id, first.stages, second.id, second.stages) == ("12_0", ("t/1",), "12_1", ("t/2", "t/3"))
    assert first.err.name == "12_0_0_log.err" and first.out.parent == tmp_path / "array"


def test_what_was_dropped_is_left_out(tmp_path):
    intent(tmp_path, "a", [["t/1"]])
    intent(tmp_path, "b", [["t/2"]])
    ledger.write(tmp_path, "dropped", array="a", reason="refused")
    assert [e.array for e in ledger.of_sweep(tmp_path)] == ["b"]


def test_a_torn_line_costs_only_itself(tmp_path):
    intent(tmp_path, "a", [["t/1"]])
    whole = ledger.path(tmp_path).read_text()
    for cut in range(len(whole) - 1):
        ledger.path(tmp_path).write_text(whole + whole.replace('"a"', '"torn"')[:cut])
        ledger.write(tmp_path, "submitted", array="a", job="7")
        assert [e.id for e in ledger.of_sweep(tmp_path) if e.array == "a"] == ["7_0"], cut


CRAFTED = [
    {"event": "intent", "array": "b", "elements": 5, "time": 1},
    {"event": "intent", "array": "b", "elements": [5], "time": 1},
    {"event": "intent", "array": "b", "elements": [[5]], "time": 1},
    {"event": "intent", "array": "b", "elements": [["../x"]], "time": 1},
    {"event": "intent", "array": "b", "elements": [["no-task"]], "time": 1},
    {"event": "intent", "array": "b", "elements": [["t/1"]], "time": None},
    {"event": "intent", "array": "b", "elements": [["t/1"]], "time": float("inf")},
    {"event": "intent", "array": ["b"], "elements": [["t/1"]], "time": 1},
    {"event": "submitted", "array": "a", "job": None},
    {"event": "submitted", "array": "a", "job": ["8"]},
    {"event": "submitted", "array": "a", "job": "8; scancel"},
    {"event": "cancelled", "array": "a", "jobs": 5},
    {"event": "cancelled", "array": "a", "jobs": [{}]},
    {"event": ["dropped"], "array": "a"},
    ["intent"],
    5,
    None,
]


@pytest.mark.parametrize("line", CRAFTED, ids=str)
def test_a_crafted_line_costs_only_itself(tmp_path, line):
    sweep = tmp_path / ".sweeps" / "one"
    sweep.mkdir(parents=True)
    intent(sweep, "a", [["t/1"]])
    ledger.write(sweep, "submitted", array="a", job="7")
    with open(ledger.path(sweep), "a") as file:
        file.write(json.dumps(line) + "\n")
    assert [(e.id, e.stages) for e in ledger.elements(tmp_path)] == [("7_0", ("t/1",))]
    assert live_records.read(where=tmp_path, asks=lambda wanted, users: {name: job("GONE") for name in wanted}) == []


def test_a_crafted_line_of_a_plan_costs_only_itself(tmp_path):
    (tmp_path / ".sweeps" / "one").mkdir(parents=True)
    lines = [5, [], {}, {"task": [], "digest": {}}, {"task": "t", "digest": 5}, {"task": "t", "digest": "1"}]
    (tmp_path / ".sweeps" / "one" / "plan.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert records.sweeps(tmp_path) == {("t", "1"): ["one"]}


def test_the_newest_element_of_a_stage_is_last(tmp_path):
    for number, name in enumerate(("20250101", "20250102")):
        sweep = tmp_path / ".sweeps" / name
        sweep.mkdir(parents=True)
        intent(sweep, f"a{number}", [["t/1"]])
        ledger.write(sweep, "submitted", array=f"a{number}", job=str(number))
    assert [e.id for e in ledger.by_stage(ledger.elements(tmp_path))["t/1"]] == ["0_0", "1_0"]


def test_no_sweeps_no_elements(tmp_path):
    assert ledger.elements(tmp_path) == [] and ledger.of_sweep(tmp_path) == []
