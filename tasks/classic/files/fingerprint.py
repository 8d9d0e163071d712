"""What a stage's data are: a checksum of their content, and a stamp of their files that is cheap to compare."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

from common.data.checked import Checked
from common.data.files import mark
from common.data.splits import kept
from common.errors import UserError
from tasks.classic.config import Config, folder
from tasks.classic.files import digits_mnist_cifar10


def checksum(dataset: str, found: digits_mnist_cifar10.Source) -> Any:
    """A SHA-256 object over all examples; it is of pixels and labels, so packed and plain files of the same agree."""
    digest = hashlib.sha256(f"{dataset} {found.pixels.shape} {found.official}\n".encode())
    digest.update(found.pixels.data)
    digest.update(found.labels.data)
    return digest


def stamp(config: Config) -> tuple:
    """What tells, without reading them, whether the data's files and the pretrained weights are still the same."""
    weights = [_weights_file(config)] if config.pretrained else []
    return tuple(mark(path) for path in [*digits_mnist_cifar10.candidates(config.dataset, folder(config)), *weights])


@kept(stamp, most=1)
def checked(config: Config) -> Checked:
    """The fingerprint (SHA-256) of the examples and, if there are any, of the pretrained weights; reads everything.

    It is of pixels and labels, so packed, plain, binary and pickled files of the same data agree. ``report`` gets the
    names of files that are not the published ones. UserError: missing or damaged files, a validation set that does not
    fit.
    """
    found = digits_mnist_cifar10.read(config.dataset, folder(config))
    train, _, _ = digits_mnist_cifar10.partition(found.labels, found.official, config.validation)
    total = combined(checksum(config.dataset, found), pretrained(config))
    return Checked(total, tuple(found.warnings(config.dataset)), (len(train),))


def combined(examples: Any, weights: bytes | None) -> str:
    """In hexadecimal. ``examples``: as ``checksum`` gives them; ``weights``: the pretrained file's content."""
    digest = examples.copy()
    if weights is not None:
        digest.update(hashlib.sha256(weights).digest())
    return digest.hexdigest()


def pretrained(config: Config) -> bytes | None:
    """The content of ``task.pretrained``, None where there is none; UserError unless it is a whole torch archive."""
    if not config.pretrained:
        return None
    path, expected = _weights_file(config), "expected a file of weights, such as a weights.pt below runs/"
    try:
        content = path.read_bytes()
    except OSError as problem:
        reason = f"which cannot be read ({problem.strerror})"
        raise UserError(f"task.pretrained is '{config.pretrained}', {reason}; {expected}") from problem
    if not content:
        raise UserError(f"task.pretrained: {path} is empty; {expected}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            broken = archive.testzip()
    except Exception as problem:  # zipfile raises half a dozen kinds on damaged input
        raise UserError(f"task.pretrained: {path} is no archive of torch.save ({problem}); {expected}") from problem
    if broken is not None:
        raise UserError(f"task.pretrained: {path} is damaged (checksum of {broken} does not match); {expected}")
    return content


def _weights_file(config: Config) -> Path:
    return Path(config.pretrained).expanduser()
