"""Checks the data before anything is queued, and fetches it from its public homes. No torch: login nodes run this."""

from dataclasses import replace
from pathlib import Path

from common.data import published
from common.data.published import Report
from common.errors import UserError
from tasks.protein.config import Config
from tasks.protein.config import folder as place
from tasks.protein.files import datasets, fingerprint, weights
from tasks.protein.files.addresses import elsewhere, homes, sums

check, stamp = fingerprint.checked, fingerprint.stamp


def prepare(config: Config, folder: Path | None = None, report: Report = print) -> None:
    """Fetches what is missing into ``folder`` (default: where the task looks), checks it, and reports the counts.

    See ``published.complete``; may be interrupted and repeated. Weights that ``task.hub`` names go into the hub's own
    cache. UserError: no network, a wrong checksum, a folder that cannot be written, files that keep it from being
    read, or, when all else is done, pretrained weights that are not on this machine.
    """
    if config.hub:
        report(f"{config.hub}: {weights.fetch(config)}")
    if config.dataset == "generated":
        report("generated: nothing to prepare, the sequences are computed")
        weights.files(config)
        return
    if folder:
        config = replace(config, data=str(folder))
    folder = place(config)
    if config.dataset in homes and not config.file:
        name, own = config.dataset, bool(config.data)
        published.complete(name, homes[name], sums[name], folder, own, lambda: datasets.read(config), report)
    elif not folder.is_dir() or not any(folder.iterdir()):
        raise UserError(
            f"{config.dataset} cannot be fetched by this command; {elsewhere[config.dataset]}. Put it into {folder}, "
            "or name its folder with DATA=<folder>"
        )
    for fold, found in datasets.read(config).items():
        report(f"{config.dataset}, fold {fold}: {found.counts}")
        for warning in found.warnings:
            report(f"warning: {warning}")
    weights.files(config)  # nothing fetches those of a package or a folder: UserError says where they come from
