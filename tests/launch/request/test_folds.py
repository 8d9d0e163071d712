"""Folds are averaged as seeds are: in closed form, no pair twice, none missing in silence, no two data mixed."""

import csv
import itertools
import json
import random
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common import paths
from launch import wording
from launch.mlflow_view.content import parameters, tags
from launch.monitor import status
from launch.plan import outline, planner
from launch.report import figure, tables
from launch.report.board import boards
from launch.report.rows import finished as rows_of
from launch.request import arguments, folds, variants
from launch.runs import records
from tests.support.stages import stage

FOLDS, SEEDS = range(5), range(3)


def score(method: str, fold: int, seed: int) -> float:
    return random.Random(f"{method} {fold} {seed}").uniform(40, 95)


def fill(runs, leave_out=(), folds=FOLDS, seeds=SEEDS, **more):
    """Dense and two methods at one sparsity, a score for every fold and seed but those left out."""
    for method, fold, seed in itertools.product(("dense", "imp", "rigl"), folds, seeds):
        if (method, fold, seed) not in leave_out:
            values = {"replicate": f"task.fold={fold}", "data": f"{fold}{fold}{fold}{fold}aaaa", **more}
            level = 0.0 if method == "dense" else 0.5
            stage(runs, f"{method}{fold}{seed}", method, level, seed, score(method, fold, seed), **values)
    return records.read(where=runs)


def board_of(found):
    (board,) = boards(found)
    return board


def warned(board) -> list[str]:
    return [note for note in board.notes() if note.startswith("warning")]


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def planned(*asked: str) -> list[dict]:
    """The configurations of a plan of protein's generated data, as folders hold them."""
    made = planner.make(arguments.parse(["task=protein", *asked]))
    return [stage.config for stage in made.stages.values()]


def finished(runs, content: dict, value: float = 60.0):
    """The folder that training would leave, with the configuration of a real plan."""
    level = 0.0 if content["method"] == "dense" else content["sparsity"]
    names = {"task": "protein", "dataset": "generated", "model": "transformer"}
    folder = stage(runs, content["digest"], content["method"], level, content["seed"], value, **names)
    paths.config(folder).write_text(yaml.safe_dump(content))
    return folder


# --- means and deviations ---------------------------------------------------------------------------------------------


def test_a_cell_is_over_all_pairs_of_fold_and_seed(runs):
    board = board_of(fill(runs))
    for method, cell in (("dense", board.reference["dense"]), ("imp", board.cells["imp", 0.5])):
        values = np.array([[score(method, fold, seed) for seed in SEEDS] for fold in FOLDS])
        assert (cell.n, len(cell.pairs)) == (15, 15)
        assert cell.mean == pytest.approx(values.mean(), rel=1e-12)
        assert cell.deviation == pytest.approx(values.std(ddof=1), rel=1e-12)
        assert cell.between == pytest.approx((values.mean(1).std(ddof=1), values.mean(0).std(ddof=1)), rel=1e-12)
    assert board.methods == ["imp", "rigl"], "a fold is no curve of its own"
    told = "mean ± sample standard deviation over 5 folds x 3 seeds (n = 15 unless stated); folds 0-4, seeds 0, 1, 2"
    assert board.notes() == [f"accuracy, {told}"]


def test_one_seed_over_folds_and_one_fold_over_seeds(runs, tmp_path):
    board = board_of(fill(runs, seeds=[7]))
    values = [score("imp", fold, 7) for fold in FOLDS]
    cell = board.cells["imp", 0.5]
    assert (cell.mean, cell.deviation) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert cell.between == (pytest.approx(np.std(values, ddof=1)), None)
    assert "over 5 folds x 1 seed (n = 5 unless stated); folds 0-4, seed 7" in board.notes()[0]
    board = board_of(fill(tmp_path / "other", folds=[3]))
    assert "over 3 seeds (n = 3 unless stated); fold 3, seeds 0, 1, 2" in board.notes()[0]
    assert board.cells["imp", 0.5].between[0] is None


def test_the_report_tells_folds_in_a_column_and_takes_the_deviation_apart(runs, tmp_path, monkeypatch):
    titles, title = [], figure._dress
    monkeypatch.setattr(figure, "_dress", lambda axes, board: (title(axes, board), titles.append(axes)))
    found = fill(runs)
    written = tables.arrange("toy", found, found).write(tmp_path / "reports")
    with open(written.csv, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["replicate"], row["seed"]) for row in rows[:15]] == [
        (f"task.fold={fold}", str(seed)) for fold in FOLDS for seed in SEEDS
    ]
    assert {row["variant"] for row in rows} == {""} and rows[3]["data"] == "1111aaaa"
    page = written.markdown.read_text()
    first, second = (f"{part:.2f}" for part in board_of(found).cells["imp", 0.5].between)
    assert "Sample standard deviation of the means of folds / of the means of seeds; dense: " in page
    assert f"| imp | {first} / {second} |" in page
    (axes,) = titles
    assert axes.get_title(loc="right") == "mean ± 1 standard deviation, folds 0-4, seeds 0, 1, 2"


def test_tens_of_folds_stand_in_the_order_of_their_numbers(runs):
    board = board_of(fill(runs, folds=(10, 9, 2), seeds=[0]))
    assert board.splits == ["task.fold=2", "task.fold=9", "task.fold=10"]


# --- nothing missing in silence, nothing twice ------------------------------------------------------------------------


def test_a_missing_pair_is_told_with_its_number(runs):
    board = board_of(fill(runs, leave_out={("imp", 2, 1)}))
    cell = board.cells["imp", 0.5]
    assert cell.n == 14 and cell.text(board.expected).endswith(" (n=14)")
    (told,) = warned(board)
    assert "1 average is not over the same folds and seeds as the others" in told
    assert told.endswith("not paired: imp at 50.00% without fold 2 seed 1")


def test_as_many_results_of_other_folds_are_no_fair_comparison(runs):
    """n is the same; a method on easier folds would win by that."""
    found = fill(runs, leave_out={("rigl", 4, seed) for seed in SEEDS})
    for seed in SEEDS:
        stage(runs, f"r{seed}", "rigl", 0.5, seed, 99.0, replicate="task.fold=5", data="5555aaaa")
    board = board_of(records.read(where=runs))
    assert len(found) == 42 and board.cells["rigl", 0.5].n == 15 == board.expected
    (told,) = warned(board)
    assert told.endswith("rigl at 50.00% without fold 4 seed 0 and 2 more, with fold 5 seed 0 and 2 more")


def test_a_missing_dense_pair_is_told_too(runs):
    (told,) = warned(board_of(fill(runs, leave_out={("dense", 0, 0)})))
    assert "dense without fold 0 seed 0" in told


def test_other_seeds_are_told_without_folds(runs):
    for method, seeds in (("dense", (0, 1)), ("imp", (0, 1)), ("rigl", (1, 2))):
        for seed in seeds:
            stage(runs, f"{method}{seed}", method, 0.0 if method == "dense" else 0.5, seed)
    (told,) = warned(board_of(records.read(where=runs)))
    assert "over the same seeds as" in told and told.endswith("rigl at 50.00% without seed 0, with seed 2")


def test_a_pair_counts_once_and_it_is_said(runs):
    found = fill(runs)
    stage(runs, "again", "imp", 0.5, 1, 10.0, replicate="task.fold=3", data="3333aaaa", start=2e9)
    board = board_of(records.read(where=runs))
    values = [10.0 if (f, s) == (3, 1) else score("imp", f, s) for f in FOLDS for s in SEEDS]
    assert len(found) == 45 and board.cells["imp", 0.5].n == 15
    assert board.cells["imp", 0.5].mean == pytest.approx(np.mean(values))
    (told,) = warned(board)
    assert "several results for imp at 50.00%, fold 3 seed 1: the newest is shown" in told


def test_the_constant_answer_counts_once_a_pair(runs):
    """Fold 0 has 40, fold 1 has 60: their mean is 50, however many stages of a fold are finished."""
    for fold, number in ((0, 1), (1, 4)):
        for level in range(number):
            more = {"replicate": f"task.fold={fold}", "data": str(fold) * 8, "baseline": 40.0 + 20 * fold}
            stage(runs, f"{fold}{level}", "imp", 0.5 + level / 10, **more)
    board = board_of(records.read(where=runs))
    assert board.constants == ["constant answer: 50.00 (mean; 40.00 to 60.00)"] and board.baselines == {"imp": 50.0}


def test_the_constant_answer_is_told_apart_where_the_rows_are(runs, tmp_path):
    """Fold 0 on two data, fold 1 on one: no mean over any of them, and the doubt about levels looks at a row's own."""
    told = (("a", 0, "0000aaaa", 5.0), ("b", 1, "1111aaaa", 30.0), ("c", 0, "0000bbbb", 60.0))
    for name, fold, data, blind in told:
        for level, value in ((0.0, 90.0), (0.3, 85.0), (0.6, 80.0), (0.9, 55.0)):
            more = {"replicate": f"task.fold={fold}", "data": data, "baseline": blind}
            stage(runs, f"{name}{level}", "imp" if level else "dense", level, score=value, **more)
    found = records.read(where=runs)
    board = board_of(found)
    assert board.constants == [
        "constant answer fold=0 checksum=0000aaaa: 5.00",
        "constant answer fold=0 checksum=0000bbbb: 60.00",
        "constant answer fold=1 checksum=1111aaaa: 30.00",
    ]
    early = {label.split("=")[-1]: board.early(label) for label in board.methods}
    assert early == {"0000aaaa": True, "0000bbbb": False, "1111aaaa": False}
    written = tables.arrange("toy", found, found).write(tmp_path / "reports")
    for page in (tables.arrange("toy", found, found).text(), written.markdown.read_text()):
        assert all(line in page for line in board.constants) and "mean;" not in page


def test_the_constant_answer_is_told_once_where_it_is_the_same_on_all_data(runs):
    for length, blind in ((32, 40.0), (64, 40.0), (128, 40.0)):
        stage(runs, f"{length}", "imp", 0.5, variant=f"task.length={length}, run.steps=9", baseline=blind)
    assert board_of(records.read(where=runs)).constants == ["constant answer: 40.00"]
    stage(runs, "256", "imp", 0.5, variant="task.length=256, run.steps=9", baseline=50.0)
    assert board_of(records.read(where=runs)).constants == [
        f"constant answer length={length}: {blind}.00" for length, blind in ((128, 40), (256, 50), (32, 40), (64, 40))
    ]


# --- what the seed chooses, and other data ----------------------------------------------------------------------------

ASKED = ("method=rigl", "method.sparsity=0.5", "run.steps=90")


def test_a_fold_is_no_part_of_the_variant_and_stays_part_of_the_digest():
    made = planned(*ASKED, "task.fold=0,3", "run.seed=0,1")
    assert {content["variant"] for content in made} == {"run.steps=90"}
    told = {(content["replicate"], content["seed"]) for content in made}
    assert told == {(f"task.fold={fold}", seed) for fold in (0, 3) for seed in (0, 1)}
    assert len({content["digest"] for content in made}) == len(made) == 8
    assert len({content["data"] for content in made}) == 2, "each fold's data are checked on their own"
    assert {content["label"] for content in made if content["method"] == "dense"} == {
        f"dense fold {fold} seed {seed}" for fold in (0, 3) for seed in (0, 1)
    }


def test_folds_that_the_seed_chooses_are_never_averaged_with_fixed_ones(runs):
    """task.fold=-1 with seed 1 is task.fold=1 with seed 1 once more, under another name."""
    for content in planned(*ASKED, "task.fold=0,1,-1", "run.seed=0,1"):
        by_seed = content["settings"]["task"]["fold"] == -1
        finished(runs, content, 90.0 if by_seed else 50.0)
    found = records.read(where=runs)
    board = board_of(found)
    cells = {label: (cell.n, cell.mean, cell.deviation) for (label, _), cell in board.cells.items()}
    assert cells.pop("rigl") == (4, 50.0, 0.0)
    ((label, cell),) = cells.items()
    assert label.startswith("rigl fold=-1") and cell == (2, 90.0, 0.0)
    assert len(board.reference) == 2
    assert {r.variant.startswith("run.steps=90, task.fold=-1") for r in found if not r.replicate} == {True}
    assert "those of fold below 0 each on the fold that it chooses" in board.notes()[0]
    alone = board_of([record for record in found if not record.replicate]).notes()[0]
    assert "over 2 seeds, each on the fold that it chooses (n = 2 unless stated); seeds 0, 1" in alone
    assert "chooses" not in board_of([record for record in found if record.replicate]).notes()[0]


def test_what_the_seed_chooses_is_told_even_where_it_is_the_default(monkeypatch):
    from launch.request import grid, variants

    composer, (cell, *_) = grid.cells(arguments.parse(["task=protein", "method=dense", "task.fold=-1", "run.seed=0"]))
    told = composer.defaults("dense")
    monkeypatch.setattr(composer, "defaults", lambda method: {**told, "task": {**told["task"], "fold": -1}})
    assert "task.fold=-1" in variants.variant(composer, "dense", cell.settings, composer.embedded_data)


def test_runs_from_when_a_fold_was_a_variant_are_read_as_todays(runs):
    for content in planned(*ASKED, "task.fold=1", "run.seed=0") + planned(*ASKED, "task.fold=2", "run.seed=0"):
        fold = content["settings"]["task"]["fold"]
        then = f"run.steps=90, task.fold={fold}, data.checksum={content['data'][:8]}"
        folder = finished(runs, {k: v for k, v in content.items() if k != "replicate"} | {"variant": then})
        found = records.read_one(folder)
        assert (found.variant, found.replicate) == ("run.steps=90", f"task.fold={fold}")
        assert (found.data, found.dataset) == (content["data"][:8], "generated")
    board = board_of(records.read(where=runs))
    assert board.cells["rigl", 0.5].n == 2 and "over 2 folds x 1 seed" in board.notes()[0]


def test_a_run_that_this_checkout_cannot_read_keeps_what_it_said_of_itself(runs):
    folder = stage(runs, "a", task="gone", variant="task.fold=1, data.checksum=aaaaaaaa")
    assert (records.read_one(folder).variant, records.read_one(folder).replicate) == (
        "task.fold=1, data.checksum=aaaaaaaa",
        "",
    )


def test_one_fold_on_two_data_parts_all_folds_of_them(runs):
    """Nothing says which of the two the other folds go with."""
    fill(runs, seeds=[0], folds=(0, 1))
    stage(runs, "other", "imp", 0.5, 1, replicate="task.fold=0", data="0000bbbb")
    stage(runs, "elsewhere", "imp", 0.5, 0, dataset="mnist", replicate="task.fold=0", data="0000cccc")
    digits, mnist = boards(records.read(where=runs))
    assert mnist.methods == ["imp"]
    variants = {row.digest: row.variant for row in rows_of(records.read(where=runs))}
    assert variants["elsewhere"] == "" and variants["rigl10"] == "task.fold=1, data.checksum=1111aaaa"
    assert {label for label in digits.methods if label.startswith("imp")} == {
        "imp fold=0 checksum=0000aaaa", "imp fold=0 checksum=0000bbbb", "imp fold=1 checksum=1111aaaa",
    }  # fmt: skip
    assert all(cell.n == 1 for cell in (*digits.cells.values(), *digits.reference.values()))
    lines = status.status(records.read(where=runs))["lines"]
    assert sum(line["method"] == "imp" and line["dataset"] == "digits" for line in lines) == 3


told = st.builds(
    SimpleNamespace,
    task=st.just("toy"),
    dataset=st.sampled_from("ab"),
    model=st.just("net"),
    variant=st.sampled_from(["", "run.epochs=5.0", "task.length=9", "task.length=9, method.rates=[0.2, 0.1]"]),
    replicate=st.sampled_from(["", "task.fold=0", "task.fold=1", "task.fold=12"]),
    data=st.sampled_from(["aaaaaaaa", "bbbbbbbb"]),
)


@given(st.lists(told, max_size=12))
def test_no_fold_of_a_variant_is_of_two_data(found):
    groups = defaultdict(set)
    for one, variant in zip(found, variants.of_stages(found), strict=True):
        groups[one.dataset, variant, one.replicate].add(one.data)
        assert variant.startswith(one.variant) and (variant == one.variant or one.data in variant)
        assert one.replicate or variant == one.variant
    assert all(len(data) == 1 for (*_, replicate), data in groups.items() if replicate)


# --- where else folds are shown ---------------------------------------------------------------------------------------


def test_a_plan_and_a_status_show_folds_beside_seeds(runs):
    made = planner.make(arguments.parse(["task=protein", *ASKED, "task.fold=0,1,2,3,4", "run.seed=0,1,2"]))
    (line,) = [line for line in outline.text(made).splitlines() if line.startswith("  rigl")]
    assert line.split() == [
        "rigl",
        "15",
        "0",
        "15",
        "0.5",
        "folds",
        "0-4",
        "0,1,2",
    ] and "  all: run.steps=90\n" in outline.text(made)
    for one in made.stages.values():
        finished(runs, one.config, score(one.method, one.config["settings"]["task"]["fold"], one.seed))
    found = records.read(where=runs)
    document = status.status(found)
    assert [(line["method"], line["stages"]) for line in document["lines"]] == [("dense", 15), ("rigl", 15)]
    assert document["lines"][1]["score"] == pytest.approx(np.mean([score("rigl", f, s) for f in FOLDS for s in SEEDS]))
    json.dumps(document)
    some = next(record for record in found if record.replicate == "task.fold=4")
    assert status._name(status._stage(some)).endswith(f"fold 4 seed {some.seed} (run.steps=90)")
    assert tags(some, [])["replicate"] == "task.fold=4" and parameters(some)["task.fold"] == "4"


def test_words_for_folds():
    assert folds.listed(["task.fold=10", "task.fold=9", "task.fold=8", "", "task.fold=2"]) == "folds 2, 8-10"
    assert folds.listed(["task.fold=3"]) == "fold 3" and folds.listed(["", ""]) == ""
    assert folds.listed(["task.fold=0, task.part=1", "task.fold=0, task.part=0"]) == (
        "splits fold 0 part 0; fold 0 part 1"
    )
    assert folds.pair("task.fold=0, task.part=1", 2) == "fold 0 part 1 seed 2" and folds.pair("", 2) == "seed 2"
    assert folds.over({("task.fold=0", 0), ("task.fold=1", 1)}) == "2 pairs of fold and seed"
    assert folds.over({("", 0), ("", 1)}) == "2 seeds" and wording.ranges([3, 1, 2, 3, 7, 6]) == "1-3, 6, 7"


@given(st.sets(st.integers(0, 40)))
def test_ranges_name_every_number_once(numbers):
    found = []
    for part in wording.ranges(numbers).split(", ") if numbers else []:
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    assert found == sorted(numbers)
