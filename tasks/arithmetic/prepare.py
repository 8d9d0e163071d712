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

check, stamp = fingerprint.checked, fingerprint.stamp


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
