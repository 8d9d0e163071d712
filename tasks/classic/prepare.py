"""Checks the data before anything is queued, and fetches it from its public homes. No torch: login nodes run this."""

import os
import tarfile
from pathlib import Path

from common.data import files, published
from common.data.published import Report
from common.errors import UserError
from tasks.classic.config import Config
from tasks.classic.config import folder as place
from tasks.classic.files import digits_mnist_cifar10, fingerprint
from tasks.classic.files.addresses import homes, packages

check, stamp = fingerprint.checked, fingerprint.stamp


def prepare(config: Config, folder: Path | None = None, report: Report = print) -> None:
    """Fetches what is missing into ``folder`` (default: where the task looks), checks it, and reports the counts.

    May be interrupted and repeated. A file that can be read is never replaced: the published ones are not fetched over
    the user's own. UserError: no network, a wrong checksum, a folder that cannot be written.
    """
    dataset = config.dataset
    if dataset == "digits":
        report("digits: nothing to prepare, they come with scikit-learn")
        return
    folder = Path(folder) if folder else place(config)
    with published.written(folder, "; expected a folder with room for 200 MB"):
        missing = _missing(dataset, folder, bool(config.data), report)
        for name, (expected, contents) in missing.items():
            published.fetch(name, homes[dataset], expected, folder, report)
            if name.endswith(".tar.gz"):
                _unpack(folder / name, contents)
                (folder / name).unlink()
    found = digits_mnist_cifar10.read(dataset, folder)
    report(f"{dataset}: {found.counts}")
    for warning in found.warnings(dataset):
        report(f"warning: {warning}")


def _unpack(archive: Path, wanted: dict) -> None:
    """Takes only the ``wanted`` plain files out of ``archive``, whatever else and whatever paths it contains."""
    with tarfile.open(archive) as tar:
        for member in tar:
            name = os.path.basename(member.name)
            if member.isfile() and name in wanted and (file := tar.extractfile(member)):
                aside = archive.parent / f"{name}.part"
                aside.write_bytes(file.read())
                os.replace(aside, archive.parent / name)


def _missing(dataset: str, folder: Path, own: bool, report: Report) -> dict:
    """The packages to fetch: none where the folder is complete, or the user's ``own`` and reads as it is.

    UserError where a file that is not the published one, and not merely damaged, would have to be replaced.
    """
    missing: dict = {}
    others: list[Path] = []
    for package, (expected, contents) in packages[dataset].items():
        for name, published_sum in contents.items():
            there = {path: found for path in (folder / name, folder / f"{name}.gz") if (found := _sum(path))}
            if published_sum not in there.values():
                missing[package] = (expected, contents)
                others += there
    fault = ""
    if missing:
        try:
            digits_mnist_cifar10.read(dataset, folder)
        except UserError as problem:
            fault = str(problem)
    if others and (fault or not own):
        raise UserError(
            f"{others[0]}: not the published file ({len(others)} such files){f', and {fault}' if fault else ''}. "
            "Nothing was fetched or replaced. Move it away to have it fetched, or name a folder of yours with DATA="
        )
    if not fault:
        report(f"{dataset}: {'reads as it is' if missing else 'complete'} in {folder}, nothing to fetch")
    return missing if fault else {}


def _sum(path: Path) -> str:
    """The MD5 sum of what is in the file; empty where there is none, or it is packed and damaged."""
    try:
        return files.md5_of(files.unpacked(path.read_bytes(), path)) if path.is_file() else ""
    except UserError:
        return ""
