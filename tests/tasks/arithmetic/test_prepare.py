"""Fetching the arithmetic data: from a server of the test's own."""

import pytest

from tasks.arithmetic import data, prepare
from tasks.arithmetic.config import Config
from tasks.arithmetic.files import addresses
from tests.support.arithmetic_data import dev, mawps, train
from tests.support.arithmetic_files import complaint, files, made, table, write
from tests.support.file_server import Server


@pytest.fixture
def server(monkeypatch):
    """Serves five small folds, with their sums in place of the published ones; they can be changed."""
    content = {}
    for fold in range(5):
        content |= files(made(30, first=50 * fold), made(10, first=50 * fold + 30), f"fold{fold}")
    with Server() as found:
        found.files = {name: text.encode() for name, text in content.items()}
        monkeypatch.setattr(prepare, "home", f"{found.url}data/")
        monkeypatch.setitem(addresses.sums, "mawps", found.sums())
        yield found.files


def test_prepare_fetches_checks_and_goes_on_where_it_stopped(tmp_path, server):
    config, said = mawps(tmp_path / "new"), []
    whole = server["fold2/dev.csv"]
    server["fold2/dev.csv"] = whole[:-1]
    text = complaint(prepare.prepare, config, None, said.append)
    assert "fold2/dev.csv: expected MD5" in text and not (tmp_path / "new" / "fold2" / "dev.csv").exists()
    assert 0 < len(said) < 10
    server["fold2/dev.csv"] = whole
    prepare.prepare(config, None, said.append)
    assert sum("kB from" in line for line in said) == 11, "each file once, the damaged one twice"
    assert said[-1] == "mawps, fold 0: 27 training, 3 validation, 10 test problems"
    said.clear()
    prepare.prepare(config, None, said.append)
    assert said[0] == f"mawps: complete in {tmp_path / 'new'}, nothing to fetch"
    del server["fold0/train.csv"]
    assert "the server answers 404" in complaint(prepare.prepare, mawps(tmp_path / "other"), None, said.append)


def test_what_could_not_be_fetched_is_all_told_and_leaves_no_empty_folder(tmp_path, server):
    prepare.prepare(mawps(tmp_path / "whole"), None, lambda line: None)
    told = []
    told += prepare.check(mawps(tmp_path / "whole")).remarks
    assert not any("not the published files" in line for line in told)
    server.clear()
    absent = mawps(tmp_path / "none", embedding="pretrained", pretrained=str(tmp_path / "weights"))
    text = complaint(prepare.prepare, absent, None, told.append)
    assert "could not be fetched" in text and f"'{tmp_path / 'weights'}'" in text
    assert not list((tmp_path / "none").iterdir())


def test_prepare_replaces_no_file_and_fetches_nothing_that_is_not_needed(tmp_path, server):
    mine, said = server["fold0/dev.csv"] + b"\n", []
    write(tmp_path, {"cv_mawps/fold0/train.csv": server["fold0/train.csv"], "cv_mawps/fold0/dev.csv": mine})
    before = sorted(tmp_path.rglob("*"))
    prepare.prepare(mawps(tmp_path), None, said.append)
    assert any("is not the published file; it is used as it is" in line for line in said)
    assert any("reads as it is, nothing was fetched (8 published files are not in it" in line for line in said)
    assert sorted(tmp_path.rglob("*")) == before
    text = complaint(prepare.prepare, mawps(tmp_path, fold=1), None, said.append)
    assert "not the published file" in text and "Nothing was fetched" in text
    assert (tmp_path / "cv_mawps/fold0/dev.csv").read_bytes() == mine
    write(tmp_path, {"cv_mawps/fold0/dev.csv": server["fold0/dev.csv"]})
    prepare.prepare(mawps(tmp_path, fold=-1), None, said.append)
    assert not (tmp_path / "fold1").exists() and (tmp_path / "cv_mawps/fold4/dev.csv").is_file()


def test_files_that_are_not_the_published_ones_are_used_and_named(tmp_path, server):
    config, told = mawps(write(tmp_path, files(train[1:], dev[1:])), fold=0, validation=0), []
    told += prepare.check(config).remarks
    assert told[0] == (
        f"not the published files of mawps, by their checksums: {tmp_path}/fold0/train.csv, {tmp_path}/fold0/dev.csv; "
        "29 training, none held out, 9 test problems"
    )
    assert told == data.load(config, 0).warnings, "before anything is queued, and in the summary"


def test_prepare_says_what_is_computed():
    said = []
    prepare.prepare(Config(), None, said.append)
    assert said[0].startswith("generated: nothing to prepare")
    assert said[1] == "generated, fold 0: 1440 training, 160 validation, 400 test problems"


def test_the_stamp_changes_with_the_files_and_only_with_them(tmp_path):
    write(tmp_path, files(train, dev, "cv_mawps/fold1"))
    config = mawps(tmp_path, fold=1)
    before = prepare.stamp(config)
    first = data.load(config, 0)
    assert prepare.stamp(config) == before and data.load(config, 0) is first
    write(tmp_path, {"cv_mawps/fold1/dev.csv": table(dev[1:])})
    assert prepare.stamp(config) != before and len(data.load(config, 0).test) == 9
