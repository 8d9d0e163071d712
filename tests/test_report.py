"""Tables and figures: closed-form statistics, nothing averaged that differs, nothing dropped in silence."""

import csv
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from stages import stage

from launch import records, report
from launch.board import boards

COLUMNS = (
    "task,dataset,model,method,sparsity_target,sparsity,sparsity_all,seed,metric,score,score_validation,"
    "steps,epochs,collapsed,digest,parent,variant"
)


def write(found, where):
    return report.write("toy", found, found, where / "reports")


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


def test_floats_keep_every_digit(tmp_path):
    stage(tmp_path / "runs", "a", score=100 / 3, sparsity=1 - 0.8**7)
    (row,) = rows(written(tmp_path / "runs", tmp_path))
    assert float(row["score"]) == 100 / 3 and float(row["sparsity_target"]) == 1 - 0.8**7


def test_mean_and_sample_deviation_in_closed_form(runs):
    (board,) = boards(records.read(where=runs))
    cell = board.cells["rigl", 0.5]  # 80, 82, 84: mean 82, deviation 2 with n - 1
    assert (cell.n, cell.mean, cell.deviation) == (3, 82.0, 2.0)
    assert board.reference["dense"].mean == 96.0 and board.reference["dense"].deviation == 1.0
    text = report.table(records.read(where=runs))
    assert "82.00±2.00" in text and "dense: 96.00±1.00" in text and "3 seeds" in text and "warning" not in text


def test_one_seed_has_no_deviation_and_a_warning(tmp_path):
    runs = tmp_path / "runs"
    stage(runs, "d", "dense", 0.0)
    stage(runs, "a", "imp", 0.5, score=91.5)
    text = report.table(records.read(where=runs))
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
    assert "collapsed in at least one seed" in page and "1 cells have no finished stage" in page
    assert "1 failed" in page and any("1 failed" in warning for warning in result.notes)


def test_no_dense_reference_is_a_warning(tmp_path):
    stage(tmp_path / "runs", "a", "imp", 0.5)
    assert "no dense reference" in report.table(records.read(where=tmp_path / "runs"))


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
    lines = report.table(records.read(where=tmp_path / "runs")).splitlines()
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
    assert report.table([]) == "no finished stages yet"


def test_dense_alone_is_drawn_and_tabled(tmp_path):
    stage(tmp_path / "runs", "d", "dense", 0.0)
    assert written(tmp_path / "runs", tmp_path).figures[0].exists()
    assert "dense: 90.00" in report.table(records.read(where=tmp_path / "runs"))


def test_importing_the_report_loads_neither_torch_nor_mlflow_nor_matplotlib():
    heavy = ("torch", "mlflow", "matplotlib")
    code = f"import sys, launch.report, launch.sync, launch.ui; print([m for m in {heavy} if m in sys.modules])"
    root = Path(__file__).parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stdout == "[]\n"


def test_results_of_earlier_versions_are_left_out_and_said(tmp_path, monkeypatch):
    from launch import records as module

    now = {"task": 1, "method": 2}
    monkeypatch.setattr(module, "_versions", lambda task, method: now if method == "imp" else {"task": 1, "method": 1})
    stage(tmp_path, "a" * 16, "dense", 0.0, score=98.0)
    stage(tmp_path, "b" * 16, "imp", 0.5, parent="a" * 16)  # its method's version was raised since
    stage(tmp_path, "c" * 16, "omp_after", 0.5, parent="b" * 16)  # current itself, but it starts from an old stage
    stage(tmp_path, "d" * 16, "omp_after", 0.5, parent="a" * 16, score=91.0)
    found = records.read("toy", tmp_path)
    assert module.outdated(found) == {"b" * 16, "c" * 16}
    written = write(found, tmp_path)
    assert written.rows == 2 and any("2 finished stages are of earlier versions" in w for w in written.notes)
    assert "91.00" in report.table(found) and "imp" not in report.table(found)


def test_a_changed_default_does_not_hide_what_a_result_was_trained_with(tmp_path, monkeypatch):
    """Two results that both were "the default" in their day are two variants, and never averaged."""
    from launch import grid, plan, words

    (digest,) = plan.make(words.parse(["method=dense", "run.seed=0"])).wished
    made = plan.make(words.parse(["method=dense", "run.seed=0"])).stages[digest].config
    folder = stage(tmp_path, digest, "dense", 0.0, task="classic")
    (folder / "config.yaml").write_text(yaml.safe_dump(made))
    assert records.read_one(folder).variant == ""
    other = grid.Composer(words.Request())
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
    assert "99.99999%" in report.table(records.read("toy", tmp_path))


def test_a_report_of_some_stages_keeps_all_rows_in_the_csv(runs, tmp_path):
    found = records.read(where=runs)
    shown = [r for r in found if r.method in ("dense", "rigl")]
    written = report.write("toy", found, shown, tmp_path / "reports")
    assert written.rows == len(found) and "imp" not in written.markdown.read_text()
