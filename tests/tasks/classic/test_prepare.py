"""`make prepare` of the classic task against a server on this machine that misbehaves in every usual way."""

import errno
import gzip
import hashlib
import io
import tarfile

import numpy as np
import pytest

from common.data import published
from common.errors import UserError
from tasks.classic import prepare
from tasks.classic.config import Config
from tasks.classic.files import addresses
from tests.support.classic_files import cifar_files, complaint, mnist_files, write
from tests.support.file_server import Server

mnist, cifar10 = Config(dataset="mnist", validation=10), Config(dataset="cifar10", validation=10)


@pytest.fixture
def server(monkeypatch):
    """A server of tiny MNIST and CIFAR-10 files, with the checksums of those files in place of the published ones."""
    with Server() as server:
        plain = {**mnist_files(), **cifar_files("binary")}
        packed = {f"{name}.gz": gzip.compress(b, mtime=0) for name, b in plain.items() if name.endswith("ubyte")}
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w:gz") as archive:
            for name, content in [*plain.items(), ("../../escaped.bin", b"evil")]:
                if name.endswith(".bin"):
                    member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
            link = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
            archive.addfile(link)
        server.files = {**packed, "cifar-10-binary.tar.gz": tar.getvalue()}
        sums = {name: hashlib.md5(content).hexdigest() for name, content in {**server.files, **plain}.items()}
        batches = {name: sums[name] for name in plain if name.endswith(".bin")}
        packages = {
            "mnist": {name: (sums[name], {name[:-3]: sums[name[:-3]]}) for name in packed},
            "cifar10": {"cifar-10-binary.tar.gz": (sums["cifar-10-binary.tar.gz"], batches)},
        }
        monkeypatch.setattr(prepare, "packages", packages)
        for dataset in addresses.sums:
            monkeypatch.setitem(addresses.sums, dataset, sums)
        monkeypatch.setattr(prepare, "homes", {"mnist": [server.url], "cifar10": [server.url + "deep/"]})
        monkeypatch.setattr(published, "patience", 5)
        yield server


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")  # the server is this machine's own, whatever the user's network needs
    return tmp_path / "data" / "classic" / "mnist"


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_digits_need_nothing(capsys):
    prepare.prepare(Config())
    assert "nothing to prepare" in capsys.readouterr().out


def test_fetching_is_complete_counted_and_idempotent(server, folder):
    lines = []
    prepare.prepare(mnist, report=lines.append)
    assert names(folder) == sorted(prepare.packages["mnist"])
    assert lines[-1] == "mnist: 40 training and 20 test images of 28 x 28"
    fingerprint, requests = prepare.check(mnist).fingerprint, len(server.asked)
    prepare.prepare(mnist, report=lines.append)
    assert "complete" in lines[-2] and len(server.asked) == requests == 4
    assert prepare.check(mnist).fingerprint == fingerprint


def test_an_interruption_is_continued_and_not_repeated(server, folder):
    server.moods = ["cut", "", "cut", "cut", ""]
    prepare.prepare(mnist, report=lambda line: None)
    size = len(server.files["train-images-idx3-ubyte.gz"])
    assert server.asked[:2] == [
        ("train-images-idx3-ubyte.gz", ""),
        ("train-images-idx3-ubyte.gz", f"bytes={size // 2}-"),
    ]


def test_a_second_call_continues_after_the_first_gave_up(server, folder):
    server.moods = ["cut", "busy"]
    message = complaint(prepare.prepare, mnist, None, lambda line: None)
    assert "503" in message and server.url + "train-images-idx3-ubyte.gz" in message and "Nothing is lost" in message
    assert names(folder) == ["train-images-idx3-ubyte.gz.part"]
    prepare.prepare(mnist, report=lambda line: None)
    assert server.asked[2][1].startswith("bytes=") and names(folder) == sorted(prepare.packages["mnist"])


def test_a_server_without_ranges_starts_again(server, folder):
    server.moods = ["cut", "whole"]
    prepare.prepare(mnist, report=lambda line: None)
    assert names(folder) == sorted(prepare.packages["mnist"])


def test_a_whole_part_file_is_recognised(server, folder):
    folder.mkdir(parents=True)
    name = "train-images-idx3-ubyte.gz"
    (folder / f"{name}.part").write_bytes(server.files[name])
    prepare.prepare(mnist, report=lambda line: None)
    assert names(folder) == sorted(prepare.packages["mnist"])


def test_a_wrong_checksum_is_thrown_away_and_the_next_mirror_asked(server, folder, monkeypatch):
    good = server.files["t10k-labels-idx1-ubyte.gz"]
    server.files["t10k-labels-idx1-ubyte.gz"] = good[:-1] + b"?"
    message = complaint(prepare.prepare, mnist, None, lambda line: None)
    assert "t10k-labels" in message and "expected MD5" in message and hashlib.md5(good).hexdigest() in message
    assert "t10k-labels-idx1-ubyte.gz" not in names(folder) and len(names(folder)) == 3, "no .part is left either"
    with Server() as other:
        other.files = {"t10k-labels-idx1-ubyte.gz": good}
        monkeypatch.setattr(prepare, "homes", {"mnist": [server.url, other.url]})
        prepare.prepare(mnist, report=lambda line: None)
    assert names(folder) == sorted(prepare.packages["mnist"])


def test_no_network(folder, monkeypatch):
    with Server() as closed:
        url = closed.url
    monkeypatch.setattr(prepare, "homes", {"mnist": [url, url + "second/"]})
    message = complaint(prepare.prepare, mnist, None, lambda line: None)
    assert url + "train-images" in message and url + "second/train-images" in message
    assert "refused" in message and "Nothing is lost" in message and "DATA=<folder>" in message
    assert names(folder) == []


def test_a_folder_that_cannot_be_written(server, folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    message = complaint(prepare.prepare, mnist, tmp_path / "file" / "mnist", lambda line: None)
    assert str(tmp_path / "file") in message and "cannot be written" in message and "DATA=<folder>" in message


def test_a_full_disk_is_not_taken_for_a_broken_network(server, folder, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz.part").write_bytes(b"something")
    server.moods = ["whole"]
    monkeypatch.setattr(published, "_empty", full)
    message = complaint(prepare.prepare, mnist, None, lambda line: None)
    assert "No space left on device" in message and "tried" not in message


def test_files_packed_or_unpacked_by_others_are_complete(server, folder):
    files = {name: content for name, content in mnist_files().items() if "images" in name}
    write(folder, files)
    write(folder, {f"{n}.gz": gzip.compress(b, 1) for n, b in mnist_files().items() if "labels" in n})
    lines = []
    prepare.prepare(mnist, report=lines.append)
    assert "complete" in lines[0] and not server.asked
    labels = folder / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-9])
    prepare.prepare(mnist, report=lambda line: None)
    assert [name for name, _ in server.asked] == [labels.name], "only what is damaged is fetched"


def test_what_can_be_read_is_never_replaced(server, folder, tmp_path):
    """Fashion-MNIST in files of these names is somebody's own."""
    own = write(tmp_path / "own", {f"{n}.gz": gzip.compress(b) for n, b in mnist_files(30).items()})
    before, lines = {path: path.read_bytes() for path in own.iterdir()}, []
    prepare.prepare(Config(dataset="mnist", data=str(own), validation=10), None, lines.append)
    assert "reads as it is" in lines[0] and lines[-1].startswith("warning: not the published files of mnist")
    (own / "t10k-images-idx3-ubyte.gz").unlink()
    message = complaint(prepare.prepare, Config(dataset="mnist", data=str(own), validation=10), None, lines.append)
    assert "not the published file" in message and "t10k-images" in message and "Nothing was fetched" in message
    assert not server.asked and all(path.read_bytes() == before[path] for path in own.iterdir())
    write(folder, {path.name: content for path, content in before.items()})
    assert "Move it away" in complaint(prepare.prepare, mnist, None, lines.append), "where the published ones belong"


def test_a_connection_closed_without_a_word_is_not_tried_for_ever(server, folder):
    server.moods = ["silent"] * 9
    assert "closed connection" in complaint(prepare.prepare, mnist, None, lambda line: None)
    assert len(server.asked) == 1


def test_two_at_once_do_not_mix_their_bytes(server, folder):
    import fcntl

    folder.mkdir(parents=True)
    with open(folder / "train-images-idx3-ubyte.gz.part", "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another `make prepare`"):
            prepare.prepare(mnist, report=lambda line: None)


def test_what_another_has_just_put_in_place_is_left_alone(server, folder, monkeypatch):
    name = "train-images-idx3-ubyte.gz"
    write(folder, {f"{name}.part": server.files[name]})
    monkeypatch.setattr(published.fcntl, "flock", lambda *how: (folder / f"{name}.part").rename(folder / name))
    assert "another `make prepare`" in complaint(prepare.prepare, mnist, None, lambda line: None)
    assert (folder / name).read_bytes() == server.files[name] and not server.asked


def test_an_archive_gives_its_known_files_and_nothing_else(server, folder, tmp_path):
    lines, place = [], tmp_path / "data" / "classic" / "cifar10"
    prepare.prepare(cifar10, report=lines.append)
    assert names(place) == ["data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"]
    assert not (place / "data_batch_1.bin").is_symlink() and not list(tmp_path.rglob("escaped*"))
    assert lines[-1] == "cifar10: 50 training and 10 test images of 32 x 32"
    assert np.fromfile(place / "test_batch.bin", np.uint8).size == 10 * 3073
    prepare.prepare(cifar10, report=lines.append)
    assert "complete" in lines[-2] and len(server.asked) == 1
