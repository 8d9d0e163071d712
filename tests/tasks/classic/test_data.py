"""The classic task's files: read or refused with a clear message, and split once and for all."""

import dataclasses
import functools
import gzip
import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.settings import groups
from common.stage.identity import fingerprint
from tasks.classic import data, prepare
from tasks.classic.config import Config
from tasks.classic.files import addresses, digits_mnist_cifar10
from tests.support.classic_files import cifar_files, complaint, idx, mnist_files, settings_of, write
from tests.support.places import SHARED

shared = SHARED / "classic"


# --- reading ---------------------------------------------------------------------------------------------------------


def test_mnist_is_the_same_packed_plain_renamed_or_below(tmp_path):
    files = mnist_files()
    dotted = {name.replace("-idx", ".idx"): content for name, content in files.items()}
    packed = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
    write(tmp_path / "plain", files), write(tmp_path / "dotted", dotted)
    write(tmp_path / "packed", packed), write(tmp_path / "below" / "MNIST" / "raw", files)
    names = ("plain", "dotted", "packed", "below")
    assert len({prepare.check(settings_of(tmp_path / name)).fingerprint for name in names}) == 1
    loaded = data.load(settings_of(tmp_path / "plain"))
    assert [len(s) for s in (loaded.train, loaded.validation, loaded.test)] == [30, 10, 20]
    assert loaded.test.images.dtype == torch.float32 and loaded.test.labels.dtype == torch.int64
    pixels = np.frombuffer(files["t10k-images-idx3-ubyte"][16:], dtype=np.uint8).reshape(20, 1, 28, 28)
    expected = (torch.from_numpy(pixels.copy()).double() / 255 - 0.1307) / 0.3081
    assert torch.allclose(loaded.test.images.double(), expected, atol=1e-5)
    assert data.load(settings_of(tmp_path / "plain")) is loaded, "kept in the process"


def test_a_file_is_packed_if_its_content_is_whatever_its_name(tmp_path):
    files = mnist_files()
    write(tmp_path / "plain", files), write(tmp_path / "named", {f"{name}.gz": files[name] for name in files})
    write(tmp_path / "unnamed", {name: gzip.compress(files[name]) for name in files})
    assert len({prepare.check(settings_of(tmp_path / name)).fingerprint for name in ("plain", "named", "unnamed")}) == 1


def pickled_as(array, **how) -> dict[str, bytes]:
    """CIFAR-10's batches with their pixels and labels made into ``array`` by its functions of these names."""
    batches = {name: pickle.loads(content) for name, content in cifar_files("python").items()}
    for batch in batches.values():
        batch.update({key.encode(): change(batch[key.encode()]) for key, change in array.items()})
    return {name: pickle.dumps(batch, **how) for name, batch in batches.items()}


def test_cifar_is_the_same_binary_or_pickled_however_python_wrote_it(tmp_path):
    write(tmp_path / "one", cifar_files("binary"))
    write(tmp_path / "two" / "cifar-10-batches-py", cifar_files("python"))
    one, two = settings_of(tmp_path / "one", "cifar10"), settings_of(tmp_path / "two", "cifar10")
    assert prepare.check(one).fingerprint == prepare.check(two).fingerprint
    whole = {"labels": np.array}, {"labels": lambda values: list(np.array(values, np.uint8))}
    for change in ({}, {"data": np.asfortranarray}, {"data": lambda pixels: pixels[:, ::-1][:, ::-1]}, *whole):
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            folder = write(tmp_path / "other", pickled_as(change, protocol=protocol))
            assert prepare.check(settings_of(folder, "cifar10")).fingerprint == prepare.check(one).fingerprint, (
                change,
                protocol,
            )
    assert [len(s) for s in (data.load(two).train, data.load(two).validation, data.load(two).test)] == [40, 10, 10]
    assert torch.equal(data.load(one).train.images, data.load(two).train.images)


broken_mnist = {
    "cut": ("train-images-idx3-ubyte", lambda b: b[:-5], "expected 31376 bytes (40 x 28 x 28 values), found 31371"),
    "longer": ("t10k-labels-idx1-ubyte", lambda b: b + b"\0", "expected 28 bytes (20 values), found 29"),
    "magic": ("t10k-images-idx3-ubyte", lambda b: b"\x89PNG" + b[4:], "magic number 00000803, found 89504e47"),
    "empty": ("train-labels-idx1-ubyte", lambda b: b"", "magic number 00000801, found an empty file"),
    "label": ("train-labels-idx1-ubyte", lambda b: b[:-1] + b"\x0b", "expected labels 0-9, found 0 to 11"),
    "shape": ("train-images-idx3-ubyte", lambda b: idx(np.zeros((40, 8, 8), np.uint8)), "expected images of 28 x 28"),
    "count": ("train-labels-idx1-ubyte", lambda b: idx(np.zeros(39, np.uint8)), "expected 40 labels"),
}


@pytest.mark.parametrize("case", broken_mnist)
def test_a_broken_mnist_file_is_named_with_what_was_expected_and_what_helps(tmp_path, case):
    name, damage, expected = broken_mnist[case]
    files = mnist_files()
    message = complaint(prepare.check, settings_of(write(tmp_path, {**files, name: damage(files[name])})))
    assert str(tmp_path / name) in message and expected in message
    assert 'make prepare TASK=classic SET="task.dataset=mnist"' in message and "DATA=<folder>" in message


def test_broken_gzip_files(tmp_path):
    packed = {f"{name}.gz": gzip.compress(content) for name, content in mnist_files().items()}
    name = "train-images-idx3-ubyte.gz"
    whole = packed[name]
    damages = {
        "ended before the end": whole[:-100],
        "CRC": whole[:-8] + bytes(4) + whole[-4:],
        "magic number 00000803, found 3c68746d": b"<html>" + whole[6:],
    }
    for expected, content in damages.items():
        message = complaint(prepare.check, settings_of(write(tmp_path, {**packed, name: content})))
        assert expected in message and name in message


def test_missing_folder_and_missing_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "data/classic/mnist: there is no such folder" in complaint(prepare.check, Config(dataset="mnist"))
    files = mnist_files()
    del files["t10k-labels-idx1-ubyte"]
    assert "t10k-labels-idx1-ubyte" in complaint(prepare.check, settings_of(write(tmp_path / "mnist", files)))
    (tmp_path / "empty").mkdir()
    assert "data_batch_1 is missing" in complaint(prepare.check, settings_of(tmp_path / "empty", "cifar10"))
    batches = cifar_files("binary")
    batches["data_batch_3.bin"] = batches.pop("data_batch_2.bin")
    message = complaint(prepare.check, settings_of(write(tmp_path / "gap", batches), "cifar10"))
    assert "data_batch_2.bin is missing" in message


def test_broken_cifar_files(tmp_path):
    files = cifar_files("binary")
    cut = {**files, "data_batch_1.bin": files["data_batch_1.bin"][:-1]}
    message = complaint(prepare.check, settings_of(write(tmp_path / "cut", cut), "cifar10"))
    assert "expected records of 3073 bytes, found 92189 bytes" in message
    pickled = cifar_files("python")
    shapes = {"data": np.zeros((3, 5), np.uint8), "labels": [1, 2, 3]}
    for content, expected in (
        (pickled["test_batch"][:-40], "not a batch"),
        (b"not a pickle", "not a batch"),
        (pickle.dumps([1, 2]), "not a batch"),
        (pickle.dumps(shapes, protocol=2), "found uint8 [3, 5]"),
    ):
        folder = write(tmp_path / "python", {**pickled, "test_batch": content})
        message = complaint(prepare.check, settings_of(folder, "cifar10"))
        assert expected in message and "test_batch" in message


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path):
    trap = tmp_path / "trap"
    content = pickle.dumps({b"data": Malicious(str(trap)), b"labels": []}, protocol=2)
    folder = write(tmp_path / "data", {**cifar_files("python"), "data_batch_1": content})
    message = complaint(prepare.check, settings_of(folder, "cifar10"))
    assert "asks for posix.mkdir" in message and not trap.exists()


def test_the_validation_split_must_fit_and_pretrained_weights_count(tmp_path):
    folder = write(tmp_path / "mnist", mnist_files())
    config = Config(dataset="mnist", data=str(folder), validation=31)
    assert "task.validation is 31" in complaint(prepare.check, config)
    weights = tmp_path / "weights.pt"
    config = Config(pretrained=str(weights))
    assert "cannot be read" in complaint(prepare.check, config)
    weights.write_bytes(b"")
    assert "is empty" in complaint(prepare.check, config)
    weights.write_bytes(b"no archive")
    assert "is no archive of torch.save" in complaint(prepare.check, config)
    torch.save({"one": torch.ones(9)}, weights)
    first, content = prepare.check(config).fingerprint, bytearray(weights.read_bytes())
    content[content.index(b"\0\0\x80\x3f")] ^= 1
    weights.write_bytes(content)
    assert "is damaged" in complaint(prepare.check, config)
    torch.save({"two": torch.ones(9)}, weights)
    assert len({first, prepare.check(config).fingerprint, prepare.check(Config()).fingerprint}) == 3


def test_files_replaced_while_the_process_lives_are_read_again(tmp_path):
    settings = settings_of(write(tmp_path / "mnist", mnist_files()))
    values = {"task": dataclasses.asdict(settings)}
    before, loaded = fingerprint("classic", values), data.load(settings)
    assert fingerprint("classic", values) == before and data.load(settings) is loaded
    labels = tmp_path / "mnist" / "train-labels-idx1-ubyte"
    old = labels.stat()
    labels.write_bytes(labels.read_bytes()[:-1] + b"\7")
    os.utime(labels, ns=(old.st_atime_ns, old.st_mtime_ns))  # as tools that copy with times leave it
    assert fingerprint("classic", values) not in (before, None)
    assert data.load(settings) is not loaded


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_a_whole_first_batch_asks_for_all_five(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(digits_mnist_cifar10, "whole_batch", 30)
    files = cifar_files(kind)
    folder = write(tmp_path / "data", files)
    ending = ".bin" if kind == "binary" else ""
    message = complaint(prepare.check, settings_of(folder, "cifar10"))
    assert f"data_batch_3{ending} is missing" in message and "all five" in message
    write(folder, {f"data_batch_{number}{ending}": files[f"data_batch_2{ending}"] for number in (3, 4, 5)})
    assert prepare.check(settings_of(folder, "cifar10")).fingerprint


def test_a_stray_copy_is_no_batch(tmp_path):
    files = cifar_files("python")
    folder = write(tmp_path, {**files, "data_batch_1 (1)": files["data_batch_1"]})
    assert prepare.check(settings_of(folder, "cifar10")).fingerprint
    (folder / "data_batch_1").unlink()
    message = complaint(prepare.check, settings_of(folder, "cifar10"))
    assert "data_batch_1 is missing ('data_batch_1 (1)' beside it has no name of a batch)" in message


@pytest.mark.parametrize("kind", ["mnist", "binary", "python"])
def test_files_that_are_not_the_published_ones_are_used_and_named(tmp_path, monkeypatch, kind):
    """Another data set in files of these names, such as Fashion-MNIST, would be reported as this one."""
    dataset = "mnist" if kind == "mnist" else "cifar10"
    files = mnist_files() if kind == "mnist" else cifar_files(kind)
    plain = {**files, **(cifar_files("binary") if dataset == "cifar10" else {})}
    sums = {name: hashlib.md5(content).hexdigest() for name, content in plain.items()}
    monkeypatch.setitem(addresses.sums, dataset, sums)
    place, told = settings_of(write(tmp_path, files), dataset), []
    told += prepare.check(place).remarks
    assert not told and not data.load(place).warnings
    if kind == "python":  # written anew it holds the same
        write(tmp_path, pickled_as({}, protocol=4))
        told += prepare.check(place).remarks
        assert not told
    first, *_, last = files
    monkeypatch.setitem(addresses.sums, dataset, {**sums, first: "", f"{first}.bin": "", last: "", f"{last}.bin": ""})
    os.utime(tmp_path / first, (1, 1))
    told += prepare.check(place).remarks
    counts = (
        "40 training and 20 test images of 28 x 28" if kind == "mnist" else "50 training and 10 test images of 32 x 32"
    )
    assert told == [f"not the published files of {dataset}, by their checksums: {first}, {last}; {counts}"]
    assert data.load(place).warnings == told, "in the summary too"


def test_every_complaint_about_the_settings_comes_at_once():
    assert groups.complaints_of_task("classic", Config()) == []
    wrong = Config(dataset="minst", model="resnet20", validation=-1)
    complaints = groups.complaints_of_task("classic", wrong)
    assert len(complaints) == 3
    assert "did you mean 'mnist'?" in complaints[0] and "did you mean 'resnet-20'?" in complaints[1]
    assert "augment" in groups.complaints_of_task("classic", Config(augment=True))[0]
    assert "task.dataset=mnist" in groups.complaints_of_task("classic", Config(data="somewhere"))[0]


# --- splits ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(400, 700), st.integers(0, 200), st.integers(0, 100), st.randoms(use_true_random=False))
def test_a_split_is_a_partition(size, official, validation, random):
    labels = np.array([random.randrange(10) for _ in range(size)], dtype=np.uint8)
    if validation > size - (official or digits_mnist_cifar10.digits_test) - 10:
        assert "task.validation" in complaint(digits_mnist_cifar10.partition, labels, official, validation)
        return
    train, chosen, test = digits_mnist_cifar10.partition(labels, official, validation)
    assert np.array_equal(np.sort(np.concatenate([train, chosen, test])), np.arange(size))
    assert len(chosen) == validation and len(test) == (official or digits_mnist_cifar10.digits_test)
    again = digits_mnist_cifar10.partition(labels, official, validation)
    assert all(np.array_equal(a, b) for a, b in zip((train, chosen, test), again, strict=True))


def test_the_digits_split():
    loaded, other = data.load(Config()), data.load(Config(validation=100))
    assert [len(s) for s in (loaded.train, loaded.validation, loaded.test)] == [1257, 180, 360]
    images = loaded.train.images
    assert images.shape == (1257, 1, 8, 8) and images.min() == 0 and images.max() == 1
    assert torch.equal(loaded.test.index, other.test.index), "the test set does not depend on the validation split"
    assert len({*loaded.train.index.tolist(), *loaded.validation.index.tolist(), *loaded.test.index.tolist()}) == 1797
    assert loaded.test.labels.bincount().tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    # Pinned: results are comparable over years only if the split never moves.
    assert hashlib.sha256(loaded.test.index.numpy().astype("<i8").tobytes()).hexdigest()[:16] == "0161ecc2f1afab67"
    assert data.overlap(loaded.train, loaded.test) == data.overlap(loaded.train, loaded.validation) == 0
    assert data.overlap(loaded.test, loaded.test) == 360


def test_the_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    found = digits_mnist_cifar10.read("digits", Path())
    assert np.array_equal(found.pixels.reshape(-1, 64), images) and np.array_equal(found.labels, labels)


@pytest.mark.parametrize(
    "dataset, validation, sizes", [("mnist", 5000, [55000, 5000, 10000]), ("cifar10", 50, [350, 50, 200])]
)
def test_real_files(dataset, validation, sizes):
    folder = shared / dataset
    if not folder.is_dir():
        pytest.skip(f"no real {dataset} in {folder}")
    loaded = data.load(Config(dataset=dataset, data=str(folder), validation=validation))
    splits = (loaded.train, loaded.validation, loaded.test)
    assert [len(s) for s in splits] == sizes
    assert bool(loaded.warnings) == (dataset == "cifar10"), "MNIST as published, and a part of CIFAR-10"
    assert abs(loaded.train.images.mean()) < 0.03 and abs(loaded.train.images.std() - 1) < 0.03
    assert len({i for s in splits for i in s.index.tolist()}) == sum(sizes)
    assert [data.overlap(loaded.train, s) for s in splits[1:]] == [0, 0]


def test_augmentation_shifts_and_mirrors_and_repeats():
    images = torch.arange(1.0, 2 * 3 * 32 * 32 + 1).reshape(2, 3, 32, 32).repeat(50, 1, 1, 1)
    draw = functools.partial(data.augment, images)
    first = draw(torch.Generator().manual_seed(3))
    assert torch.equal(first, draw(torch.Generator().manual_seed(3)))
    assert not torch.equal(first, draw(torch.Generator().manual_seed(4)))
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    seen = set()
    for before, after in zip(padded, first, strict=True):
        views = {
            (row, column, mirror): view.flip(2) if mirror else view
            for row in range(9)
            for column in range(9)
            for mirror in (False, True)
            for view in [before[:, row : row + 32, column : column + 32]]
        }
        matches = [key for key, view in views.items() if torch.equal(view, after)]
        assert len(matches) == 1, "every image is one shifted, perhaps mirrored, view of itself"
        seen.update(matches)
    assert len({key[0] for key in seen}) == len({key[1] for key in seen}) == 9 and len({key[2] for key in seen}) == 2
