"""The three data sets as tensors: normalised, in their fixed splits, kept in the process; and augmentation."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from tasks.classic.config import Config, folder
from tasks.classic.files.digits_mnist_cifar10 import partition, read
from tasks.classic.files.fingerprint import checksum, stamp_of_examples

# Published constants per channel, in units where the brightest pixel is 1 (never estimated from what is at hand):
# digits are only scaled, MNIST and CIFAR-10 are brought to mean 0 and standard deviation 1.
scale = {"digits": 16.0, "mnist": 255.0, "cifar10": 255.0}
mean = {"digits": (0.0,), "mnist": (0.1307,), "cifar10": (0.4914, 0.4822, 0.4465)}
deviation = {"digits": (1.0,), "mnist": (0.3081,), "cifar10": (0.2470, 0.2435, 0.2616)}


@dataclass(frozen=True)
class Split:
    """Images float32 [n, channels, height, width], normalised; labels int64 [n]; positions in the source int64 [n]."""

    images: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    train: Split
    validation: Split
    test: Split
    checksum: object  # SHA-256 over the examples these tensors were made of, to compare with the planned fingerprint


def load(config: Config) -> Data:
    """The three splits of ``config.dataset``, kept in the process so that forked workers share one copy."""
    place = folder(config).resolve()
    return _load(config.dataset, str(place), config.validation, stamp_of_examples(config.dataset, place))


@functools.lru_cache(maxsize=2)
def _load(dataset: str, place: str, validation: int, stamp: tuple) -> Data:
    """``stamp`` belongs to the key alone: files that were replaced are read again."""
    source = read(dataset, Path(place))
    splits = []
    for index in partition(source.labels, source.official, validation):
        images = source.pixels[index].astype(np.float32)
        for channel in range(images.shape[1]):  # in place: a second float copy of CIFAR-10 would be 0.7 GB
            images[:, channel] /= np.float32(scale[dataset])
            images[:, channel] -= np.float32(mean[dataset][channel])
            images[:, channel] /= np.float32(deviation[dataset][channel])
        labels = source.labels[index].astype(np.int64)
        splits.append(Split(torch.from_numpy(images), torch.from_numpy(labels), torch.from_numpy(index)))
    return Data(*splits, checksum(dataset, source))


def overlap(first: Split, second: Split) -> int:
    """How many images of ``second`` are, pixel for pixel, also in ``first``."""
    seen = {image.tobytes() for image in first.images.numpy()}
    return sum(image.tobytes() in seen for image in second.images.numpy())


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Each image shifted by up to 4 pixels and mirrored half of the time (He et al., 2016, section 4.2).

    Images float [n, channels, height, width], normalised, so that the padding of zeros is the mean colour.
    ``generator`` is a CPU generator whatever the images' device: the draws are the same everywhere.
    """
    count, channels, height, width = images.shape
    shift = torch.randint(0, 9, (2, count, 1), generator=generator)
    mirror = torch.rand(count, 1, generator=generator) < 0.5
    rows = shift[0] + torch.arange(height)
    columns = torch.arange(width).expand(count, width)
    columns = shift[1] + torch.where(mirror, width - 1 - columns, columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    each = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    padded = functional.pad(images, (4, 4, 4, 4))
    return padded[each, channel, rows[:, None, :, None], columns[:, None, None, :]]
