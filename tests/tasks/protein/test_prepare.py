"""Fetching the protein data: from a server of the test's own."""

import hashlib
import pickle

import pytest

from tasks.protein import data, prepare
from tasks.protein.config import Config
from tasks.protein.files import addresses, datasets, fasta_csv_pickle
from tests.support.file_server import Server
from tests.support.protein_data import one, rows, s2c2
from tests.support.protein_files import (
    archive,
    complaint,
    csv_files,
    fasta_files,
    flip,
    fold_files,
    shared,
    write,
)


@pytest.fixture
def server(monkeypatch):
    """Serves a small HP-S2C2, with its sums in place of the published ones; ``files`` can be changed."""
    with Server() as found:
        found.files = {"d1_fasta_clean.tar.gz": archive(fasta_files(rows)), **fold_files(rows)}
        monkeypatch.setitem(addresses.homes, "hp-s2c2", f"{found.url}s2c2/")
        monkeypatch.setitem(addresses.sums, "hp-s2c2", found.sums())
        yield found.files


def test_prepare_fetches_checks_and_goes_on_where_it_stopped(tmp_path, server):
    config, said = s2c2(tmp_path / "new"), []
    whole = server["d1_4.pkl"]
    server["d1_4.pkl"] = whole[:-1]
    text = complaint(prepare.prepare, config, None, said.append)
    assert "d1_4.pkl: expected MD5" in text and not (tmp_path / "new" / "d1_4.pkl").exists()
    fetched = len(said)
    server["d1_4.pkl"] = whole
    prepare.prepare(config, None, said.append)
    assert 0 < fetched < 20 and sum("kB from" in line for line in said) == 22, "each file once, the damaged one twice"
    assert said[-1] == "hp-s2c2, fold 0: 44 training, 10 validation, 6 test sequences"
    said.clear()
    prepare.prepare(config, None, said.append)
    assert said[0] == f"hp-s2c2: complete in {tmp_path / 'new'}, nothing to fetch"
    del server["d1_fasta_clean.tar.gz"]
    assert "the server answers 404" in complaint(prepare.prepare, s2c2(tmp_path / "other"), None, said.append)


def test_prepare_replaces_no_file(tmp_path, server, monkeypatch):
    mine = fold_files(rows)["d1_3.pkl"] + b" "  # reads, with another sum
    own = write(tmp_path / "own", {**server, "d1_3.pkl": mine})
    said = []
    prepare.prepare(s2c2(own), None, said.append)
    assert (own / "d1_3.pkl").read_bytes() == mine, "the file is the user's"
    assert any("d1_3.pkl is not the published file; it is used as it is" in line for line in said)
    (own / "d1_fasta_clean.tar.gz").write_bytes(server["d1_fasta_clean.tar.gz"][:-9])
    (own / "d1_4.pkl").unlink()
    text = complaint(prepare.prepare, s2c2(own), None, said.append)
    assert "d1_fasta_clean.tar.gz: not the published file" in text and "not a whole" in text
    assert not (own / "d1_4.pkl").exists() and (own / "d1_3.pkl").read_bytes() == mine
    monkeypatch.chdir(tmp_path)
    usual = write(tmp_path / "data" / "protein" / "hp-s2c2", {**server, "d1_3.pkl": mine})
    assert "Move it away" in complaint(prepare.prepare, Config(dataset="hp-s2c2"), None, said.append)
    assert (usual / "d1_3.pkl").read_bytes() == mine


def test_prepare_fetches_nothing_into_a_folder_that_reads(tmp_path, server):
    server_files = dict(server)
    server.clear()  # a request would be answered with 404
    for name, files in (("csv", csv_files(rows, folds=[0])), ("folder", {**fasta_files(rows), **fold_files(rows)})):
        place, said = write(tmp_path / name, files), []
        before = sorted(place.rglob("*"))
        prepare.prepare(s2c2(place), None, said.append)
        assert any("reads as it is, nothing was fetched" in line for line in said), said
        assert (
            any(line.startswith("hp-s2c2, fold 0: 44 training") for line in said) and sorted(place.rglob("*")) == before
        )
    server.update(server_files)
    prepare.prepare(s2c2(tmp_path / "csv", fold=-1), None, said.append)
    assert len(datasets.read(s2c2(tmp_path / "csv", fold=-1))) == 10, "what is missing for the folds asked is fetched"


def test_files_that_are_not_the_published_ones_are_used_and_named(tmp_path, server, monkeypatch):
    forms = {
        "archive": server,
        "folder": {**fasta_files(rows), **fold_files(rows)},
        "tables": csv_files(rows, folds=[0]),
    }
    tables = {name: hashlib.md5(text.encode()).hexdigest() for name, text in forms["tables"].items()}
    monkeypatch.setitem(addresses.also, "hp-s2c2", tables)
    same = fasta_csv_pickle.folder_of_fasta(write(tmp_path / "one", fasta_files(rows)) / "d1_fasta_clean")
    monkeypatch.setitem(addresses.sequences, "hp-s2c2", datasets.of_sequences(same))
    for name, content in forms.items():
        place, told = write(tmp_path / name, content), []
        told += prepare.check(s2c2(place)).remarks
        assert not told, name
    others = [(name, text + "\n") for name, text in csv_files(rows, folds=[0]).items()]
    write(place, dict(others))
    told += prepare.check(s2c2(place)).remarks
    files = ", ".join(str(place / f"s2c2_0_{part}.csv") for part in ("train", "test"))
    counts = "44 training, 10 validation, 6 test sequences"
    assert told == [f"not the published files of hp-s2c2, by their checksums: {files}; {counts}"]
    assert data.load(s2c2(place), 0).warnings == told, "in the summary too"
    write(tmp_path / "folder", {"d1_fasta_clean/P00007.fasta": ">P00007\nMKV\n"})
    told += prepare.check(s2c2(tmp_path / "folder")).remarks
    assert f": {tmp_path}/folder/d1_fasta_clean; 44" in told[-1]


def test_the_real_files_are_the_published_ones():
    found = [(name, folder) for name in ("hp-s2c2", "hp-s2c5") if (folder := shared / name.replace("-", "_")).is_dir()]
    if not found:
        pytest.skip(f"no real data in {shared}")
    for name, folder in found:
        assert not any(one.warnings for one in datasets.read(Config(dataset=name, data=str(folder), fold=-1)).values())


def test_prepare_says_where_the_rest_is(tmp_path):
    said = []
    prepare.prepare(Config(), None, said.append)
    assert said == ["generated: nothing to prepare, the sequences are computed"]
    with pytest.MonkeyPatch.context() as patch:  # data alone are not all that the model wants
        patch.setattr("importlib.util.find_spec", lambda name: None)
        assert "antiberty==0.1.3" in complaint(prepare.prepare, Config(model="antiberty"), None, said.append)
    text = complaint(prepare.prepare, Config(dataset="meltome", data=str(tmp_path)), None, said.append)
    assert "cannot be fetched by this command" in text and "FLIP" in text
    write(tmp_path, {"mixed_split.csv": flip(rows)})
    prepare.prepare(Config(dataset="meltome", data=str(tmp_path)), None, said.append)
    assert said[-1] == "meltome, fold 0: 38 training, 10 validation, 12 test sequences"


@pytest.mark.parametrize("name", ["s2c2_0_train.csv", "d1/d1_0.pkl", "d1/d1_fasta_clean/P00007.fasta"])
def test_the_stamp_changes_with_the_files_and_only_with_them(tmp_path, name):
    folds = {f"d1/{fold}": content for fold, content in fold_files(rows).items()}
    write(tmp_path, {**csv_files(rows), **folds, **fasta_files(rows, "d1/d1_fasta_clean")})
    before = prepare.stamp(s2c2(tmp_path))
    assert prepare.stamp(s2c2(tmp_path)) == before
    write(tmp_path, {name: "changed"})
    assert prepare.stamp(s2c2(tmp_path)) != before


def test_hp_s_as_hotprotein_lays_it_out(tmp_path):
    split = pickle.loads(fold_files(rows)["d1_0.pkl"])
    for part in ("train", "test"):
        split[f"{part}_labels"] = [int(v >= 5) + (v >= 20) + (v >= 45) + (v >= 75) for v in split[f"{part}_labels"]]
    files = fasta_files(rows, "S/S_target")
    write(tmp_path, {**files, "S/S_target_classification.pkl": pickle.dumps(split)})
    found = one(Config(dataset="hp-s", data=str(tmp_path)))
    assert (found.parts == datasets.TEST).sum() == 6 and set(found.targets) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert "has one split" in complaint(prepare.check, Config(dataset="hp-s", data=str(tmp_path), fold=2))
