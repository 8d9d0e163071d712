"""Tables and figures: closed-form statistics, nothing averaged that differs, nothing dropped in silence."""

import csv
import json
import math
import subprocess
import sys
from collections import Counter

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from common import registry
from launch.report import figure, knee, notes, tables
from launch.report.board import boards
from launch.runs import records
from tests.support.places import ROOT
from tests.support.stages import stage

COLUMNS = (
    "task,dataset,model,method,sparsity_target,sparsity,sparsity_all,seed,metric,score,score_validation,"
    "steps,steps_of_line,epochs,collapsed,digest,parent,variant,zeros,replicate,data"
)


def table(found, among=None):
    return tables.arrange("toy", found if among is None else among, found).text()


def write(found, where):
    return tables.arrange("toy", found, found).write(where / "reports")


@pytest.fixture
def runs(tmp_path):
    """Two methods at two sparsities, three seeds each, and dense."""
    runs = tmp_path / "runs"
    for seed in range(3):
        dense = stage(runs, f"d{seed}", "dense", 0.0, seed, 95.0 + seed)
        for level, sparsity in enumerate((0.5, 0.75)):
            stage(runs, f"i{seed}{level}", "imp", sparsity, seed, 90.0 + seed - level, parent=dense.name)
            stage(runs, f"r{seed}{level}", "rigl", sparsity, seed, 80.0 + 2 * seed, parent=None)
    return runs


def written(runs, tmp_path):
    return write(records.read(where=runs), tmp_path)


def rows(result):
    with open(result.csv, newline="") as file:
        return list(csv.DictReader(file))


def test_columns_and_rows_of_the_csv(runs, tmp_path):
    stage(runs, "unfinished", "imp", 0.9, state="running")
    stage(runs, "elsewhere", "imp", 0.9, task="other")
    result = written(runs, tmp_path)
    assert result.csv == tmp_path / "reports" / "toy" / "results.csv"
    assert result.csv.read_text().splitlines()[0] == COLUMNS
    found = rows(result)
    assert len(found) == result.rows == 15
    assert [row["method"] for row in found] == ["dense"] * 3 + ["imp"] * 6 + ["rigl"] * 6
    assert [(row["sparsity_target"], row["seed"]) for row in found[3:9]] == [
        (s, x) for s in ("0.5", "0.75") for x in "012"
    ]
    assert found[3]["parent"] == "d0" and found[-1]["parent"] == ""
    assert found[0]["collapsed"] == "False"
    assert "no sparse network here is a faster or smaller one" in result.markdown.read_text()


def test_more_zeros_than_the_masks_prune_are_told(tmp_path):
    """Weights that live and are zero: what a curve says at 50% is that of a sparser network then."""
    for name, zeros in (("as-said", 0.5), ("more", 0.53)):
        stage(tmp_path / "runs", name, "rigl" if zeros > 0.5 else "imp", 0.5, zeros=zeros)
    result = written(tmp_path / "runs", tmp_path)
    assert [row["zeros"] for row in rows(result)] == ["0.5", "0.53"]
    assert [note for note in result.notes if "more zeros than their masks" in note and note.startswith("1 stage ")]


def test_floats_keep_every_digit(tmp_path):
    stage(tmp_path / "runs", "a", score=100 / 3, sparsity=1 - 0.8**7)
    (row,) = rows(written(tmp_path / "runs", tmp_path))
    assert float(row["score"]) == 100 / 3 and float(row["sparsity_target"]) == 1 - 0.8**7


def test_mean_and_sample_deviation_in_closed_form(runs):
    (board,) = boards(records.read(where=runs))
    cell = board.cells["rigl", 0.5]  # 80, 82, 84: mean 82, deviation 2 with n - 1
    assert (cell.n, cell.mean, cell.deviation) == (3, 82.0, 2.0)
    assert board.reference["dense"].mean == 96.0 and board.reference["dense"].deviation == 1.0
    text = table(records.read(where=runs))
    assert "82.00±2.00" in text and "dense: 96.00±1.00" in text and "3 seeds" in text and "warning" not in text


def test_one_seed_has_no_deviation_and_a_warning(tmp_path):
    runs = tmp_path / "runs"
    stage(runs, "d", "dense", 0.0)
    stage(runs, "a", "imp", 0.5, score=91.5)
    text = table(records.read(where=runs))
    assert "91.50" in text and "91.50±" not in text and "no deviation can be stated" in text


def test_missing_failed_and_collapsed_cells_are_shown(runs, tmp_path):
    (runs / "toy" / "r11" / "DONE").unlink()
    stage(runs, "r11", "rigl", 0.75, 1, state="failed")
    stage(runs, "late", "gmp", 0.75, 0, 10.0, collapsed=True)
    result = written(runs, tmp_path)
    page = result.markdown.read_text()
    gmp = next(line for line in page.splitlines() if line.startswith("| gmp"))
    assert gmp == "| gmp | - | 10.00\\* (n=1) |"
    assert "82.00±2.83 (n=2)" in page  # seeds 0 and 2: 80 and 84
    assert "collapsed in at least one seed: the model gives one answer" in page and "`collapse`" in page
    assert "1 average has no finished stage" in page
    assert "1 failed" in page and any("1 failed" in warning for warning in result.notes)


def test_a_sparsity_that_was_missed_is_marked_and_named(tmp_path):
    """Also in stages of before it was compared; half of what lives or goes as one is met."""
    runs = tmp_path / "runs"
    stage(runs, "d", "dense", 0.0)
    for name, method, measured in (("a", "rigl", 0.5), ("b", "imp", 0.8005), ("c", "gmp", 0.801)):
        path = stage(runs, name, method, 0.8, layers={"w": {"total": 1000, "kept": 500}}) / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"sparsity": measured}))
    text = table(records.read(where=runs))
    assert "! pruned otherwise than asked for" in text
    assert "gmp at 80.00% has 80.1%; rigl at 80.00% has 50%" in text and text.count("90.00!") == 2
    result = written(runs, tmp_path)
    assert "| rigl | 90.00! |" in result.markdown.read_text() and rows(result)[-1]["sparsity"] == "0.5"


def test_no_dense_reference_is_a_warning(tmp_path):
    stage(tmp_path / "runs", "a", "imp", 0.5)
    assert "no dense reference" in table(records.read(where=tmp_path / "runs"))


@pytest.mark.parametrize(
    "change", [{"dataset": "mnist"}, {"model": "resnet"}, {"metric": "f1"}, {"variant": "run.epochs=9"}]
)
def test_what_differs_in_more_than_the_seed_is_never_averaged(tmp_path, change):
    runs = tmp_path / "runs"
    stage(runs, "a", "imp", 0.5, seed=0, score=50.0)
    stage(runs, "b", "imp", 0.5, seed=1, score=70.0, **change)
    cells = [cell for board in boards(records.read(where=runs)) for cell in board.cells.values()]
    assert sorted((cell.n, cell.mean) for cell in cells) == [(1, 50.0), (1, 70.0)]


def test_legends_name_what_is_not_common_to_all(tmp_path):
    runs = tmp_path / "runs"
    shared = "run.epochs=9"
    stage(runs, "d", "dense", 0.0)
    stage(runs, "a", "imp", 0.5, variant=f"{shared}, method.rates=[0.2, 0.1]")
    stage(runs, "b", "imp", 0.5, variant=shared)
    stage(runs, "c", "rigl", 0.5, variant=shared)
    (board,) = boards(records.read(where=runs))
    assert board.methods == ["imp", "imp rates=[0.2, 0.1]", "rigl"] and board.common == [shared]
    assert any("dense reference was trained without run.epochs=9" in note for note in board.notes())


FOLD_0, FOLD_1 = "data.checksum=aaaaaaaa", "task.fold=1, data.checksum=bbbbbbbb"


def test_folds_are_called_by_their_number_not_by_the_checksum_of_their_data(tmp_path):
    runs = tmp_path / "runs"
    for number, variant in enumerate((FOLD_0, FOLD_1)):
        for method, sparsity in (("dense", 0.0), ("rigl", 0.5)):
            stage(runs, f"{method}{number}", method, sparsity, task="protein", dataset="hp-s2c2", variant=variant)
    (board,) = boards(records.read(where=runs))
    assert board.methods == ["rigl fold=0", "rigl fold=1"] and set(board.reference) == {"dense fold=0", "dense fold=1"}


def test_data_that_differ_in_their_checksum_alone_are_told_apart_by_it(tmp_path):
    """Part of a data set is never taken for the whole."""
    runs = tmp_path / "runs"
    for name, variant in (("a", FOLD_0), ("b", "data.checksum=bbbbbbbb"), ("c", FOLD_1)):
        stage(runs, name, "rigl", 0.5, task="protein", dataset="hp-s2c2", variant=variant)
    (board,) = boards(records.read(where=runs))
    assert board.methods == ["rigl checksum=aaaaaaaa", "rigl checksum=bbbbbbbb", "rigl fold=1 checksum=bbbbbbbb"]


def test_a_constant_answers_score_stands_below_the_dense_line(tmp_path):
    runs = tmp_path / "runs"
    for seed, blind in enumerate((62.44, 62.44)):
        stage(runs, f"d{seed}", "dense", 0.0, seed, baseline=blind)
        stage(runs, f"a{seed}", "rigl", 0.5, seed, baseline=blind)
    lines = table(records.read(where=runs)).splitlines()
    assert lines[[line.startswith("dense: 90.00") for line in lines].index(True) + 1] == "constant answer: 62.44"
    assert "- constant answer: 62.44" in (tmp_path / written(runs, tmp_path).markdown).read_text()
    stage(runs, "d2", "dense", 0.0, 2, baseline=60.0)  # another test set; each counts once
    assert "constant answer: 61.63 (mean; 60.00 to 62.44)" in table(records.read(where=runs))


def test_warnings_are_told_in_their_own_words_once_with_their_number(tmp_path):
    runs, leak = tmp_path / "runs", "1 of 8 test sequences are also among the training sequences"
    for number in range(3):
        stage(runs, f"a{number}", "rigl", 0.5, number, warnings=[leak])
    stage(runs, "b", "rigl", 0.5, 7, warnings=["checkpoint 2 is damaged; the one before is used"])
    stage(runs, "c", "rigl", 0.5, 8, warnings=[])
    told = [note for note in written(runs, tmp_path).notes if "went on with a warning" in note]
    assert told == [
        f"3 stages went on with a warning: {leak}",
        "1 stage went on with a warning: checkpoint 2 is damaged; the one before is used",
    ]
    words = ("seven", "rows", "were", "left", "out", "of", "one")
    for number, word in enumerate(words):
        stage(runs, f"e{number}", "rigl", 0.5, 10 + number, warnings=[f"{word} is not there"])
    result = written(runs, tmp_path)
    assert sum("went on with a warning" in note for note in result.notes) == 5
    assert "4 more kinds of warnings: results.md has all" in result.notes
    page = result.markdown.read_text()
    assert page.count("went on with a warning") == 9 and "more kind" not in page
    assert all(f"{word} is not there" in page for word in words)


def test_warnings_that_differ_in_numbers_and_paths_alone_are_one_kind_and_grave_ones_are_never_cut(tmp_path):
    runs, grave = tmp_path / "runs", "task.protocol=published: nothing was held out, so scores are too good"
    for fold in range(5):
        own = [f"{kind}: {fold} of 1217 problems (first data/fold{fold}/dev.csv:{89 + fold})" for kind in "abcdef"]
        stage(runs, f"f{fold}", "rigl", 0.5, fold, warnings=own + [grave] * (fold == 4))
    result = written(runs, tmp_path)
    told = [note for note in result.notes if "went on with a warning" in note]
    assert told[0] == f"1 stage went on with a warning: {grave}" and len(told) == 5
    first = "a: 0 of 1217 problems (first data/fold0/dev.csv:89) (and 4 more with other numbers or paths)"
    assert told[1] == f"5 stages went on with a warning: {first}"
    assert "2 more kinds of warnings: results.md has all" in result.notes
    assert all(f"warning: {kind}: 0 of" in result.markdown.read_text() for kind in "abcdef")
    several = [f"{kind}: scores are too good" for kind in "abcdefgh"]
    assert len(notes.warnings([several, ["mild"]], most=5)) == 8 + 1, "however many there are"


def test_tensors_that_never_moved_are_named(tmp_path):
    for name, tensors in (("a", ["head.weight", "head.bias"]), ("b", ["head.weight", "head.bias"]), ("c", [])):
        stage(tmp_path / "runs", name, "rigl", 0.5, ord(name), unmoved=tensors)
    (note,) = [note for note in written(tmp_path / "runs", tmp_path).notes if "moved" in note]
    assert note.startswith("2 stages in which trainable tensors never moved: head.weight, head.bias (")
    assert note.endswith(", a, b")


def test_the_newer_of_two_results_with_one_seed_counts(tmp_path):
    runs = tmp_path / "runs"
    stage(runs, "new", "imp", 0.5, seed=0, score=70.0, start=2e9)
    stage(runs, "old", "imp", 0.5, seed=0, score=50.0)
    (board,) = boards(records.read(where=runs))
    assert board.cells["imp", 0.5].mean == 70.0 and any("several results" in note for note in board.notes())
    assert written(runs, tmp_path).rows == 2


def test_levels_that_differ_by_the_rounding_of_a_count_share_a_row(tmp_path):
    runs = tmp_path / "runs"
    stage(runs, "a", "omp_after", 1 - 0.8**3)
    stage(runs, "b", "imp", None, sparsity_target=0.4879977)
    stage(runs, "c", "rigl", 0.9)
    stage(runs, "e", "rigl", 0.90001)  # one method, two targets: never joined
    (board,) = boards(records.read(where=runs))
    assert board.levels == [0.488, 0.9, 0.90001]
    assert {label for label, level in board.cells if level == 0.488} == {"imp", "omp_after"}


def test_a_score_that_is_no_number_is_left_out_and_said(runs):
    stage(runs, "nan", "imp", 0.5, seed=7, score=math.nan)
    (board,) = boards(records.read(where=runs))
    assert board.cells["imp", 0.5].n == 3 and any("seed 7" in note for note in board.notes())


def test_many_methods_stay_within_the_width(tmp_path):
    for i in range(9):
        stage(tmp_path / "runs", f"{i}", f"method_number_{i}", 0.5)
    lines = table(records.read(where=tmp_path / "runs")).splitlines()
    assert max(map(len, lines)) <= 120 and all(any(f"method_number_{i}" in line for line in lines) for i in range(9))


def test_figure_is_a_png_of_some_size(runs, tmp_path):
    stage(runs, "late", "gmp", 0.75, 0, 10.0, collapsed=True)
    result = written(runs, tmp_path)
    assert [path.name for path in result.figures] == ["curves-digits-lenet.png"]
    data = result.figures[0].read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) > 20_000
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    assert width > 1000 and height > 600
    assert f"({result.figures[0].name})" in result.markdown.read_text()


def test_nothing_finished_is_no_error(tmp_path):
    result = write([], tmp_path)
    assert result.rows == 0 and result.figures == [] and result.csv.read_text().strip() == COLUMNS
    assert table([]) == "no finished stages yet"


def test_dense_alone_is_drawn_and_tabled(tmp_path):
    stage(tmp_path / "runs", "d", "dense", 0.0)
    assert written(tmp_path / "runs", tmp_path).figures[0].exists()
    assert "dense: 90.00" in table(records.read(where=tmp_path / "runs"))


def test_importing_the_report_loads_neither_torch_nor_mlflow_nor_matplotlib():
    heavy = ("torch", "mlflow", "matplotlib")
    modules = "launch.report.tables, launch.mlflow_view.sync, launch.mlflow_view.ui"
    code = f"import sys, {modules}; print([m for m in {heavy} if m in sys.modules])"
    root = ROOT
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stdout == "[]\n"


def test_results_of_earlier_versions_are_left_out_and_said(tmp_path, monkeypatch):
    from launch.runs import records

    now = {"task": 1, "method": 2}
    monkeypatch.setattr(records, "_versions", lambda task, method: now if method == "imp" else {"task": 1, "method": 1})
    stage(tmp_path, "a" * 16, "dense", 0.0, score=98.0)
    stage(tmp_path, "b" * 16, "imp", 0.5, parent="a" * 16)  # its method's version was raised since
    stage(tmp_path, "c" * 16, "omp_after", 0.5, parent="b" * 16)  # current itself, but it starts from an old stage
    stage(tmp_path, "d" * 16, "omp_after", 0.5, parent="a" * 16, score=91.0)
    found = records.read("toy", tmp_path)
    assert records.outdated(found) == {"b" * 16, "c" * 16}
    written = write(found, tmp_path)
    assert written.rows == 2 and any("2 finished stages are of earlier versions" in w for w in written.notes)
    assert "91.00" in table(found) and "imp" not in table(found)


def test_a_changed_default_does_not_hide_what_a_result_was_trained_with(tmp_path, monkeypatch):
    """Two results that both were "the default" in their day are two variants, and never averaged."""
    from launch.plan import planner
    from launch.request import arguments, compose

    (digest,) = planner.make(arguments.parse(["method=dense", "run.seed=0"])).wished
    made = planner.make(arguments.parse(["method=dense", "run.seed=0"])).stages[digest].config
    folder = stage(tmp_path, digest, "dense", 0.0, task="classic")
    (folder / "config.yaml").write_text(yaml.safe_dump(made))
    assert records.read_one(folder).variant == ""
    other = compose.Composer(arguments.Request())
    (origin, values), preset = other.layers
    other.layers = [(origin, {**values, "run": {**values["run"], "epochs": 7}}), preset]
    monkeypatch.setattr(records, "_composer", lambda task: other)
    assert records.read_one(folder).variant == f"run.epochs={float(made['settings']['run']['epochs'])}"


def test_sparsities_next_to_one_are_told_apart_and_drawn(tmp_path):
    for number, sparsity in enumerate((0.9999999, 0.9999998, 0.3, 0.1 + 0.2)):
        stage(tmp_path, str(number), "imp", sparsity, seed=number)
    (board,) = boards(records.read("toy", tmp_path))
    assert [cell.n for cell in board.cells.values()] == [2, 1, 1] and max(board.levels) < 1
    assert write(records.read("toy", tmp_path), tmp_path).figures[0].stat().st_size > 10_000
    assert "99.99999%" in table(records.read("toy", tmp_path))


def test_a_report_of_some_stages_keeps_all_rows_in_the_csv(runs, tmp_path):
    found = records.read(where=runs)
    shown = [r for r in found if r.method in ("dense", "rigl")]
    written = tables.arrange("toy", found, shown).write(tmp_path / "reports")
    assert written.rows == len(found) and "imp" not in written.markdown.read_text()


# --- what a result costs with all it stands on ------------------------------------------------------------------------


def rounds(runs, seed=0, number=3):
    """A dense training of 40 steps and rounds of 30 that stand on it one after the other; returns the digests."""
    names = [stage(runs, f"dense{seed}", "dense", 0.0, seed).name]
    for k in range(1, number + 1):
        names.append(stage(runs, f"r{seed}{k}", "imp", 1 - 0.8**k, seed, parent=names[-1], lines=3).name)
    return names


def test_steps_of_a_line_are_summed_over_its_ancestors(tmp_path):
    for seed in range(2):
        rounds(tmp_path / "runs", seed)
    found = records.read(where=tmp_path / "runs")
    shown = [record for record in found if record.digest in ("r03", "r13")]
    lines = records.steps_of_lines(found)
    assert {digest: lines[digest] for digest in ("dense0", "r01", "r02", "r03")} == {
        "dense0": 40, "r01": 70, "r02": 100, "r03": 130,
    }  # fmt: skip
    result = tables.arrange("toy", found, shown).write(tmp_path / "reports")
    assert {row["digest"]: row["steps_of_line"] for row in rows(result)} == {k: str(v) for k, v in lines.items()}
    # the table shows what was asked for; what it stands on is found among the others
    text, page = table(shown, found), result.markdown.read_text()
    assert "with those of all a result stands on: imp 130" in text and "| imp | 130 |" in page
    assert "with those of all a result stands on: dense 40; imp 70 to 130" in table(found)


def test_the_steps_of_a_line_are_not_told_where_a_part_of_it_is_gone(tmp_path):
    names = rounds(tmp_path / "runs")
    (tmp_path / "runs" / "toy" / "r01" / "DONE").unlink()
    stage(tmp_path / "runs", "x", "gmp", 0.5, parent="y")
    stage(tmp_path / "runs", "y", "gmp", 0.6, parent="x")  # damaged: a circle
    found = records.read(where=tmp_path / "runs")
    assert records.steps_of_lines(found) == {names[0]: 40}
    assert "dense 40" in table(found) and "imp 70" not in table(found)


def test_a_line_of_a_thousand_rounds_is_summed(tmp_path):
    summary, parents = {"steps": 1}, {str(k): {"parent": str(k - 1) if k else None} for k in range(1001)}
    found = [records.Record(tmp_path / name, config, {}, summary, True) for name, config in parents.items()]
    assert records.steps_of_lines(found[::-1])["1000"] == 1001


# --- knees, and what is measured beside the score ---------------------------------------------------------------------


@pytest.fixture
def curves(tmp_path):
    """Two curves over eight levels and two seeds: one with a corner at 60%, one that falls evenly."""
    runs = tmp_path / "runs"
    for seed in (0, 1):
        stage(runs, f"d{seed}", "dense", 0.0, seed, 95.0 + seed)
        for level in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            stage(runs, f"e{seed}{level}", "essential", level, seed, 95.0 + seed - max(0, 200 * (level - 0.6)) - level)
            stage(runs, f"r{seed}{level}", "random_after", level, seed, 95.0 + seed - 60 * level)
    return runs


def test_the_knee_of_each_curve_is_told_and_what_it_costs(curves, tmp_path):
    line = "knee (levels to 90.00%), beyond which the score falls much faster than before: "
    line += "essential 60.00% (0.60 below dense)"
    text = " ".join(table(records.read(where=curves)).split())
    assert f"{line}; none: random_after" in text
    assert "too early" not in text  # nobody said what a constant answer scores
    page = written(curves, tmp_path).markdown.read_text()
    assert page.count(line) == 1


def test_a_knee_does_not_depend_on_trials_with_other_settings(curves):
    """Each curve is read against the dense networks of its own settings, however many others there are."""
    for seed in (0, 1):
        other = {"variant": "run.learning_rate=0.01"}
        stage(curves, f"x{seed}", "dense", 0.0, seed, 70.0 + seed, **other)
        for level in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            score = 70.0 + seed - max(0, 200 * (level - 0.7)) - level
            stage(curves, f"y{seed}{level}", "essential", level, seed, score, **other)
    text = " ".join(table(records.read(where=curves)).split())
    assert "essential 60.00% (0.60 below dense)" in text
    assert "essential learning_rate=0.01 70.00% (0.70 below dense)" in text


def test_the_levels_that_a_knee_rests_on_are_told_of_each_where_they_differ(curves):
    for seed in (0, 1):
        stage(curves, f"g{seed}", "random_after", 0.95, seed, 38.5 + seed)
    text = " ".join(table(records.read(where=curves)).split())
    assert "essential 60.00% (0.60 below dense, levels to 90.00%); none: random_after (levels to 95.00%)" in text


def test_levels_that_end_too_early_for_a_knee_are_named(curves, tmp_path):
    """Dense has 95.5, the curves end at 34.6 and 41.5: half-way from a constant answer is above, between or below."""

    def told(blind: float) -> str:
        found = records.read(where=curves)
        for record in found:
            record.summary["baseline"] = blind
        page = write(found, tmp_path).markdown.read_text()
        parts = " ".join(table(found).split()).partition("end too early to trust this")[2].partition("warning")
        named = parts[0].partition(": ")[2].split(" optimizer steps")[0]
        assert (f": {named}\n" in page) == bool(named) == ("too early" in page)
        return named

    assert told(-20.0) == "random_after"  # 37.75
    assert told(-30.0) == "essential, random_after"  # 32.75
    assert told(-12.5) == ""  # 41.5: not above
    assert told(10.0) == ""


@given(st.floats(-100, 100), st.floats(0.1, 100), st.floats(0, 1))
def test_levels_end_too_early_where_more_than_half_of_the_lead_is_left(blind, lead, left):
    assume(abs(left - 0.5) > 1e-6)
    assert knee.early(blind + lead, blind + left * lead, blind) == (left > 0.5)


def test_the_knee_is_marked_in_the_figure(curves, tmp_path, monkeypatch):
    rings, ring = [], figure._ring
    monkeypatch.setattr(figure, "_ring", lambda *arguments: rings.append(arguments[3:]) or ring(*arguments))
    written(curves, tmp_path)
    assert rings == [(figure.position(0.6), pytest.approx(94.9)), ()]  # the curve's, and its entry in the legend


def drawn(labels, monkeypatch, tmp_path) -> dict[str, tuple]:
    """(colour, marker, dash, fill) of each method in a figure of all of them."""
    for number, label in enumerate(labels):
        name, _, variant = label.partition(" ")
        stage(tmp_path / "runs", f"s{number}", name, 0.5, variant=variant and f"method.{variant}")
    found, curve = {}, figure._curve

    def seen(axes, board, method, *more):
        line = curve(axes, board, method, *more)
        found[method] = line.get_color(), line.get_marker(), line.get_linestyle(), line.get_fillstyle()
        return line

    monkeypatch.setattr(figure, "_curve", seen)
    written(tmp_path / "runs", tmp_path)
    return found


@pytest.mark.parametrize("names", [("imp", "snip"), ("l0", "variational_dropout"), ("gmp", "rigl"), None])
def test_no_two_methods_of_a_figure_look_alike(names, monkeypatch, tmp_path):
    names = names or [name for name in registry.methods() if name != "dense"]
    found = drawn(names, monkeypatch, tmp_path)
    assert len({look[:2] for look in found.values()}) == len(names)
    if len(names) <= len(figure.COLOURS):
        assert len({look[0] for look in found.values()}) == len({look[1] for look in found.values()}) == len(names)


def test_variants_of_a_method_share_its_colour_and_differ_in_dashes(monkeypatch, tmp_path):
    """One level alone has no dashes: what is filled of the marker differs as well."""
    labels = ["imp", "imp rate=0.3", "imp rate=0.4", "imp rate=0.5", "imp rate=0.6"]
    found = drawn([*labels, "snip"], monkeypatch, tmp_path)
    assert len({found[label][3] for label in labels}) == 5 and found["imp"][3] == found["snip"][3] == "full"
    assert found["imp"][:2] == found["imp rate=0.5"][:2] != found["snip"][:2]
    assert found["imp"][2] != found["imp rate=0.5"][2]


@given(st.sets(st.from_regex(r"[a-z0-9_]{1,12}", fullmatch=True) | st.sampled_from(figure.FIRST), max_size=90))
def test_a_look_is_shared_only_where_there_are_no_more(names):
    looks = figure.styles(names)
    assert set(looks) == names
    pairs, colours, markers = (
        Counter(v) for v in (looks.values(), *([look[i] for look in looks.values()] for i in (0, 1)))
    )
    for count, number in ((pairs, 81), (colours, 9)):
        assert max(count.values(), default=0) <= math.ceil(len(names) / number)
    assert len(names) > 9 or max(markers.values(), default=0) <= 1
    for place, name in enumerate(figure.FIRST):  # and no other shifts them
        assert name not in names or looks[name] == (figure.COLOURS[place], figure.MARKERS[place])


def test_what_a_method_prefers_depends_on_its_name_alone(monkeypatch):
    alone = {name: figure.styles({name})[name] for name in registry.methods()}
    monkeypatch.setattr(registry, "methods", lambda: ["aaa", *alone])
    assert alone == {name: figure.styles({name})[name] for name in alone}
    assert len(set(alone.values())) > 6


def test_short_curves_say_nothing_of_knees(runs):
    assert "knee" not in table(records.read(where=runs))


def test_measurements_are_shown_with_mean_and_deviation(runs, tmp_path):
    for seed, value in enumerate((1.0, 2.0, 3.0)):
        more = {"instability": value, "distance": 4.0, "line_score": [97.0, 96.0]}
        stage(runs, f"m{seed}", "instability", 0.5, seed, measurements=more)
        stage(runs, f"n{seed}", "other", 0.75, seed, measurements={"share": 0.25 if seed else math.nan})
    text, page = table(records.read(where=runs)), written(runs, tmp_path).markdown.read_text()
    lines = [line.split() for line in text.splitlines()]
    assert ["measured", "instability", "distance"] in lines
    assert ["instability", "50.00%", "2±1", "4±0"] in lines
    assert "| method | sparsity | instability | distance |" in page
    assert "| instability | 50.00% | 2±1 | 4±0 |" in page
    assert "line_score" not in text + page, "whole curves stay in the summary"
    assert not any("share" in line for line in lines), "nor is a mean told that some seeds have no part in"


def test_dense_alone_is_told_by_its_name_and_its_settings_once(tmp_path):
    runs = tmp_path / "runs"
    for seed in range(2):
        stage(runs, f"d{seed}", "dense", 0.0, seed, variant="run.epochs=5, task.length=64", measurements={"mae": 2.0})
    page = written(runs, tmp_path).markdown.read_text()
    assert "| dense | 0.00% |" in page and page.count("epochs=5") == 1


def test_what_dense_measures_stands_above_the_methods_and_alone(tmp_path):
    runs = tmp_path / "runs"
    for seed in range(2):
        stage(runs, f"d{seed}", "dense", 0.0, seed, measurements={"mae": 2.0 + seed})
    assert "| dense | 0.00% | 2.5±0.71 |" in written(runs, tmp_path).markdown.read_text()
    stage(runs, "r", "rigl", 0.5, measurements={"mae": 4.0})
    page = written(runs, tmp_path).markdown.read_text()
    assert "| dense | 0.00% | 2.5±0.71 |\n| rigl | 50.00% | 4 |" in page


def test_measurements_are_explained_below_their_table(runs, tmp_path):
    for number, (method, name) in enumerate(
        [("instability", "distance"), ("l0", "learned_sparsity"), ("gone", "what")]
    ):
        stage(runs, f"m{number}", method, 0.5, measurements={name: 0.5})
    text, page = table(records.read(where=runs)), written(runs, tmp_path).markdown.read_text()
    for method, name in (("instability", "distance"), ("l0", "learned_sparsity")):
        meaning = f"{name}: {registry.method(method).facts.measures[name]}"
        assert meaning in " ".join(text.split()) and page.count(f"\n- {meaning}\n") == 1
    assert "loss_barrier" not in text + page  # which is not in the table
    assert "what:" not in text + page and "| gone | 50.00% | 0.5 |" in page


def test_measurements_are_columns_of_the_csv_after_the_others(runs, tmp_path):
    stage(runs, "m", "instability", 0.5, measurements={"instability": 100 / 3, "distance": 4, "line_score": [97.0]})
    stage(runs, "n", "l0", 0.5, measurements={"learned_sparsity": math.nan})
    stage(runs, "o", "l0", 0.75, measurements={"learned_sparsity": None})
    result = written(runs, tmp_path)
    names = ["measurements.distance", "measurements.instability", "measurements.learned_sparsity"]
    assert result.csv.read_text().splitlines()[0] == ",".join([COLUMNS, *names])
    found = {row["digest"]: [row[name] for name in names] for row in rows(result)}
    assert found["m"] == ["4", repr(100 / 3), ""] and found["n"] == ["", "", "nan"]
    assert found["o"] == found["d0"] == ["", "", ""]


def test_the_table_of_best_steps_leaves_out_methods_without_steps(tmp_path):
    runs = tmp_path / "runs"
    stage(runs, "d", "dense", 0.0, best_step=30)
    for level in (0.5, 0.75):
        stage(runs, f"e{level}", "omp_no_retraining", level, best_step=0, steps=0)
        stage(runs, f"i{level}", "imp", level, best_step=20)
    table = written(runs, tmp_path).markdown.read_text().split("best validation")[1].split("\n\n")[1]
    assert "| imp | 20 | 20 |" in table and "omp_no_retraining" not in table
    (board,) = boards([r for r in records.read(where=runs) if r.method == "omp_no_retraining"])
    assert board.cells["omp_no_retraining", 0.5].steps is None


def test_labels_leave_out_the_group_of_every_setting(tmp_path):
    for number, variant in enumerate(["", "method.structure=2:4, method.l1=0.0001, method.rates={a_1: 0.1, b: 0.2}"]):
        stage(tmp_path / "runs", str(number), "my_l1", 0.5, variant=variant)
    (board,) = boards(records.read(where=tmp_path / "runs"))
    assert board.methods == ["my_l1", "my_l1 structure=2:4 l1=0.0001 rates={a_1: 0.1, b: 0.2}"]


def test_settings_are_in_the_order_of_their_numbers(tmp_path):
    runs = tmp_path / "runs"
    for step in (100, 20, 3):
        stage(runs, f"s{step}", "imp", 0.5, variant=f"method.rewind={step}", measurements={"instability": 1.0})
    (board,) = boards(records.read(where=runs))
    assert board.methods == ["imp rewind=3", "imp rewind=20", "imp rewind=100"]
    text = table(records.read(where=runs))
    assert text.index("imp rewind=3 50.00%") < text.index("imp rewind=20 50.00%") < text.index("=100 50.00%")
