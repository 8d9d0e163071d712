"""Checks the data before anything is queued, and fetches it from its public homes. No torch: login nodes run this."""

import gzip
import os
import tarfile
from pathlib import Path

from common.data import published
from common.data.files import md5
from common.data.published import Report
from tasks.classic.config import Config
from tasks.classic.config import folder as place
from tasks.classic.files import digits_mnist_cifar10, fingerprint

mirrors = {
    "mnist": ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"],
    "cifar10": ["https://www.cs.toronto.edu/~kriz/"],
}
mnist = {  # the MD5 sums of each file, packed and plain
    "train-images-idx3-ubyte": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": ("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": ("9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": ("ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
}
# What to fetch: its published MD5 sum, and those of the unpacked files that must lie in the folder in the end.
packages = {
    "mnist": {f"{name}.gz": (packed, {name: plain}) for name, (packed, plain) in mnist.items()},
    "cifar10": {
        "cifar-10-binary.tar.gz": (
            "c32a1d4ab5d03f1284b67883e8d87530",
            {
                "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
                "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
                "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
                "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
                "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
                "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
            },
        )
    },
}

stamp = fingerprint.stamp  # what changes when a file that ``check`` reads is replaced


def check(config: Config, report: Report = lambda text: None) -> str:
    """The fingerprint (SHA-256) of the examples and, if there are any, of the pretrained weights; reads everything.

    It is of pixels and labels, so packed, plain, binary and pickled files of the same data agree. Nothing is left out,
    so there is nothing to ``report``. UserError: missing or damaged files, a validation set that does not fit.
    """
    found = digits_mnist_cifar10.read(config.dataset, place(config))
    digits_mnist_cifar10.partition(found.labels, found.official, config.validation)
    return fingerprint.combined(fingerprint.checksum(config.dataset, found), fingerprint.pretrained(config))


def prepare(config: Config, folder: Path | None = None, report: Report = print) -> None:
    """Fetches what is missing into ``folder`` (default: where the task looks), checks it, and reports the counts.

    May be interrupted and repeated. UserError: no network, a wrong checksum, a folder that cannot be written.
    """
    dataset = config.dataset
    if dataset == "digits":
        report("digits: nothing to prepare, they come with scikit-learn")
        return
    folder = Path(folder) if folder else place(config)
    with published.written(folder, "; expected a folder with room for 200 MB"):
        missing = {n: p for n, p in packages[dataset].items() if not _there(folder, p[1])}
        if not missing:
            report(f"{dataset}: complete in {folder}, nothing to fetch")
        for name, (expected, contents) in missing.items():
            published.fetch(name, mirrors[dataset], expected, folder, report)
            if name.endswith(".tar.gz"):
                _unpack(folder / name, contents)
                (folder / name).unlink()
    found = digits_mnist_cifar10.read(dataset, folder)
    total, height, width = len(found.labels), *found.pixels.shape[2:]
    report(f"{dataset}: {total - found.official} training and {found.official} test images of {height} x {width}")


def _unpack(archive: Path, wanted: dict) -> None:
    """Takes only the ``wanted`` plain files out of ``archive``, whatever else and whatever paths it contains."""
    with tarfile.open(archive) as tar:
        for member in tar:
            name = os.path.basename(member.name)
            if member.isfile() and name in wanted and (file := tar.extractfile(member)):
                aside = archive.parent / f"{name}.part"
                aside.write_bytes(file.read())
                os.replace(aside, archive.parent / name)


def _there(folder: Path, contents: dict) -> bool:
    """Whether ``folder`` holds all ``contents`` (MD5 sums by name), each plain or gzipped."""
    plain_or_packed = (md5(folder / n) == s or md5(folder / f"{n}.gz", gzip.open) == s for n, s in contents.items())
    return all(plain_or_packed)
