"""Checks the data before anything is queued, and fetches it from its public home. No torch: login nodes run this."""

from dataclasses import replace
from pathlib import Path

from common.data import published
from common.data.published import Report
from common.errors import UserError
from tasks.arithmetic.config import Config
from tasks.arithmetic.config import folder as place
from tasks.arithmetic.files import datasets, fingerprint, weights
from tasks.arithmetic.files.addresses import below, home, sums

stamp = fingerprint.stamp  # what changes when a file that ``check`` reads is replaced


def check(config: Config, report: Report = lambda text: None) -> str:
    """The fingerprint (SHA-256) of problems, splits and the pretrained embedding's weights; reads everything.

    ``report`` gets which files are not the published ones, what was left out, what the files state wrongly and what is
    in two parts. UserError for missing or damaged files, for rows that cannot be used (unless
    ``task.unreadable=skip``), and for a validation set too large.
    """
    total, warnings, _ = fingerprint.checked(config)
    for warning in warnings:
        report(warning)
    return total


def examples(config: Config) -> list[int]:
    """The number of training problems of each fold that ``task.fold`` asks for, all of them for -1."""
    return fingerprint.checked(config)[2]


def prepare(config: Config, folder: Path | None = None, report: Report = print) -> None:
    """Fetches what is missing into ``folder`` (default: where the task looks), checks it, and reports the counts.

    See ``published.complete``; may be interrupted and repeated. Weights that ``task.hub`` names go into the hub's own
    cache. UserError: no network, a wrong checksum, a folder that cannot be written, files that keep it from being read.
    """
    missing = []
    for part in (_weights, _data):  # what the one lacks is to be known beside what the other does
        try:
            part(config, folder, report)
        except UserError as problem:
            missing.append(str(problem))
    if missing:
        raise UserError("\n".join(missing))


def _weights(config: Config, folder: Path | None, report: Report) -> None:
    if config.embedding == "pretrained":
        report(f"{config.hub or config.pretrained}: {weights.fetch(config)}")


def _data(config: Config, folder: Path | None, report: Report) -> None:
    if config.dataset == "generated":
        report("generated: nothing to prepare, the problems are computed")
    else:
        if folder:
            config = replace(config, data=str(folder))
        name, root, own = config.dataset, _root(config), bool(config.data)
        address = f"{home}{below[name]}/"
        published.complete(name, address, sums[name], root, own, lambda: datasets.read(config), report)
    for fold, found in datasets.read(config).items():
        report(f"{config.dataset}, fold {fold}: {found.counts}")
        for warning in found.warnings:
            report(f"warning: {warning}")


def _root(config: Config) -> Path:
    """The folder that has some of the data set's files, or else the one where the task looks first."""
    there = [root for root in datasets.roots(config) if any((root / name).is_file() for name in sums[config.dataset])]
    return there[0] if there else place(config)
