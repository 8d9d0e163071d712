"""The protein task's files: read or refused with file and line, split once and for all, turned into tokens."""

import gzip
import hashlib
import json
import lzma
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data import hub, published
from common.data.files import checksum
from common.settings import groups
from tasks.protein import data, prepare
from tasks.protein.alphabet import RESIDUES
from tasks.protein.config import Config
from tasks.protein.files import addresses, datasets, fasta_csv_pickle, generated, weights
from tests.support.protein_data import one, rows, s2c2
from tests.support.protein_files import (
    archive,
    complaint,
    csv_files,
    fasta_files,
    flip,
    fold_files,
    made,
    parts,
    shared,
    write,
)


@pytest.fixture(autouse=True)
def taken_for_published(monkeypatch):
    """Files made here are not the published ones; what is said of that is tested beside what fetches these."""
    monkeypatch.setattr(published, "unlike", lambda *about: [])


# --- formats ---------------------------------------------------------------------------------------------------------


def test_folder_archive_and_tables_of_the_same_data_agree(tmp_path):
    fastas = fasta_files(rows)
    write(tmp_path / "folder", {**fastas, **fold_files(rows)})
    write(tmp_path / "archive", {"d1_fasta_clean.tar.gz": archive(fastas), **fold_files(rows)})
    write(tmp_path / "single", {"d1_fasta_clean.fasta": "".join(fastas.values()), **fold_files(rows)})
    write(tmp_path / "tables", csv_files(rows))
    windows = {name: "\ufeff" + text.replace("\n", "\r\n") for name, text in csv_files(rows).items()}
    write(tmp_path / "windows", windows)
    for values in ({"fold": 3}, {"fold": -1}, {"target": "temperature"}, {"boundaries": [20.0, 60.0]}):
        names = ("folder", "archive", "single", "tables", "windows")
        sums = {prepare.check(s2c2(tmp_path / name, **values)).fingerprint for name in names}
        assert len(sums) == 1, values


def test_a_fold_is_what_its_file_says(tmp_path):
    write(tmp_path, {**fasta_files(rows), **fold_files(rows)})
    for fold in (0, 7):
        found, expected = one(s2c2(tmp_path, fold=fold)), parts(rows, fold)
        test = found.parts == datasets.TEST
        assert [found.names[i] for i in np.flatnonzero(test)] == [name for name, _, _ in expected["test"]]
        assert dict(zip(found.names, found.sequences)) == {name: sequence for name, sequence, _ in rows}
        assert found.targets[test].tolist() == [float(value >= 75) for _, _, value in expected["test"]]
    all_folds = datasets.read(s2c2(tmp_path, fold=-1))
    tested = [name for found in all_folds.values() for name in np.array(found.names)[found.parts == datasets.TEST]]
    assert sorted(tested) == sorted(name for name, _, _ in rows), "the ten test sets partition the data"


def test_the_seed_chooses_the_fold_where_that_is_asked(tmp_path):
    write(tmp_path, csv_files(rows))
    by_seed, fixed = s2c2(tmp_path, fold=-1), s2c2(tmp_path, fold=4)
    assert data.load(by_seed, 14).test.sequences == data.load(fixed, 0).test.sequences
    assert data.load(by_seed, 0).checksum == data.load(by_seed, 5).checksum == prepare.check(by_seed).fingerprint
    assert data.load(fixed, 0).checksum == prepare.check(fixed).fingerprint != prepare.check(by_seed).fingerprint


def test_flip_as_csv_and_as_fasta(tmp_path):
    write(tmp_path / "csv", {"mixed_split.csv": flip(rows)})
    headers = [line.split(",") for line in flip(rows).splitlines()[1:]]
    fasta = "".join(
        f">S{i} TARGET={t} SET={s} VALIDATION={v or False}\n{q}\n" for i, (q, t, s, v) in enumerate(headers)
    )
    write(tmp_path / "fasta", {"mixed_split.fasta": fasta})
    write(tmp_path / "named", {"human.fasta": fasta})
    csv, fasta, named = (Config(dataset="meltome", data=str(tmp_path / kind)) for kind in ("csv", "fasta", "named"))
    assert prepare.check(csv).fingerprint == prepare.check(fasta).fingerprint == prepare.check(named).fingerprint
    found = one(csv)
    assert [(found.parts == part).sum() for part in range(3)] == [38, 10, 12]
    assert found.targets.tolist() == [value for _, _, value in rows]
    classes = one(replace(csv, target="class"))
    assert classes.targets.tolist() == [float((value >= 45) + (value >= 75.0)) for _, _, value in rows]
    own = one(replace(csv, validation=15))
    assert (own.parts == datasets.VALIDATION).sum() == 15 and ((own.parts == 2) == (found.parts == 2)).all()
    assert "has one split, its own; expected task.fold=0, found 3" in complaint(datasets.read, replace(csv, fold=3))
    assert data.load(replace(csv, fold=-1), 7).test.sequences == data.load(csv, 0).test.sequences, "every seed's"


@pytest.mark.parametrize(
    "degrees, expected", [(4.9, 0), (5, 1), (20, 2), (44.9, 2), (45, 3), (75, 4), (-20, 0), (120, 4)]
)
def test_a_boundary_belongs_to_the_class_above(tmp_path, degrees, expected):
    several = [*rows[:40], ("Q", "MKLV", degrees)]
    text = "sequence,ogt\n" + "".join(f"{sequence},{value}\n" for _, sequence, value in several)
    found = one(Config(dataset="hp-s", data=str(write(tmp_path, {"any.csv": text}))))
    assert found.targets[found.sequences.index("MKLV")] == expected


def test_files_without_a_split_are_dealt_into_ten_folds_that_no_setting_moves(tmp_path):
    text = "sequence,ogt\n" + "".join(f"{sequence},{value}\n" for _, sequence, value in rows)
    place = str(write(tmp_path, {"any.csv": text}))
    folds = datasets.read(Config(dataset="hp-s", data=place, fold=-1))
    tests = [set(np.flatnonzero(found.parts == datasets.TEST)) for found in folds.values()]
    assert sum(map(len, tests)) == 60 and set.union(*tests) == set(range(60))
    for values in ({"validation": 20}, {"target": "temperature"}, {"validation": 0}):
        found = one(Config(dataset="hp-s", data=place, fold=3, **values))
        assert set(np.flatnonzero(found.parts == datasets.TEST)) == tests[3], values
        assert (found.parts == datasets.VALIDATION).sum() == values.get("validation", 10)


def test_validation_is_drawn_in_proportion(tmp_path):
    write(tmp_path, csv_files(made(200)))
    found = one(s2c2(tmp_path, validation=36))
    train = found.targets[found.parts != datasets.TEST]
    chosen = found.targets[found.parts == datasets.VALIDATION]
    assert abs(chosen.sum() - 36 * train.mean()) <= 1


# --- what is refused -------------------------------------------------------------------------------------------------


class Trap:
    def __reduce__(self):
        return (open, ("trapped", "w"))


def test_a_pickle_is_never_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = pickle.loads(fold_files(rows)["d1_0.pkl"])
    for evil in (Trap(), {**content, "train_labels": Trap()}, {**content, "more": np.zeros(3)}):
        (tmp_path / "evil.pkl").write_bytes(pickle.dumps(evil))
        assert "a fold holds lists of names and numbers alone" in complaint(
            fasta_csv_pickle.fold, tmp_path / "evil.pkl"
        )
        assert not (tmp_path / "trapped").exists()


broken_folds = {
    "cut": lambda c: pickle.dumps(c)[:-20],
    "text": lambda c: b"not a pickle",
    "empty": lambda c: b"",
    "list": lambda c: pickle.dumps([1, 2]),
    "missing": lambda c: pickle.dumps({k: v for k, v in c.items() if k != "test_names"}),
    "uneven": lambda c: pickle.dumps({**c, "test_labels": c["test_labels"][1:]}),
    "names": lambda c: pickle.dumps({**c, "test_names": list(range(len(c["test_names"])))}),
    "words": lambda c: pickle.dumps({**c, "test_labels": ["hot"] * len(c["test_labels"])}),
    "truth": lambda c: pickle.dumps({**c, "test_labels": [True] * len(c["test_labels"])}),
}


@pytest.mark.parametrize("kind", broken_folds)
def test_a_damaged_fold(tmp_path, kind):
    content = pickle.loads(fold_files(rows)["d1_0.pkl"])
    write(tmp_path, {**fasta_files(rows), "d1_0.pkl": broken_folds[kind](content)})
    text = complaint(prepare.check, s2c2(tmp_path, target="temperature"))
    assert f"{tmp_path}/d1_0.pkl: not a pickled fold" in text and "expected train_names" in text


def test_folds_that_do_not_fit_their_sequences(tmp_path):
    files = {**fasta_files(rows), **fold_files(rows)}
    write(tmp_path, files)
    classes = pickle.loads(files["d1_0_classification.pkl"])
    classes["train_labels"][2] = 2
    write(tmp_path, {"d1_0_classification.pkl": pickle.dumps(classes)})
    assert complaint(prepare.check, s2c2(tmp_path)).endswith("train_labels[2]: expected a class, 0-1, found 2")
    classes["train_labels"][2], classes["test_names"][1] = 1, "UNKNOWN"
    write(tmp_path, {"d1_0_classification.pkl": pickle.dumps(classes)})
    text = complaint(prepare.check, s2c2(tmp_path))
    assert "test_names[1] is 'UNKNOWN', of which" in text and "has no sequence" in text
    assert "d1_9_classification.pkl" not in complaint(prepare.check, s2c2(tmp_path))
    (tmp_path / "d1_5_classification.pkl").unlink(), (tmp_path / "d1_5.pkl").unlink()
    assert "d1_5.pkl: there is no such file" in complaint(prepare.check, s2c2(tmp_path, fold=5))


table = "name,sequence,ogt\n" + "".join(f"{n},{s},{v}\n" for n, s, v in rows)
broken_tables = {
    "letter": (f"{rows[4][1]},", "MKV1L,", "any.csv:6: '1' at position 4 stands for no amino acid"),
    "gap": (f"{rows[4][1]},", "MK-L,", "any.csv:6: '-' at position 3"),
    "stop": (f"{rows[4][1]},", "MKL*,", "any.csv:6: '*' at position 4 stands for no amino acid"),
    "empty": (f"{rows[4][1]},", ",", "any.csv:6: the sequence is empty"),
    "twice": (f"{rows[4][1]},", f"{rows[0][1]},", "any.csv:6: the same sequence as"),
    "degrees": (f"{rows[4][1]},{rows[4][2]}", f"{rows[4][1]},warm", "any.csv:6: expected a temperature"),
    "infinite": (f"{rows[4][1]},{rows[4][2]}", f"{rows[4][1]},inf", "any.csv:6: expected a temperature"),
    "missing": (f"{rows[4][1]},{rows[4][2]}", f"{rows[4][1]},", "any.csv:6: expected a temperature"),
    "columns": (f"{rows[4][1]},{rows[4][2]}", rows[4][1], "any.csv:6: expected 3 values, as the header has, found 2"),
    "header": ("name,sequence,ogt", "name,letters,ogt", "any.csv:1: expected a column sequence"),
    "target": ("name,sequence,ogt", "name,sequence,heat", "any.csv:1: expected a column target or tgt_reg"),
    "quote": (f"P00004,{rows[4][1]}", f'P00004,"{rows[4][1]}', "not a table with ',' between the values"),
    "bytes": ("P00004", "P0\udcff04", "any.csv:6: not text in UTF-8 (byte 0xff)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", broken_tables)
def test_a_damaged_table(tmp_path, kind):
    old, new, expected = broken_tables[kind]
    assert table.count(old) == 1
    write(tmp_path, {"any.csv": table.replace(old, new).encode(errors="surrogateescape")})
    assert expected in complaint(prepare.check, Config(dataset="hp-s", data=str(tmp_path)))


broken_fastas = {
    "no header": ("MKLV\n>a\nMK\n", "x.fasta:1: expected a FASTA header"),
    "empty file": ("\n\n", "x.fasta: holds no sequence"),
    "empty sequence": (">a\nMK\n>b\n>c\nML\n", "x.fasta:3: the sequence is empty"),
    "letter": (">a\nMK\nM2L\n", "x.fasta:3: '2' at position 2"),
    "set": (">a SET=dev TARGET=3\nMK\n", "x.fasta:1: set is 'dev', expected train or test"),
    "validation": (">a VALIDATION=maybe\nMK\n", "x.fasta:1: validation is 'maybe'"),
}


@pytest.mark.parametrize("kind", broken_fastas)
def test_a_damaged_fasta(kind):
    content, expected = broken_fastas[kind]
    assert expected in complaint(fasta_csv_pickle.fasta, content, "x.fasta")


def test_fasta_reads_names_and_joins_lines():
    found = fasta_csv_pickle.fasta(">sp|P12345|X_Y text\r\nmk\r\nLV\r\n\r\n>plain\nA", "x")
    assert [(e.name, e.sequence, e.where) for e in found] == [("P12345", "MKLV", "x:1"), ("plain", "A", "x:5")]


@pytest.mark.parametrize("character", "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\u00a0")
def test_fasta_lines_end_where_other_programs_end_them(character):
    assert f"x:2: {character!r} at position 3" in complaint(fasta_csv_pickle.fasta, f">a\nMK{character}LV\n", "x")
    assert f"x:2: {character!r} at position 3" in complaint(fasta_csv_pickle.fasta, f">a\nMK{character}\nLV\n", "x")
    found = fasta_csv_pickle.fasta(f">a some{character}MKLV\nML\r>b\r\n M \n", "x")
    assert [(e.name, e.sequence, e.where) for e in found] == [("a", "ML", "x:1"), ("b", "M", "x:3")]


def test_an_archive_that_is_cut_or_holds_two_in_a_file(tmp_path):
    whole = archive(fasta_files(rows))
    write(tmp_path, {"d1_fasta_clean.tar.gz": whole[: len(whole) // 2], **fold_files(rows)})
    assert "d1_fasta_clean.tar.gz: not a whole" in complaint(prepare.check, s2c2(tmp_path))
    two = archive({"d1/A.fasta": ">A\nMK\n>B\nML\n"})
    write(tmp_path, {"d1_fasta_clean.tar.gz": two})
    assert "d1/A.fasta:3: expected one sequence per file, found 2" in complaint(prepare.check, s2c2(tmp_path))


def cases_of_damage(whole: bytes):
    """Every 23rd byte of an archive's compressed content with one bit turned, then its checksum and length."""
    for at in [*range(12, len(whole) - 8, 23), *range(len(whole) - 8, len(whole))]:
        yield at, whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]
    yield "no checksum", whole[:-8] + bytes(8)


def test_an_archive_with_one_bit_turned_is_never_read_as_other_sequences(tmp_path):
    path, few = tmp_path / "d1_fasta_clean.tar.gz", fasta_files(rows[:20])
    whole = archive(few)
    for where, content in cases_of_damage(whole):
        path.write_bytes(content)
        assert f"{path}: not a whole" in complaint(fasta_csv_pickle.folder_of_fasta, path), where
    plain = gzip.decompress(whole)
    for content in (whole, plain, lzma.compress(plain), whole + bytes(512)):
        path.write_bytes(content)
        assert len(fasta_csv_pickle.folder_of_fasta(path)) == 20
    for content in (
        lzma.compress(plain)[:-40],
        plain[:1024] + b"x" + plain[1025:],
        plain[: 512 * 3] + plain[512 * 3 + 7 :],
    ):
        path.write_bytes(content)
        assert f"{path}: not a whole" in complaint(fasta_csv_pickle.folder_of_fasta, path)


def test_two_files_for_a_protein_are_refused_and_those_of_macos_left_out(tmp_path):
    path, mac = tmp_path / "d1_fasta_clean.tar.gz", {"d1_fasta_clean/._P00000.fasta": "\0\5\26\7"}
    path.write_bytes(archive({**mac, **fasta_files(rows)}))
    assert len(fasta_csv_pickle.folder_of_fasta(path)) == 60
    write(tmp_path / "folder", {**mac, **fasta_files(rows)})
    assert len(fasta_csv_pickle.folder_of_fasta(tmp_path / "folder" / "d1_fasta_clean")) == 60
    path.write_bytes(archive({**fasta_files(rows), "other/P00003.fasta": ">x\nAAAA\n"}))
    text = complaint(fasta_csv_pickle.folder_of_fasta, path)
    assert "other/P00003.fasta: a second file for the protein 'P00003'; the first is" in text
    place = write(tmp_path / "table", {"any.csv": table, "._any.csv": mac["d1_fasta_clean/._P00000.fasta"]})
    assert len(one(Config(dataset="hp-s", data=str(place))).sequences) == 60


@pytest.mark.parametrize("letter", ["ß", "ſ", "ı", "ﬁ", "К", "é"])
def test_no_letter_becomes_another(letter):
    assert f"x: {letter!r} at position 3 stands for no amino acid" in complaint(
        fasta_csv_pickle.letters, f"MK{letter}L", "x"
    )
    assert fasta_csv_pickle.letters("mkLV", "x") == "MKLV"


@pytest.mark.parametrize("value", ["1_0", "３７", "-273.16", "nan", "1e999", "0x10", "37,5", "", "1e", ".", "310.15"])
def test_what_is_no_temperature(value):
    assert "expected a temperature" in complaint(fasta_csv_pickle.number, value, "x")


@given(st.floats(-200, 200))
def test_a_temperature_is_read_as_it_is_written(value):
    assert fasta_csv_pickle.number(str(value), "x") == value
    assert fasta_csv_pickle.number(f" +{abs(value)!r} ", "x") == abs(value)


def test_a_missing_temperature_is_told_from_one_that_is_no_number():
    assert "TARGET=<degrees>" in complaint(fasta_csv_pickle.number, "", "x") and "Kelvin" in complaint(
        fasta_csv_pickle.number, "310", "x"
    )
    assert not any(word in complaint(fasta_csv_pickle.number, "1e999", "x") for word in ("TARGET", "Kelvin"))


def test_kelvin_are_refused_with_their_line(tmp_path):
    kelvin = "name,sequence,ogt\n" + "".join(f"{n},{s},{v + 273.15}\n" for n, s, v in rows)
    text = complaint(prepare.check, Config(dataset="hp-s", data=str(write(tmp_path, {"any.csv": kelvin}))))
    assert "any.csv:2: expected a temperature from -273.15 to 200 degrees Celsius" in text and "Kelvin" in text


@pytest.mark.parametrize("dataset, column, first", [("hp-s", "ogt", 0), ("hp-s", "ogt", 1), ("meltome", "tm", 0)])
def test_labels_are_not_read_as_degrees(tmp_path, dataset, column, first):
    several = 2 if dataset == "meltome" else 4
    lines = "".join(f"{s},{first + i % several}\n" for i, (_, s, _) in enumerate(rows))
    config = Config(dataset=dataset, data=str(write(tmp_path, {"any.csv": f"sequence,{column}\n{lines}"})))
    text = complaint(prepare.check, replace(config, target="class"))
    assert "any.csv:" in text and "all 44 training sequences are of class 0, the temperatures lie between" in text
    assert "expected at least two classes; they are divided at" in text
    for values in ({"target": "temperature"}, {"target": "class", "boundaries": [0.5, 1.5, 2.5, 3.5]}):
        (warning,) = one(replace(config, **values)).warnings
        assert warning.startswith("all 60 temperatures are whole numbers between 0 and")


def test_labels_of_another_data_set_are_warned_of_too(tmp_path):
    """HotProtein's five classes as melting temperatures: more than Meltome has classes."""
    lines = "".join(f"{s},{i % 5}\n" for i, (_, s, _) in enumerate(rows))
    config = Config(dataset="meltome", data=str(write(tmp_path, {"any.csv": f"sequence,target\n{lines}"})))
    (warning,) = one(replace(config, target="temperature")).warnings
    assert warning.startswith("all 60 temperatures are whole numbers between 0 and")


def test_remarks_on_several_folds_say_of_which(tmp_path):
    files, said = csv_files(rows), []
    leaked = [line for line in files["s2c2_3_test.csv"].splitlines()[1:] if ",test," in line][:1]
    files["s2c2_3_train.csv"] += "".join(line.replace(",test,", ",train,") + "\n" for line in leaked)
    said += prepare.check(s2c2(write(tmp_path, files), fold=-1)).remarks
    assert len(said) == 1 and said[0].startswith("fold 3: 1 of 6 test sequences")
    said += prepare.check(s2c2(tmp_path, fold=3)).remarks
    assert said[1] == said[0].removeprefix("fold 3: ")


def test_one_temperature_alone_is_refused(tmp_path):
    text = "sequence,tm\n" + "".join(f"{s},37\n" for _, s, _ in rows)
    text = complaint(prepare.check, Config(dataset="meltome", data=str(write(tmp_path, {"any.csv": text}))))
    assert "all 44 training sequences have the temperature 37; expected at least two" in text


columns = {
    "two quantities": ("hp-s", "sequence,tm,ogt", ["ogt", "tm"]),
    "the other": ("meltome", "sequence,tm,ogt", ["tm", "ogt"]),
    "FLIP with more": ("meltome", "sequence,target,ogt", ["target", "ogt"]),
    "no other": ("hp-s", "sequence,ph,ogt", ["ogt"]),
    "a label?": ("hp-s", "sequence,target,ogt", "expected one column target or tgt_reg or temperature or ogt or"),
    "two of a kind": ("meltome", "sequence,target,tm", "found target, tm; leave out, or rename, all but the right one"),
    "another": ("hp-s", "sequence,ph,tm", "found sequence, ph, tm (tm is another temperature than that of task"),
    "repeated": ("hp-s", "sequence,sequence,ogt", "any.csv:1: expected each column once, found sequence more than"),
    "letters": ("hp-s", "sequence,protein_sequence,ogt", "expected one column sequence or seq or protein_sequence"),
}  # fmt: skip


@pytest.mark.parametrize("kind", columns)
def test_which_column_is_read(tmp_path, kind):
    dataset, head, expected = columns[kind]
    place = write(tmp_path, {"any.csv": f"{head}\n" + "".join(f"{s},{v / 7},{v / 2}\n" for _, s, v in rows)})
    config = Config(dataset=dataset, data=str(place), target="temperature")
    if isinstance(expected, str):
        assert expected in complaint(prepare.check, config)
        return
    found, divisor = one(config), 7 if head.split(",")[1] == expected[0] else 2
    assert found.targets.tolist() == [value / divisor for _, _, value in rows]
    said = [f"the temperatures are those of the column {expected[0]}; the file has also {o}" for o in expected[1:]]
    assert found.warnings == said


@pytest.mark.parametrize("scale, warned", [(100, True), (50, False)])
def test_temperatures_between_0_and_1_are_suspected(tmp_path, scale, warned):
    text = "sequence,tm\n" + "".join(f"{sequence},{value / scale}\n" for _, sequence, value in rows)
    (found,) = [one(Config(dataset="meltome", data=str(write(tmp_path, {"any.csv": text}))))]
    assert [("lie between 0 and 1" in warning) for warning in found.warnings] == [True] * warned
    write(tmp_path / "folds", {**fasta_files(rows), **fold_files(rows)})
    assert not one(s2c2(tmp_path / "folds")).warnings, "classes are no temperatures"


def test_one_file_in_every_spelling(tmp_path):
    tabs, packed = table.replace(",", "\t"), gzip.compress(table.encode())
    fasta = "\ufeff" + "".join(f">{n} TARGET={v}\n{s}\n" for n, s, v in rows)
    contents = {"a.csv": table, "a.CSV": table, "a.tsv": tabs, "a.csv.gz": packed, "a.FA": fasta, "a.faa": fasta}
    sums = set()
    for name, content in contents.items():
        place = str(write(tmp_path / name, {name: content}))
        sums |= {prepare.check(Config(dataset="hp-s", data=place, file=file)).fingerprint for file in ("", name)}
    assert len(sums) == 1
    write(tmp_path, {"a.txt": table, "bad.csv.gz": packed[:-8] + bytes(8)})
    text = complaint(prepare.check, Config(dataset="hp-s", data=str(tmp_path), file="a.txt"))
    assert "a.txt: expected a file whose name ends with .csv, .tsv, .fasta" in text
    text = complaint(prepare.check, Config(dataset="hp-s", data=str(tmp_path), file="bad.csv.gz"))
    assert "bad.csv.gz: not a whole compressed file" in text
    text = complaint(prepare.check, Config(dataset="meltome", data=str(write(tmp_path / "odd", {"a.xlsx": table}))))
    assert "expected mixed_split.csv" in text and "found a.xlsx" in text


def test_no_folder_is_taken_for_another_data_set(tmp_path):
    write(tmp_path / "meltome", {"mixed_split.csv": flip(rows)})
    for file in ("", "mixed_split.csv"):
        for dataset in ("hp-s", "hp-s2c2", "hp-s2c5"):
            text = complaint(prepare.check, Config(dataset=dataset, data=str(tmp_path / "meltome"), file=file))
            assert "mixed_split.csv" in text and dataset in text
    write(tmp_path / "five", csv_files(rows, "s2c5", folds=[0]))
    text = complaint(prepare.check, s2c2(tmp_path / "five", file="s2c5_0_train.csv"))
    assert "the usual name of a file of hp-s2c5, and task.dataset is hp-s2c2" in text
    write(tmp_path / "any", {"OgtTest.csv": table})
    for dataset in ("hp-s2c2", "hp-s2c5"):
        text = complaint(prepare.check, Config(dataset=dataset, data=str(tmp_path / "any")))
        assert "name it with task.file=" in text and "found OgtTest.csv" in text
        assert prepare.check(Config(dataset=dataset, data=str(tmp_path / "any"), file="OgtTest.csv")).fingerprint
    assert prepare.check(Config(dataset="hp-s", data=str(tmp_path / "any"))).fingerprint


@pytest.mark.parametrize(
    "count, marked, values, expected",
    [
        (5, False, {"validation": 0}, "5 sequences are too few for 10 folds: none is left to test"),
        (1, False, {"validation": 0, "fold": 9}, "no sequence is left for training"),
        (18, False, {}, "17 sequences beside the test set are too few to hold 10 out for validation"),
        (60, True, {}, "no sequence is left for training, all are for validation or testing"),
    ],
)
def test_no_part_is_left_empty(tmp_path, count, marked, values, expected):
    text = "sequence,ogt\n" + "".join(f"{sequence},{value}\n" for _, sequence, value in rows[:count])
    text = flip(rows, 60).replace(",train,\n", ",train,True\n") if marked else text
    place = write(tmp_path, {"any.csv": text})
    text = complaint(prepare.check, Config(dataset="hp-s", data=str(place), **values))
    assert text.startswith(f"{place}/any.csv: {expected}")


def test_no_esm_loads_weights_that_the_fingerprint_leaves_out(tmp_path):
    chosen = Config(model="esm", pretrained=str(tmp_path))
    plain = {"config.json": '{"model_type": "esm"}', "vocab.txt": "<cls>", "model.safetensors": "x"}
    write(tmp_path, {**plain, "other.safetensors": "y"})
    before = checksum(weights.files(chosen))
    assert [path.name for path in weights.files(chosen)] == list(plain)
    write(tmp_path, {"config.json": '{"model_type": "esm", "transformers_weights": "other.safetensors"}'})
    text = complaint(weights.files, chosen)
    assert text.startswith(f"{tmp_path}/config.json: transformers_weights is 'other.safetensors'")
    write(tmp_path, {"config.json": "{"})
    assert "config.json: expected a JSON file" in complaint(weights.files, chosen)
    write(tmp_path, {**plain, "adapter_config.json": "{}"})
    assert "adapter_config.json: expected plain weights" in complaint(weights.files, chosen)
    (tmp_path / "adapter_config.json").unlink()
    assert checksum(weights.files(chosen)) == before
    (tmp_path / "model.safetensors").unlink()
    write(tmp_path, {hub.sharded: json.dumps({"weight_map": {"a": "other.safetensors", "b": "model-2.safetensors"}})})
    assert "names 'model-2.safetensors', and no such file" in complaint(weights.files, chosen)
    write(tmp_path, {"model-2.safetensors": "z", "model-3.safetensors": "not in the index"})
    names = [path.name for path in weights.files(chosen)]
    assert names == ["config.json", "vocab.txt", hub.sharded, "model-2.safetensors", "other.safetensors"]


def test_missing_folders_and_files_name_what_helps(tmp_path):
    text = complaint(prepare.check, s2c2(tmp_path / "nowhere"))
    assert "there is no such folder" in text and "make prepare TASK=protein" in text and "DATA=" in text
    text = complaint(prepare.check, s2c2(tmp_path))
    assert "d1_fasta_clean" in text and "s2c2_0_train.csv" in text
    write(tmp_path, {"a.csv": table, "b.csv": table})
    text = complaint(prepare.check, Config(dataset="hp-s", data=str(tmp_path)))
    assert "there are 2; name it with task.file=" in text
    assert prepare.check(Config(dataset="hp-s", data=str(tmp_path), file="b.csv")).fingerprint
    write(tmp_path / "half", {"s2c2_0_train.csv": csv_files(rows)["s2c2_0_train.csv"]})
    assert "s2c2_0_test.csv: there is no such file" in complaint(prepare.check, s2c2(tmp_path / "half"))


def test_duplicates_can_be_left_out_and_are_counted(tmp_path):
    text = table + f"again,{rows[3][1]},{rows[3][2]}\nonce more,{rows[9][1]},80\n"
    config = Config(dataset="hp-s", data=str(write(tmp_path, {"any.csv": text})))
    refused = complaint(prepare.check, config)
    assert "any.csv:62: the same sequence as" in refused and "any.csv:5" in refused and "duplicates=first" in refused
    found = one(replace(config, duplicates="first"))
    assert len(found.sequences) == 60 and found.warnings[0].startswith("2 duplicate sequences were left out")
    kept = found.targets[9]
    assert f"; 1 of them had another target (first {tmp_path}/any.csv:63: 4, {kept:g} in" in found.warnings[0]
    (tmp_path / "any.csv").write_text(text.replace(f"again,{rows[3][1]},{rows[3][2]}\n", ""))
    assert f"with another target (4, not {kept:g})" in complaint(prepare.check, config)


def test_a_cell_without_a_temperature_is_told_as_one(tmp_path):
    text = table.replace(f",{rows[3][2]}\n", ",\n", 1)
    message = complaint(prepare.check, Config(dataset="hp-s", data=str(write(tmp_path, {"any.csv": text}))))
    assert "found ''; fill it in, in the column ogt, or leave the sequence out" in message and "TARGET" not in message


@pytest.mark.parametrize("kind", ["csv", "fasta"])
def test_one_name_for_two_sequences_is_told_and_refused_where_structures_are_found_by_it(tmp_path, kind):
    named = [(rows[2][0] if at in (7, 9) else n, s, v) for at, (n, s, v) in enumerate(rows)]
    table = "name,sequence,ogt\n" + "".join(f"{n},{s},{v}\n" for n, s, v in named)
    table = table.replace(rows[3][0], "").replace(rows[4][0], "")  # no name is not the same name
    fasta = "".join(f">{n} TARGET={v}\n{s}\n" for n, s, v in named)
    place = write(tmp_path, {f"any.{kind}": {"csv": table, "fasta": fasta}[kind]})
    config = Config(dataset="hp-s", data=str(place))
    first, other = (9, 4) if kind == "csv" else (15, 5)
    (warning,) = one(config).warnings
    expected = f"2 sequences have the name of another sequence (first {place}/any.{kind}:{first}: P00002, as "
    assert warning == f"{expected}{place}/any.{kind}:{other})"
    for model in ("esm-if1", "proteinmpnn"):
        text = complaint(datasets.read, replace(config, model=model))
        assert text.startswith(expected) and f"task.model={model} finds structures by it" in text


def test_a_leak_between_training_and_test_is_reported_not_hidden(tmp_path):
    files = csv_files(rows)
    leaked = [line for line in files["s2c2_0_test.csv"].splitlines() if line.startswith(("P00010", "P00020"))]
    files["s2c2_0_train.csv"] += "".join(line.replace(",test,", ",train,") + "\n" for line in leaked)
    found = one(s2c2(write(tmp_path, files)))
    (warning,) = found.warnings
    assert warning.startswith("2 of 6 test sequences are also among the training sequences")
    assert "s2c2_0_test.csv:3" in warning and not one(s2c2(tmp_path, fold=1)).warnings


def test_a_leak_is_of_the_part_that_the_sequence_is_in(tmp_path):
    again = "".join(f"{rows[at][1]},{rows[at][2]},test,\n" for at in (3, 21, 22))
    config = Config(dataset="meltome", data=str(write(tmp_path, {"mixed_split.csv": flip(rows) + again})))
    training, validation = one(config).warnings
    assert training.startswith("2 of 15 test sequences are also among the training sequences: scores are too good")
    assert "mixed_split.csv:63, which is" in training and training.endswith("mixed_split.csv:23)")
    assert validation.startswith("1 of 15 test sequences are also among the validation sequences")
    assert "mixed_split.csv:62, which is" in validation and validation.endswith("mixed_split.csv:5)")
    for values in ({"validation": 20}, {"validation": 11}, {"validation": 0}):  # drawn: other sequences
        found = one(replace(config, **values))
        drawn = [int(found.parts[at]) for at in (3, 21, 22)]
        counts = [drawn.count(part) for part in (datasets.TRAIN, datasets.VALIDATION) if part in drawn]
        assert [int(text.split()[0]) for text in found.warnings] == counts, values


@pytest.mark.parametrize(
    "values, expected",
    [
        ({"dataset": "hp-s2c3"}, "did you mean 'hp-s2c"),
        ({"fold": 10}, "task.fold must be in [-1, 9], found 10: -1 stands for the run's seed"),
        ({"fold": -2}, "task.fold must be in [-1, 9], found -2"),
        ({"boundaries": [50.0, 40.0]}, "task.boundaries must rise"),
        ({"width": 20, "heads": 4}, "must be a multiple of twice task.heads"),
        ({"hub": "facebook/esm2_t6_8M_UR50D"}, "is trained from scratch"),
        ({"pretrained": "x"}, "is trained from scratch"),
        ({"data": "x"}, "the generated sequences need no files"),
        ({"dataset": "meltome", "file": "a/b.csv"}, "expected a file's name"),
        ({"dropout": 1.0}, "task.dropout must be in [0, 1)"),
        ({"backbone_rate": 0.0}, "nothing of the model is ever frozen"),
        ({"pooling": "first"}, "transformer has none"),
        ({"crop": "middle"}, "task.crop must be one of start, ends; found 'middle'"),
    ],
)
def test_settings_that_cannot_work(values, expected):
    found = groups.complaints_of_task("protein", Config(**values))
    assert any(expected in text for text in found), found
    assert not groups.complaints_of_task("protein", Config())


def test_a_validation_split_must_leave_something(tmp_path):
    write(tmp_path, csv_files(rows))
    assert "lie between 10 and 44" in complaint(prepare.check, s2c2(tmp_path, validation=45))
    assert "lie between 10 and 44" in complaint(prepare.check, s2c2(tmp_path, validation=3))


# --- the embedded data -----------------------------------------------------------------------------------------------


def test_generated_sequences_are_the_same_everywhere():
    letters, degrees = generated.sequences()
    digest = hashlib.sha256(json.dumps([letters, degrees]).encode()).hexdigest()
    assert len(set(letters)) == len(letters) == 3000
    assert digest[:16] == "afc3ed0bc97339c5"


def test_composition_of_the_generated_sequences_does_not_see_the_motifs():
    letters, degrees = generated.sequences()
    motifs = np.array([text.count(generated.motif) for text in letters])
    decoys = np.array([text.count(generated.decoy) for text in letters])
    assert np.corrcoef(motifs, degrees)[0, 1] > 0.5 and abs((motifs + decoys).mean() - generated.places) < 0.3
    shares = np.array([[text.count(letter) / len(text) for letter in RESIDUES] for text in letters])
    each = [np.corrcoef(motifs, column)[0, 1] for column in shares.T]
    assert np.abs(each).max() < 0.06, "three standard errors of a correlation of 3,000 pairs are 0.055"


# --- the published files ---------------------------------------------------------------------------------------------


def real(name: str):
    folder = shared / name
    if not folder.is_dir():
        pytest.skip(f"the published files are not here: {folder}")
    return str(folder)


def test_hp_s2c2_as_published():
    folds = datasets.read(Config(dataset="hp-s2c2", data=real("hp_s2c2"), fold=-1))
    assert {tuple((f.parts == part).sum() for part in range(3)) for f in folds.values()} >= {(1592, 176, 197)}
    tested = [n for f in folds.values() for n in np.array(f.names)[f.parts == datasets.TEST]]
    assert len(tested) == len(set(tested)) == 1965
    assert np.bincount(folds[0].targets.astype(int)).tolist() == [1237, 728]
    assert not any(found.warnings for found in folds.values())
    # the classes are the temperatures' own
    classes = one(Config(dataset="hp-s2c2", data=real("hp_s2c2"), boundaries=[75.0]))
    assert (classes.targets == folds[0].targets).all()
    sums = addresses.sums["hp-s2c2"]
    assert all(hashlib.md5((shared / "hp_s2c2" / name).read_bytes()).hexdigest() == md5 for name, md5 in sums.items())


def test_hp_s2c5_as_published():
    folds = datasets.read(Config(dataset="hp-s2c5", data=real("hp_s2c5"), fold=-1))
    assert {(f.parts == datasets.TEST).sum() for f in folds.values()} == {104}
    assert np.bincount(folds[3].targets.astype(int)).tolist() == [73, 387, 343, 196, 41]
    sums = addresses.sums["hp-s2c5"]
    assert all(hashlib.md5((shared / "hp_s2c5" / name).read_bytes()).hexdigest() == md5 for name, md5 in sums.items())


def test_meltome_as_published():
    found = one(Config(dataset="meltome", data=real("meltome")))
    assert [(found.parts == part).sum() for part in range(3)] == [4926, 535, 1098]
    assert found.targets.min() > 30 and found.targets.max() < 94
    column, names = found.warnings
    assert column == "the temperatures are those of the column target; the file has also ogt"
    assert names.startswith("2 sequences have the name of another sequence")
