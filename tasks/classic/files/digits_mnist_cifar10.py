"""The published files of the three data sets, read and checked, and their fixed splits. Numpy alone, no torch."""

import codecs
import functools
import importlib.util
import io
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.data import files, published, splits
from common.errors import UserError
from tasks.classic.config import smallest_validation
from tasks.classic.files.addresses import sums

split_seed = 20_190_506  # of the splits; independent of the run's seed, so that all runs see the same test set
digits_test = 360  # test examples of the digits, which have no published split; a fifth of 1,797
record = 3073  # bytes of a CIFAR-10 record: one label, then 1,024 red, green and blue values
whole_batch = 10_000  # records of a published CIFAR-10 batch, of which there are five
# Where the files may lie at or below the folder, and what all their names have in common.
below = {
    "mnist": ("", "raw", "MNIST/raw", "mnist"),
    "cifar10": ("", "cifar-10-batches-bin", "cifar-10-batches-py", "cifar10"),
}
names_like = {"mnist": "t*ubyte*", "cifar10": "*_batch*"}


@dataclass(frozen=True)
class Source:
    """What the files hold: pixels uint8 [n, channels, height, width], labels uint8 [n].

    The last ``official`` examples are the published test set; 0 when there is none. ``unlike``: the names of files that
    are not the published ones.
    """

    pixels: np.ndarray
    labels: np.ndarray
    official: int
    unlike: tuple[str, ...] = ()

    @property
    def counts(self) -> str:
        """How many examples there are, in words."""
        total, height, width = len(self.labels), *self.pixels.shape[2:]
        return f"{total - self.official} training and {self.official} test images of {height} x {width}"

    def warnings(self, dataset: str) -> list[str]:
        """What plan and summary say of the files."""
        return published.unlike(dataset, self.unlike, self.counts)


def read(dataset: str, folder: Path) -> Source:
    """All examples of ``dataset`` from ``folder`` (unused for digits), completely checked."""
    if dataset == "digits":
        return _digits()
    if not folder.is_dir():
        raise _error(dataset, f"{folder}: there is no such folder; expected the files of {dataset} in it")
    parts, unlike = _mnist(folder) if dataset == "mnist" else _cifar10(folder)
    # In the usual order in memory, whatever the files have: checksums are of it.
    pixels, labels = (np.ascontiguousarray(np.concatenate(arrays)) for arrays in zip(*parts, strict=True))
    return Source(pixels, labels, official=len(parts[-1][1]), unlike=tuple(unlike))


def candidates(dataset: str, folder: Path) -> list[Path]:
    """The files among which ``read`` chooses."""
    if dataset == "digits":
        return [digits_file()]
    return [path for name in below[dataset] for path in sorted((folder / name).glob(names_like[dataset]))]


def partition(labels: np.ndarray, official: int, validation: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorted positions of the training, validation and test examples. UserError: too few are left for training.

    With an ``official`` test set the validation examples are a seeded draw from the rest. Without one (digits),
    test and validation are drawn class by class in proportion, and the test set does not depend on ``validation``.
    """
    most = len(labels) - (official or digits_test) - smallest_validation
    if validation > most:
        raise UserError(
            f"task.validation is {validation}, but these files leave room for at most {max(most, 0)} "
            f"({len(labels)} examples, {official or digits_test} of them for testing); set task.validation lower"
        )
    order = splits.order(split_seed, len(labels))
    if official:
        order = order[order < len(labels) - official]
        test = np.arange(len(labels) - official, len(labels))
        chosen, rest = order[:validation], order[validation:]
    else:
        test, order = _stratified(order, labels, digits_test)
        chosen, rest = _stratified(order, labels, validation)
    return np.sort(rest), np.sort(chosen), np.sort(test)


def _stratified(order: np.ndarray, labels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """``size`` positions from ``order`` with each class in proportion (largest remainders), and those left."""
    counts = np.bincount(labels[order])
    quota, remainder = np.divmod(counts * size, len(order))
    quota[np.argsort(-remainder, kind="stable")[: size - quota.sum()]] += 1
    rank = np.empty(len(order), dtype=np.int64)  # how many of the same class come before
    for label in range(len(counts)):
        own = labels[order] == label
        rank[own] = np.arange(own.sum())
    taken = rank < quota[labels[order]]
    return order[taken], order[~taken]


@functools.cache
def digits_file() -> Path:
    # The file is read where scikit-learn keeps it: importing scikit-learn for this would take a second.
    found = importlib.util.find_spec("sklearn")
    places = list(found.submodule_search_locations or []) if found else []
    return Path(places[0], "datasets", "data", "digits.csv.gz") if places else Path("digits.csv.gz")


def _digits() -> Source:
    path = digits_file()
    if not path.is_file():
        raise UserError(f"{path}: expected the handwritten digits that come with scikit-learn; install scikit-learn")
    lines = _bytes(path, "digits").decode("ascii", "replace").split()
    try:
        table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    except ValueError as problem:
        raise _error("digits", f"{path}: not a table of numbers ({problem})") from problem
    if table.shape != (1797, 65) or table[:, :64].max() > 16 or table[:, 64].max() > 9:
        raise _error("digits", f"{path}: expected 1797 rows of 64 pixels 0-16 and a digit, found shape {table.shape}")
    pixels, labels = np.ascontiguousarray(table[:, :64]), np.ascontiguousarray(table[:, 64])
    return Source(pixels.reshape(-1, 1, 8, 8), labels, official=0)


Parts = list[tuple[np.ndarray, np.ndarray]]  # pixels and labels of one file, or pair of files, after the other


def _mnist(folder: Path) -> tuple[Parts, list[str]]:
    folder = _place(folder, below["mnist"], "t*-images*idx3-ubyte*")
    parts: Parts = []
    unlike: list[str] = []
    for part in ("train", "t10k"):
        images_path, images = _idx(folder, part, "images", 3, unlike)
        labels_path, labels = _idx(folder, part, "labels", 1, unlike)
        if images.shape[1:] != (28, 28):
            raise _error("mnist", f"{images_path}: expected images of 28 x 28 pixels, found {images.shape[1:]}")
        if len(images) != len(labels):
            raise _error("mnist", f"{labels_path}: expected {len(images)} labels, one per image, found {len(labels)}")
        parts.append((images[:, None], _labels(labels, labels_path, "mnist")))
    return parts, unlike


def _idx(folder: Path, part: str, kind: str, dimensions: int, unlike: list[str]) -> tuple[Path, np.ndarray]:
    """One IDX file of unsigned bytes: magic 0x00 0x00 0x08 dimensions, the sizes (big endian), the values.

    Its name is added to ``unlike`` where it is not the published one.
    """
    names = [f"{part}-{kind}{dot}idx{dimensions}-ubyte" for dot in "-."]
    path = next((p for n in names for p in (folder / n, folder / f"{n}.gz") if p.is_file()), None)
    if path is None:
        raise _error("mnist", f"{folder}: {names[0]} (or {names[0]}.gz, or {names[1]}) is missing")
    content = _bytes(path, "mnist")
    start = 4 + 4 * dimensions
    magic = content[:4].hex() or "an empty file"
    if magic != f"0000080{dimensions}" or len(content) < start:
        raise _error("mnist", f"{path}: expected the IDX magic number 0000080{dimensions}, found {magic}")
    sizes = np.frombuffer(content[4:start], dtype=">u4").astype(np.int64)
    expected = start + int(np.prod(sizes))
    if len(content) != expected or not sizes.all():
        shape = " x ".join(map(str, sizes))
        raise _error("mnist", f"{path}: expected {expected} bytes ({shape} values), found {len(content)}")
    if files.md5_of(content) != sums["mnist"][names[0]]:
        unlike.append(path.name)
    return path, np.frombuffer(content, dtype=np.uint8, offset=start).reshape(sizes)


def _cifar10(folder: Path) -> tuple[Parts, list[str]]:
    folder = _place(folder, below["cifar10"], "data_batch_*")
    found = [path.name for path in folder.glob("data_batch_*")]
    ending = ".bin" if any(name.endswith(".bin") for name in found) else ""
    batches = [name for name in found if re.fullmatch(r"data_batch_[1-9]\d*", name.removesuffix(ending))]
    names = [f"data_batch_{number + 1}{ending}" for number in range(max(len(batches), 1))] + [f"test_batch{ending}"]
    for name in names:
        if not (folder / name).is_file():
            strange = ", ".join(repr(other) for other in sorted(found) if other not in batches)
            beside = f" ({strange} beside it has no name of a batch)" if strange else ""
            raise _error("cifar10", f"{folder}: {name} is missing{beside}")
    read = [(_binary if ending else _pickled)(folder / name) for name in names]
    parts = [part for part, _ in read]
    if len(parts[0][1]) == whole_batch and len(batches) < 5:  # a smaller first batch is a subset made on purpose
        raise _error(
            "cifar10",
            f"{folder}: data_batch_{len(batches) + 1}{ending} is missing; the first batch is the published one of "
            f"{whole_batch} images, so all five are expected",
        )
    return parts, [name for name, (_, known) in zip(names, read, strict=True) if not known]


def _binary(path: Path) -> tuple[tuple[np.ndarray, np.ndarray], bool]:
    """Pixels and labels of a binary batch; and is it the published one?"""
    content = _bytes(path, "cifar10")
    if not content or len(content) % record:
        raise _error("cifar10", f"{path}: expected records of {record} bytes, found {len(content)} bytes in all")
    table = np.frombuffer(content, dtype=np.uint8).reshape(-1, record)
    known = files.md5_of(content) == sums["cifar10"].get(path.name)
    return (table[:, 1:].reshape(-1, 3, 32, 32), _labels(table[:, 0], path, "cifar10")), known


def _array(buffer: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """How numpy writes an array from protocol 5 on."""
    return np.frombuffer(buffer, dtype=kind).reshape(shape, order=order)


class _Plain(pickle.Unpickler):
    """Reads containers, numbers, bytes and numpy arrays; a pickle that asks for anything else is refused, not run."""

    rebuild = np.empty(0).__reduce__()[0]  # numpy's own, whatever module this version keeps it in

    def find_class(self, module: str, name: str) -> Any:
        for core in ("numpy.core", "numpy._core"):  # before and since numpy 2
            if (module, name) == (f"{core}.multiarray", "_reconstruct"):
                return _Plain.rebuild
            if (module, name) == (f"{core}.numeric", "_frombuffer"):
                return _array
            if (module, name) == (f"{core}.multiarray", "scalar"):
                return lambda kind, content: np.frombuffer(content, dtype=kind)[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes in the old protocol
            return lambda text, encoding: codecs.latin_1_encode(text)[0]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 batch needs")


def _pickled(path: Path) -> tuple[tuple[np.ndarray, np.ndarray], bool]:
    """Pixels and labels of a batch of the Python version; and is it the published one, or holds what that does?"""
    content = _bytes(path, "cifar10")
    try:
        batch = _Plain(io.BytesIO(content), encoding="bytes").load()
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        pixels, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
    except Exception as problem:  # a damaged pickle can raise nearly anything; all of it means the same to the user
        raise _error("cifar10", f"{path}: not a batch of CIFAR-10 ({type(problem).__name__}: {problem})") from problem
    good = pixels.dtype == np.uint8 and pixels.ndim == 2 and pixels.shape[1] == record - 1
    if not good or not len(pixels) or labels.shape != (len(pixels),) or labels.dtype.kind not in "iu":
        raise _error(
            "cifar10",
            f"{path}: expected data uint8 [n, {record - 1}] and n whole labels, "
            f"found {pixels.dtype} {list(pixels.shape)} and {labels.dtype} {list(labels.shape)}",
        )
    labels, own = _labels(labels, path, "cifar10"), sums["cifar10"]
    records = np.concatenate([labels[:, None], pixels], axis=1).tobytes()  # as the binary version has them
    known = files.md5_of(content) == own.get(path.name) or files.md5_of(records) == own.get(f"{path.name}.bin")
    return (pixels.reshape(-1, 3, 32, 32), labels), known


def _labels(labels: np.ndarray, path: Path, dataset: str) -> np.ndarray:
    if labels.min() < 0 or labels.max() > 9:
        raise _error(dataset, f"{path}: expected labels 0-9, found {labels.min()} to {labels.max()}")
    return labels.astype(np.uint8)


def _place(folder: Path, usual: tuple, pattern: str) -> Path:
    """The first of the ``usual`` folders at or below ``folder`` that holds a file like ``pattern``; else ``folder``."""
    return next((folder / name for name in usual if any((folder / name).glob(pattern))), folder)


def _bytes(path: Path, dataset: str) -> bytes:
    """The content of ``path``, unpacked when it is packed."""
    try:
        return files.unpacked(files.read(path), path)
    except UserError as problem:
        raise _error(dataset, str(problem)) from problem


def _error(dataset: str, text: str) -> UserError:
    if dataset == "digits":
        return UserError(f"{text}; install scikit-learn again")
    how = f'`make prepare TASK=classic SET="task.dataset={dataset}"`'
    return UserError(f"{text}. Fetch it with {how}, or name another folder with DATA=<folder>")
