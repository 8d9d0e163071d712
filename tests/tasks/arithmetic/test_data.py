"""Math word problems: rows read or refused with file and line, split once and for all, turned into trees and graphs."""

import csv
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.data import published
from common.settings import groups
from tasks.arithmetic import data, expression, prepare, vocabulary
from tasks.arithmetic.config import Config
from tasks.arithmetic.files import addresses, datasets, generated, mawps_asdiv_svamp
from tests.support.arithmetic_data import dev, mawps, one, train, trees
from tests.support.arithmetic_files import complaint, files, made, row, shared, table, write


def with_(question=None, numbers=None, equation=None, answer=None, cells=None) -> dict:
    given = {"Question": question, "Numbers": numbers, "Equation": equation, "Answer": answer, "group_nums": cells}
    return {**train[0], **{name: value for name, value in given.items() if value is not None}}


@pytest.fixture(autouse=True)
def taken_for_published(monkeypatch):
    """Files made here are not the published ones; what is said of that is tested beside what fetches these."""
    monkeypatch.setattr(published, "unlike", lambda *about: [])


# --- formats ---------------------------------------------------------------------------------------------------------


def test_a_row_becomes_a_problem(tmp_path):
    rows = [row("Ann HAS number1 pens , number0 each", " 3  0.5", "* number1 + number0 12", 7.5, "[5, 2, 2, 9, -1]")]
    (found,), faults = mawps_asdiv_svamp.table(write(tmp_path, {"x.csv": table(rows)}) / "x.csv")
    assert not faults and found.gives
    assert found.words == ["ann", "has", "NUM", "pens", ",", "NUM", "each"]
    assert found.cased == ("Ann", "HAS", "NUM", "pens", ",", "NUM", "each")
    assert found.numbers == [3.0, 0.5] and found.places == [5, 2], "places are by quantity, not by order of words"
    assert found.equation == ["*", "number1", "+", "number0", "12.0"] and found.answer == 7.5
    assert found.cells == [2, 5] and found.beyond == 2 and found.where.endswith("x.csv:2")


def test_every_layout_of_a_folder_agrees(tmp_path):
    places = ("", "cv_mawps", "mawps", "data/cv_mawps", "mawps/cv_mawps")
    for at, below in enumerate(places):
        write(tmp_path / f"l{at}", files(train, dev, f"{below}/fold0".lstrip("/")))
    windows = {name: "\ufeff" + text.replace("\n", "\r\n") for name, text in files(train, dev).items()}
    write(tmp_path / "windows", windows)
    more = [{"Grade": "1", **one} for one in train]
    write(tmp_path / "columns", files(more, dev))
    names = [*(f"l{at}" for at in range(len(places))), "windows", "columns"]
    assert len({prepare.check(mawps(tmp_path / name)).fingerprint for name in names}) == 1
    write(tmp_path / "svamp", {"train.csv": table(train), "dev.csv": table(dev)})
    write(tmp_path / "repository", files(train, dev, "data/mawps-asdiv-a_svamp"))
    sums = {
        prepare.check(Config(dataset="svamp", data=str(tmp_path / name))).fingerprint
        for name in ("svamp", "repository")
    }
    assert len(sums) == 1


def test_the_fingerprint_is_of_everything_that_is_read(tmp_path):
    sums = {prepare.check(mawps(write(tmp_path / "0", files(train, dev)))).fingerprint}
    changed = [
        with_(question=train[0]["Question"] + " now"),
        with_(numbers="11.0 2.0", answer="13.0"),
        with_(equation="+ number1 number0"),
        with_(answer="12.5"),
        with_(cells="[1, 2]"),
    ]
    for at, first in enumerate(changed, start=1):
        sums.add(prepare.check(mawps(write(tmp_path / str(at), files([first, *train[1:]], dev)))).fingerprint)
    sums |= {
        prepare.check(mawps(tmp_path / "0", validation=5)).fingerprint,
        prepare.check(mawps(tmp_path / "0", protocol="published")).fingerprint,
    }
    assert len(sums) == 8


def test_positions_are_asked_for_where_graphs_are_made_of_them(tmp_path):
    without = [
        [{key: value for key, value in row.items() if key != "group_nums"} for row in some] for some in (train, dev)
    ]
    write(tmp_path, files(*without))
    gts, graphs = data.load(mawps(tmp_path), 0), mawps(tmp_path, model="graph2tree")
    assert len(gts.train) == 27 and not any(gts.train.cells)
    message = complaint(prepare.check, graphs)
    assert "train.csv:1: expected the columns" in message and "group_nums is not" in message
    assert "task.model=gts does without" in message


# --- rows that cannot be used ----------------------------------------------------------------------------------------

broken = {
    "missing number in the question": ("missing number", with_(numbers="10.0")),
    "missing number in the equation": ("missing number", with_(equation="+ number0 number7")),
    "quantity not shown": ("quantity not shown", with_(numbers="10.0 2.0 5.0", equation="+ number0 number2")),
    "a number that the question does not show": ("quantity not shown", with_(numbers="10.0 2.0 5.0")),
    "a quantity with a comma": ("no quantity", with_(question="number0 , number1 and number2, too", numbers="1 2 3")),
    "a quantity that starts with zero": ("no quantity", with_(question="number0 , number1 and number02")),
    "too few operands": ("unparsable equation", with_(equation="+ number0")),
    "too many operands": ("unparsable equation", with_(equation="+ number0 number1 number1")),
    "infix": ("unparsable equation", with_(equation="number0 + number1")),
    "no equation": ("unparsable equation", with_(equation=" ")),
    "a strange word": ("unparsable equation", with_(equation="+ number0 number1x")),
    "unknown operator": ("unknown operator", with_(equation="% number0 number1")),
    "number in words": ("number", with_(numbers="ten 2.0")),
    "number that is not finite": ("number", with_(numbers="1e999 2.0")),
    "nan": ("number", with_(numbers="nan 2.0")),
    "answer": ("answer", with_(answer="twelve")),
    "no answer": ("answer", with_(answer="")),
    "infinite answer": ("answer", with_(answer="inf")),
    "positions that call": ("group_nums", with_(cells="[1, __import__('os')]")),
    "positions not closed": ("group_nums", with_(cells="[1, 2")),
    "positions in words": ("group_nums", with_(cells="[one]")),
    "no positions": ("group_nums", with_(cells="")),
    "empty question": ("empty question", with_(question="  ")),
}  # fmt: skip


@pytest.mark.parametrize("kind, bad", broken.values(), ids=broken)
def test_a_bad_row_is_refused_with_file_and_line_or_skipped_and_counted(tmp_path, kind, bad):
    write(tmp_path, files([*train[:3], bad, *train[3:]], dev))
    text = complaint(prepare.check, mawps(tmp_path))
    assert text.startswith(f"1 row was refused (1 {kind})") and "fold0/train.csv:5: " in text
    assert "task.unreadable=skip" in text
    found = one(mawps(tmp_path, unreadable="skip"))
    assert [len(found.train) + len(found.validation), len(found.test)] == [30, 10]
    (warning,) = found.warnings
    assert warning.startswith(f"1 row was skipped (1 {kind}): ") and "train.csv:5" in warning
    whole = write(tmp_path / "whole", files(train, dev))
    assert prepare.check(mawps(tmp_path, unreadable="skip")).fingerprint == prepare.check(mawps(whole)).fingerprint


def test_bytes_that_are_no_text_and_rows_of_another_width(tmp_path):
    lines = table(train).encode().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"Pens", b"P\xe9ns")
    lines[6] = lines[6].rstrip(b"\n") + b",more\n"
    lines[8] = lines[8].replace(b"Pens", b"P\0ns")
    write(tmp_path, {"fold0/train.csv": b"".join(lines), "fold0/dev.csv": table(dev)})
    text = complaint(prepare.check, mawps(tmp_path))
    assert text.startswith("3 rows were refused (2 not text, 1 wrong number of columns)")
    assert all(f"train.csv:{line}: " in text for line in (5, 7, 9)) and "expected 7 values" in text
    assert "3 rows were skipped" in one(mawps(tmp_path, unreadable="skip")).warnings[0]


def test_line_numbers_count_breaks_inside_of_values(tmp_path):
    broken_up = {**train[0], "Body": "two\nlines"}
    write(tmp_path, files([broken_up, broken_up | {"Question": "other number0 number1"}, with_(answer="x")], dev))
    assert "train.csv:6: expected a finite decimal" in complaint(prepare.check, mawps(tmp_path))


def test_many_bad_rows_are_counted_not_all_listed(tmp_path):
    write(tmp_path, files([*train, *[with_(answer="x")] * 30], dev))
    text = complaint(prepare.check, mawps(tmp_path))
    assert text.startswith("30 rows were refused (30 answer)") and "... and 6 more" in text
    assert text.count("train.csv:") == 24


def test_skipped_rows_are_each_named(tmp_path):
    write(tmp_path, files([with_(answer="x"), *train, with_(numbers="nan 2.0")], dev))
    (warning,) = one(mawps(tmp_path, unreadable="skip")).warnings
    assert "train.csv:2: expected a finite decimal" in warning and "train.csv:33: expected finite decimal" in warning


def test_a_long_number_is_read_in_time_that_grows_with_its_length():
    assert expression.number("9" * 120_000 + "x") is None  # minutes, where each digit was tried anew
    assert [expression.number(text) for text in ("1.", ".5", "1.5e2", "-2", "1..5", ".")] == [
        1,
        0.5,
        150,
        -2,
        None,
        None,
    ]


@pytest.mark.parametrize(
    "content, expected",
    [
        ("", "train.csv: is empty"),
        (b"\xff\xfe" + table(train).encode("utf-16-le"), "found UTF-16"),
        ("\n\n", "train.csv: is empty"),
        (table(train[:1]).splitlines()[0] + "\n", "holds no problem"),
        (table(train).replace("Equation", "Formula", 1), "train.csv:1: expected the columns"),
        (table(train).replace("Body", "Answer", 1), "Answer is not (found"),
        (table(train).replace("[1, 2", '"[1, 2', 1), "not a table with commas"),
        (table(train).replace("body", "b" * 200_000, 1), "or a value of more than 131,072 characters"),
        (
            table(train) + 'Some "question,1,number0,1,[]\n' + '"never closed,1,number0,1,[],,\n',
            "train.csv:33: not a table",
        ),
    ],
)
@pytest.mark.parametrize("unreadable", ["refuse", "skip"])
def test_a_file_that_is_no_table_is_refused_whatever_is_skipped(tmp_path, content, expected, unreadable):
    write(tmp_path, {**files(train, dev), "fold0/train.csv": content})
    before = csv.field_size_limit(131_072)  # Python's own, which another task's readers raise for all of the process
    try:
        assert expected in complaint(prepare.check, mawps(tmp_path, unreadable=unreadable))
    finally:
        csv.field_size_limit(before)


def test_nothing_left_is_refused(tmp_path):
    write(tmp_path, files(train, [with_(answer="x")]))
    assert "no evaluation problem is left" in complaint(prepare.check, mawps(tmp_path, unreadable="skip"))


def test_missing_folders_and_files_name_what_helps(tmp_path):
    text = complaint(prepare.check, mawps(tmp_path / "nowhere"))
    assert "there is no such folder" in text and "make prepare TASK=arithmetic" in text and "DATA=" in text
    write(tmp_path, {"other.txt": "x"})
    text = complaint(prepare.check, mawps(tmp_path, fold=3))
    assert "fold3/train.csv" in text and "found other.txt" in text and "cv_mawps" in text
    write(tmp_path, {"fold3/dev.csv": table(dev)})
    assert "fold3/train.csv: there is no such file" in complaint(prepare.check, mawps(tmp_path, fold=3))
    other = write(tmp_path / "cv_asdiv-a", files(train, dev))
    assert "usual folder of asdiv-a" in complaint(prepare.check, mawps(other))
    fold = str(other / "fold0")
    assert "usual folder of a fold" in complaint(prepare.check, Config(dataset="svamp", data=fold))


# --- splits ----------------------------------------------------------------------------------------------------------


def test_validation_is_drawn_once_and_keeps_questions_together(tmp_path):
    twins = [{**one_row, "Numbers": "90.0 3.0", "Answer": "0"} for one_row in train]
    write(tmp_path, files([*train, *twins], dev))
    found = one(mawps(tmp_path))
    assert len(found.validation) == 6 and len(found.train) == 54
    held = {tuple(problem.words) for problem in found.validation}
    assert len(held) == 3 and not held & {tuple(problem.words) for problem in found.train}
    assert [p.where for p in one(mawps(tmp_path, fold=0)).validation] == [p.where for p in found.validation]
    loads = [
        data.load(mawps(tmp_path, fold=0, model=model), seed) for model in ("gts", "graph2tree") for seed in (0, 9)
    ]
    assert len({tuple(load.validation.where) for load in loads}) == 1
    assert not one(mawps(tmp_path, validation=0)).validation
    assert "cannot be held out" in complaint(prepare.check, mawps(tmp_path, validation=7))
    assert "cannot be held out" in complaint(prepare.check, mawps(tmp_path, validation=60))


def test_the_published_protocol_selects_on_the_evaluation_fold_and_says_so(tmp_path):
    found = data.load(mawps(write(tmp_path, files(train, dev)), protocol="published"), 0)
    assert len(found.train) == 30 and found.validation is found.test
    assert any("validation is of the evaluation part itself" in text for text in found.warnings)
    honest = data.load(mawps(tmp_path), 0)
    assert honest.validation is not honest.test and not honest.warnings
    assert not set(honest.train.where) & {*honest.validation.where, *honest.test.where}


def test_the_seed_chooses_the_fold_where_that_is_asked(tmp_path):
    for fold in range(5):
        write(tmp_path, files(train, made(10, first=100 * (fold + 1)), f"fold{fold}"))
    by_seed, fixed = mawps(tmp_path, fold=-1), mawps(tmp_path, fold=3)
    assert data.load(by_seed, 8).test.words == data.load(fixed, 0).test.words
    assert data.load(by_seed, 0).checksum == data.load(by_seed, 4).checksum == prepare.check(by_seed).fingerprint
    assert len(datasets.read(by_seed)) == 5


def test_a_leak_between_training_and_test_is_reported_not_hidden(tmp_path):
    alike = {**train[5], "Numbers": "77.0 3.0", "Answer": "74.0"}
    write(tmp_path, files(train, [*dev, train[3], train[4], alike]))
    found = one(mawps(tmp_path))
    assert len(found.test) == 13
    (warning,) = [text for text in found.warnings if "also among" in text]
    assert warning.startswith("2 of 13 evaluation problems") and "(and 1 with others)" in warning
    assert "dev.csv:12" in warning and "train.csv:5" in warning


def test_a_stated_answer_that_the_equation_does_not_give_is_kept_and_counted(tmp_path):
    write(tmp_path, files([*train, with_(answer="13.0")], [*dev, with_(question="x number0 number1", answer="1.0")]))
    found = one(mawps(tmp_path))
    assert len(found.test) == 11
    assert (
        "2 of 42 problems do not give the stated answer;" in found.warnings[0] and "train.csv:32" in found.warnings[0]
    )
    write(tmp_path, files([*train, with_(equation="/ number0 - number1 number1")], dev))
    assert (
        "1 of 41 problems do not give the stated answer, 1 of them without any value"
        in one(mawps(tmp_path)).warnings[0]
    )


def test_expressions_longer_than_any_answer_may_be_are_counted(tmp_path):
    write(tmp_path, files(train, [*dev, with_(equation="+ number0 + number1 + number0 number1", answer="1.0")]))
    short, enough = ([w for w in one(mawps(tmp_path, longest=n)).warnings if "task.longest" in w] for n in (6, 7))
    assert len(short) == 1 and "1 of 11 evaluation problems" in short[0] and "dev.csv:12" in short[0] and not enough


# --- vocabulary ------------------------------------------------------------------------------------------------------


def test_the_vocabulary_is_of_the_training_problems_alone(tmp_path):
    strange = row("strangeword number0", "5.0", "^ number0 3.0", 125)
    rare = row("rareword number0 number1 number2", "5.0 1.0 1.0", "* number0 7.0", 35)
    write(tmp_path, files([*train, rare], [*dev, strange]))
    config = mawps(tmp_path, least_count=1, validation=20)
    found = data.load(config, 0)
    known, trained = found.vocabulary, set(found.train.where)
    assert known.words[:3] == ["PADDING", "UNKNOWN", "NUM"]
    assert set(known.words[3:]) == {word for words in found.train.words for word in words} - {"NUM"}
    assert known.operators == ["*", "+", "-", "/"] and "3.0" not in known.constants
    held = any(where.endswith("train.csv:32") for where in found.validation.where)
    assert known.constants == ([] if held else ["7.0"]) and known.quantities == (2 if held else 3)
    assert len(trained) == 11
    tensors = data.Tensors(found.test, known)
    assert tensors.known.tolist() == [True] * 10 + [False], "no operator of the test problems is learned"
    assert tensors.batch(torch.tensor([10])).tokens[0].tolist() == [1, 2]
    assert (tensors.batch(torch.tensor([10, 0])).equations[0] == -1).all()


def test_a_rare_constant_keeps_a_problem_out_of_training_alone(tmp_path):
    rare = [row(f"w{k} number0", "5.0", "* number0 7.0", 35) for k in range(2)]
    often = [row(f"o{k} number0", "5.0", "* number0 12.0", 60) for k in range(3)]
    write(tmp_path, files([*train, *rare, *often], [*dev, rare[0] | {"Question": "z number0"}]))
    config = mawps(tmp_path, least_constants=3, validation=0)
    found = data.load(config, 0)
    assert found.vocabulary.constants == ["12.0"] and len(found.train) == 33 and len(found.test) == 11
    assert any(text.startswith("2 of 35 training problems were left out of training") for text in found.warnings)
    told = []
    told += prepare.check(config).remarks
    assert told == found.warnings, "before anything is queued, and in the summary"
    assert data.load(replace(config, least_constants=1), 0).vocabulary.constants == ["7.0", "12.0"]
    only = write(tmp_path / "only", files(rare, dev))
    text = complaint(data.load, mawps(only, least_constants=3, validation=0), 0)
    assert "no training problem is left" in text and "least_constants=3" in text


def test_words_of_problems_that_are_left_out_of_training_are_not_known(tmp_path):
    rare = [row("lonely number0", "5.0", "* number0 7.0", 35) for _ in range(2)]
    write(tmp_path, files([*train, *rare], dev))
    assert "lonely" not in data.load(mawps(tmp_path, least_constants=3, validation=0), 0).vocabulary.words
    assert "lonely" in data.load(mawps(tmp_path, least_constants=2, validation=0), 0).vocabulary.words


def test_questions_of_the_training_part_are_the_same_whatever_selects(tmp_path):
    """Those that ``new_value_accuracy`` leaves out: validation problems are seen too, they choose the weights."""
    rare = row("rareword number0", "5.0", "* number0 7.0", 35)
    write(tmp_path, files([*train, rare], dev))
    several = [{}, {"protocol": "published"}, {"validation": 9}, {"least_constants": 3}]
    asked = [data.load(mawps(tmp_path, **values), 0).asked for values in several]
    assert len(asked[0]) == 31 and all(one == asked[0] for one in asked)


def test_a_solver_that_would_know_no_word_is_refused(tmp_path):
    write(tmp_path, files(train, dev))
    text = complaint(data.load, mawps(tmp_path, least_count=10000), 0)
    assert "no word of the" in text and "task.least_count=10000" in text
    config = mawps(tmp_path, least_count=10000, embedding="pretrained", hub="some/name")
    assert len(one(config).vocabulary.words) == 3, "it brings words of its own"


def test_rare_words_are_unknown():
    built = vocabulary.build([["a", "b", "NUM"], ["b", "c", "c"]], [], [1, 2], 2)
    assert built.words == ["PADDING", "UNKNOWN", "NUM", "b", "c"] and built.quantities == 2
    assert built.read(["NUM", "c", "a", "padding", "PADDING"]) == [2, 4, 1, 1, 0]


@given(trees(st.sampled_from(["number0", "number3", "12.0", "0.01"])))
def test_a_tree_survives_its_numbers(tree):
    known = vocabulary.build([], [["+", "0.01", "12.0"]], [1], 1)
    ids = known.encode(tree)
    assert known.decode([*ids, -1, -1]) == tree and expression.whole(tree)
    assert not expression.whole([*tree, "1.0"]) and not expression.whole(tree[:-1])
    assert min(ids) >= 0 and known.encode([*tree, "99.0"]) is None


# --- the embedded data -----------------------------------------------------------------------------------------------


def test_generated_problems_are_the_same_everywhere():
    rows = [
        [p.words, p.numbers, p.equation, p.answer, p.places, p.cells] for some in generated.problems() for p in some
    ]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] == "48580605044922a8"


def test_generated_problems_are_sound_and_differ_between_the_parts():
    train, test = generated.problems()
    assert (len(train), len(test)) == (1600, 400)
    for problem in (*train, *test):
        assert problem.gives and problem.answer == int(problem.answer) > 0 and expression.whole(problem.equation)
        assert [problem.words[place] for place in problem.places] == ["NUM"] * len(problem.numbers)
        assert problem.words.count("NUM") == len(problem.numbers) and "{" not in "".join(problem.words)
        assert problem.words[-1] == "?" and problem.words.count("?") == 1
    keys = [{(tuple(p.words), tuple(p.numbers)) for p in some} for some in (train, test)]
    assert not keys[0] & keys[1] and not one(Config()).warnings


def test_no_template_has_the_same_numbers_twice():
    # Without what is drawn and without distracting sentences, a question and its equation say which template it is.
    drawn = {*generated.names, *generated.things, *generated.boxes, *generated.gains, *generated.losses}
    marks = {"years", "pictures", "windows", "minutes"}
    assert all(marks & set(sentence.split()) for sentence in generated.distractions)
    keys, numbers, distracted = [], [], 0
    for problem in (p for some in generated.problems() for p in some):
        words, kept, quantity = [], [], 0
        for sentence in " ".join(problem.words).split(" . "):
            inside = [quantity + k for k in range(sentence.split().count("NUM"))]
            quantity += len(inside)
            if not marks & set(sentence.split()):
                words += [word for word in sentence.split() if word not in drawn]
                kept += inside
        distracted += len(kept) < quantity
        tree = [t if (k := expression.index(t)) is None else f"q{kept.index(k)}" for t in problem.equation]
        keys.append((*words, *tree))
        numbers.append(tuple(problem.numbers[k] for k in kept))
    assert len(set(keys)) == len(generated.templates)
    assert len(set(zip(keys, numbers))) == len(keys) == generated.count
    assert abs(distracted / len(keys) - generated.distracted) < 0.05


def test_the_generated_problems_cannot_be_answered_by_a_constant_or_by_the_count_of_quantities():
    train, test = generated.problems()
    answers = {}
    for problem in train:
        answers.setdefault(len(problem.numbers), []).append(tuple(problem.equation))
    best = {count: max(set(some), key=some.count) for count, some in answers.items()}
    right = [expression.same(expression.evaluate(list(best[len(p.numbers)]), p.numbers), p.answer) for p in test]
    assert 0.05 < np.mean(right) < 0.3
    assert sum(any(f"number{k}" not in p.equation for k in range(len(p.numbers))) for p in test) > 100
    kinds = {sum(token in "+-*/" for token in p.equation) for p in train}
    assert kinds == {1, 2, 3}


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, expected",
    [
        ({"dataset": "mawp"}, "did you mean 'mawps'"),
        ({"dataset": "mawps", "fold": 5}, "task.fold of mawps must be 0-4"),
        ({"fold": 1}, "task.fold of generated must be 0, its only split"),
        ({"fold": -1}, "task.fold of generated must be 0, its only split"),
        ({"dataset": "svamp", "fold": -1}, "task.fold of svamp must be 0, its only split"),
        ({"fold": -2}, "task.fold must be at least -1"),
        ({"protocol": "public"}, "did you mean 'published'"),
        ({"protocol": "published", "validation": 5}, "holds nothing out"),
        ({"data": "x"}, "the generated problems need no files"),
        ({"dropout": 1.0}, "task.dropout must be in [0, 1)"),
        ({"embedding_rate": 0.0}, "nothing of the model is ever frozen"),
        ({"hub": "roberta-base"}, "starts from scratch"),
        ({"embedding": "pretrained"}, "needs task.hub"),
        ({"embedding": "pretrained", "hub": "roberta-base", "pretrained": "x"}, "only one can be loaded"),
        ({"model": "graph2tree", "graph_heads": 3}, "must be even"),
        ({"model": "graph2tree", "width": 30}, "must divide task.width=30"),
        ({"unreadable": "ignore"}, "task.unreadable must be one of refuse, skip; found 'ignore'"),
        ({"longest": 0}, "task.longest must be in [1, 1000], found 0"),
        ({"longest": 100000000}, "task.longest must be in [1, 1000], found 100000000"),
        ({"quantity_graph": "published"}, "gts reads no graph"),
        ({"cell": "LSTM"}, "did you mean 'lstm'"),
    ],
)
def test_settings_that_cannot_work(values, expected):
    found = groups.complaints_of_task("arithmetic", Config(**values))
    assert any(expected in text for text in found), found
    assert not groups.complaints_of_task("arithmetic", Config())


# --- the published files ---------------------------------------------------------------------------------------------


def real(name: str, **values) -> Config:
    if not (shared / name).is_dir():
        pytest.skip(f"the published files are not here: {shared / name}")
    return Config(dataset=name, data=str(shared), **values)


@pytest.mark.parametrize("name, total, each, wrong, beyond", [
    ("mawps", 1921, [384] * 5, 14, 104),  # one problem of MAWPS is in no evaluation fold
    ("asdiv-a", 1217, [238, 238, 238, 237, 266], 1, 0),
])  # fmt: skip
def test_five_folds_as_published(name, total, each, wrong, beyond):
    found = datasets.read(real(name, fold=-1))
    assert [len(one_fold.test) for one_fold in found.values()] == each
    for one_fold in found.values():
        everything = [*one_fold.train, *one_fold.validation, *one_fold.test]
        assert len(everything) == total
        assert sum(not problem.gives for problem in everything) == wrong
        assert sum(problem.beyond > 0 for problem in everything) == beyond
    tested = [problem for one_fold in found.values() for problem in one_fold.test]
    sums = addresses.sums[name]
    assert all(hashlib.md5((shared / name / file).read_bytes()).hexdigest() == md5 for file, md5 in sums.items())
    # A quantity's word is nearly always one of its own cell: the positions are of words between blanks.
    inside = [place in problem.cells for problem in tested for place in problem.places]
    assert np.mean(inside) > 0.98


def test_svamp_as_published():
    found = one(real("svamp"))
    assert [len(found.train), len(found.validation), len(found.test)] == [2825, 313, 1000]
    everything = [*found.train, *found.validation, *found.test]
    assert sum(not problem.gives for problem in everything) == 15 and all(problem.gives for problem in found.test)
    assert not any("also among" in warning for warning in found.warnings)
    folder = shared / "svamp" / "mawps-asdiv-a_svamp"
    sums = addresses.sums["svamp"]
    assert all(hashlib.md5((folder / file).read_bytes()).hexdigest() == md5 for file, md5 in sums.items())


@pytest.mark.parametrize(
    "name, below", [("mawps", "mawps"), ("asdiv-a", "asdiv-a"), ("svamp", "svamp/mawps-asdiv-a_svamp")]
)
def test_no_row_of_the_published_files_is_lost(name, below):
    config = real(name, fold=-1, validation=0)
    for fold, found in datasets.read(config).items():
        for file, problems in zip(datasets.inside(config, fold), (found.train, found.test)):
            with open(shared / below / file, newline="") as content:
                rows = list(csv.DictReader(content))
            assert [row["Equation"].split() for row in rows] == [problem.equation for problem in problems]
            assert [len(row["Question"].split()) for row in rows] == [len(problem.words) for problem in problems]
