"""Checks the data before anything is queued, and fetches it from its public homes. No torch: login nodes run this."""

import fcntl
import gzip
import hashlib
import http.client
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path

from common.errors import UserError
from tasks.classic import fingerprint, source
from tasks.classic.config import Config
from tasks.classic.config import folder as place

patience = 20  # seconds without a byte before a server is given up
chunk = 1 << 18  # bytes read at a time
mirrors = {
    "mnist": [
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ],
    "cifar10": ["https://www.cs.toronto.edu/~kriz/"],
}
# What to fetch: its published MD5 sum, and those of the unpacked files that must lie in the folder in the end.
packages = {
    "mnist": {
        "train-images-idx3-ubyte.gz": (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            {"train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb"},
        ),
        "train-labels-idx1-ubyte.gz": (
            "d53e105ee54ea40749a09fcbcd1e9432",
            {"train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624"},
        ),
        "t10k-images-idx3-ubyte.gz": (
            "9fb629c4189551a2d022fa330f9573f3",
            {"t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea"},
        ),
        "t10k-labels-idx1-ubyte.gz": (
            "ec29112dd5afa0611ce80d1b7f02629c",
            {"t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637"},
        ),
    },
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
        ),
    },
}


class _Interrupted(Exception):
    """The server or the network failed; what has arrived so far is kept."""


def check(config: Config) -> str:
    """The fingerprint (SHA-256) of the examples and, if there are any, of the pretrained weights.

    It is of pixels and labels, so packed, plain, binary and pickled files of the same data agree. Reads everything:
    1 s for MNIST or CIFAR-10, so ask once for each distinct task configuration.
    Raises UserError for missing, truncated or corrupt files and for a validation set that does not fit.
    """
    found = source.read(config.dataset, place(config))
    source.partition(found.labels, found.official, config.validation)
    return fingerprint.combined(fingerprint.checksum(config.dataset, found), fingerprint.pretrained(config))


def stamp(config: Config) -> tuple:
    """What changes when a file that ``check`` reads is replaced; costs no reading."""
    return fingerprint.stamp(config)


def prepare(config: Config, folder: Path | None = None, report=print) -> None:
    """Fetches what is missing into ``folder`` (default: where the task looks), checks it, and reports the counts.

    May be interrupted and repeated: what has arrived is kept in ``.part`` files and continued; complete files are
    left alone. Raises UserError when there is no network, a checksum is wrong or the folder cannot be written.
    """
    dataset = config.dataset
    if dataset == "digits":
        report("digits: nothing to prepare, they come with scikit-learn")
        return
    folder = Path(folder) if folder else place(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = {n: p for n, p in packages[dataset].items() if not _there(folder, p[1])}
        if not missing:
            report(f"{dataset}: complete in {folder}, nothing to fetch")
        for name, (md5, contents) in missing.items():
            _fetch(dataset, name, md5, folder, report)
            if name.endswith(".tar.gz"):
                _unpack(folder / name, contents)
                (folder / name).unlink()
    except OSError as problem:
        raise UserError(
            f"{problem.filename or folder}: cannot be written ({problem.strerror or problem}); expected a folder with "
            "room for 200 MB. What was fetched so far is kept; mend this and repeat, or name another with DATA=<folder>"
        ) from problem
    found = source.read(dataset, folder)
    total, height, width = len(found.labels), *found.pixels.shape[2:]
    report(f"{dataset}: {total - found.official} training and {found.official} test images of {height} x {width}")


def _fetch(dataset: str, name: str, md5: str, folder: Path, report) -> None:
    """Brings one file into ``folder``, from the first mirror that has it, continuing what an earlier call began."""
    part, problems = folder / f"{name}.part", []
    with open(part, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise UserError(f"{part}: another `make prepare` is fetching this file; wait for it to end") from problem
        for mirror in mirrors[dataset]:
            try:
                _persist(mirror + name, file, report)
                found = _sum(part)
                if found == md5:
                    os.replace(part, folder / name)
                    return
                problems.append(f"{mirror + name}: expected MD5 {md5}, found {found} (thrown away)")
                _empty(file)
            except _Interrupted as problem:
                problems.append(f"{mirror + name}: {problem}")
    if not part.stat().st_size:
        part.unlink()
    raise UserError(
        f"{name} could not be fetched; tried " + "; ".join(problems) + f". Nothing is lost: what has arrived stays in "
        f"{folder} and `make prepare` continues there. Without a network, get the files another way and name their "
        "folder with DATA=<folder>"
    )


def _persist(url: str, file, report) -> None:
    """Downloads ``url``, again after each interruption as long as every attempt brought something new."""
    while True:
        before = file.tell()
        try:
            return _download(url, file, report)
        except _Interrupted:
            if file.tell() <= before:
                raise


def _download(url: str, file, report) -> None:
    """Appends to ``file`` what it still lacks of ``url``; raises _Interrupted when less than all arrives."""
    name, start = url.rsplit("/", 1)[1], file.tell()
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    answer = _network(lambda: urllib.request.urlopen(request, timeout=patience))
    if answer is None:
        return
    with answer:
        if start and answer.status != 206:  # this server sends the whole file again
            _empty(file)
        told = file.tell()
        size = told + int(answer.headers.get("Content-Length") or 0)
        report(f"  {name}: {size / 1e6:.1f} MB from {url}" + (f", continued at {told / 1e6:.1f} MB" if told else ""))
        while block := _network(lambda: answer.read(chunk)):
            file.write(block)
            file.flush()  # so that an interruption loses nothing
            if file.tell() - told >= max(size / 10, 1e6):
                told = file.tell()
                report(f"  {name}: {told / 1e6:.1f} of {size / 1e6:.1f} MB")
    if file.tell() < size:
        raise _Interrupted(f"broke off after {file.tell()} of {size} bytes")


def _network(call):
    """The result of ``call``; its failures as _Interrupted, told apart from those of the disk (OSError as well)."""
    try:
        return call()
    except urllib.error.HTTPError as problem:
        if problem.code == 416:  # nothing left to send: the file is whole, and its checksum will tell whether rightly
            return None
        raise _Interrupted(f"the server answers {problem.code} {problem.reason}") from problem
    except (OSError, http.client.HTTPException) as problem:
        raise _Interrupted(str(getattr(problem, "reason", "") or problem)) from problem


def _empty(file) -> None:
    file.seek(0)
    file.truncate()


def _unpack(archive: Path, wanted: dict) -> None:
    """Takes only the ``wanted`` plain files out of ``archive``, whatever else and whatever paths it contains."""
    with tarfile.open(archive) as tar:
        for member in tar:
            name = os.path.basename(member.name)
            if member.isfile() and name in wanted:
                aside = archive.parent / f"{name}.part"
                aside.write_bytes(tar.extractfile(member).read())
                os.replace(aside, archive.parent / name)


def _there(folder: Path, contents: dict) -> bool:
    """Whether ``folder`` holds all ``contents`` (MD5 sums by name), each plain or gzipped."""
    for name, md5 in contents.items():
        packed = folder / f"{name}.gz"
        if _sum(folder / name) != md5 and _sum(packed, gzip.open) != md5:
            return False
    return True


def _sum(path: Path, opener=open) -> str:
    """The MD5 sum of what ``opener`` reads from the file; empty when there is no file or it cannot be unpacked."""
    digest = hashlib.md5(usedforsecurity=False)
    if not path.is_file():
        return ""
    with opener(path, "rb") as file:
        try:
            while block := file.read(1 << 20):
                digest.update(block)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return ""
    return digest.hexdigest()
