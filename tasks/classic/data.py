"""The three data sets as tensors: normalised, in their fixed splits, kept in the process; and augmentation."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from common.data.splits import Splits, kept
from tasks.classic.config import Config, folder
from tasks.classic.files import fingerprint
from tasks.classic.files.digits_mnist_cifar10 import partition, read

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
class Data(Splits[Split]):
    weights: bytes | None  # the content of the file ``task.pretrained``


@kept(fingerprint.stamp, most=2)
def load(config: Config) -> Data:
    """The three splits of ``config.dataset``, and the pretrained weights if any."""
    place = str(folder(config).resolve())
    found = _load(Config(dataset=config.dataset, data=place, validation=config.validation))
    (train, validation, test), digest, warnings = found
    weights = fingerprint.pretrained(config)
    return Data(train, validation, test, fingerprint.combined(digest, weights), warnings, weights)


@kept(fingerprint.stamp, most=2)
def _load(config: Config) -> tuple:
    """The three splits, a SHA-256 object over the examples that they were made of, and what is to be said of these."""
    dataset = config.dataset
    source, splits = read(dataset, folder(config)), []
    for index in partition(source.labels, source.official, config.validation):
        images = source.pixels[index].astype(np.float32)
        for channel in range(images.shape[1]):  # in place: a second float copy of CIFAR-10 would be 0.7 GB
            images[:, channel] /= np.float32(scale[dataset])
            images[:, channel] -= np.float32(mean[dataset][channel])
            images[:, channel] /= np.float32(deviation[dataset][channel])
        labels = source.labels[index].astype(np.int64)
        splits.append(Split(torch.from_numpy(images), torch.from_numpy(labels), torch.from_numpy(index)))
    return splits, fingerprint.checksum(dataset, source), source.warnings(dataset)


def overlap(first: Split, second: Split) -> int:
    """How many images of ``second`` are, pixel for pixel, also in ``first``."""
    seen = {image.tobytes() for image in first.images.numpy()}
    return sum(image.tobytes() in seen for image in second.images.numpy())


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Each image shifted by up to 4 pixels and mirrored half of the time (He et al., 2016).

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
