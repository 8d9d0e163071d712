"""The list of what was handed to Slurm, also after a kill in the middle of a line."""

from launch.runs import ledger


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


def test_the_newest_element_of_a_stage_is_last(tmp_path):
    for number, name in enumerate(("20250101", "20250102")):
        sweep = tmp_path / ".sweeps" / name
        sweep.mkdir(parents=True)
        intent(sweep, f"a{number}", [["t/1"]])
        ledger.write(sweep, "submitted", array=f"a{number}", job=str(number))
    assert [e.id for e in ledger.by_stage(ledger.elements(tmp_path))["t/1"]] == ["0_0", "1_0"]


def test_no_sweeps_no_elements(tmp_path):
    assert ledger.elements(tmp_path) == [] and ledger.of_sweep(tmp_path) == []
