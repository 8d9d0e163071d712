"""Tiny MNIST and CIFAR-10 files in every published format, and the reading of a complaint."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from tasks.classic.config import Config
from tasks.classic.files import digits_mnist_cifar10


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_files(train: int = 40, test: int = 20) -> dict[str, bytes]:
    random, files = np.random.default_rng(0), {}
    for part, size in (("train", train), ("t10k", test)):
        files[f"{part}-images-idx3-ubyte"] = idx(random.integers(0, 256, (size, 28, 28), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.arange(size, dtype=np.uint8) % 10)
    return files


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def cifar_table(size: int, seed: int = 0) -> np.ndarray:
    table = np.random.default_rng(seed).integers(0, 256, (size, digits_mnist_cifar10.record), dtype=np.uint8)
    table[:, 0] %= 10
    return table


def cifar_files(kind: str) -> dict[str, bytes]:
    tables = {"data_batch_1": cifar_table(30, 1), "data_batch_2": cifar_table(20, 2), "test_batch": cifar_table(10, 3)}
    if kind == "binary":
        return {f"{name}.bin": table.tobytes() for name, table in tables.items()}
    batches = {n: {b"data": np.ascontiguousarray(t[:, 1:]), b"labels": t[:, 0].tolist()} for n, t in tables.items()}
    return {name: pickle.dumps(batch, protocol=2) for name, batch in batches.items()}


def settings_of(folder: Path, dataset: str = "mnist") -> Config:
    return Config(dataset=dataset, data=str(folder), validation=10)


def complaint(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    return str(caught.value)
