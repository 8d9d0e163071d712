"""Checks the data before anything is queued, and fetches it from its public home. No torch: login nodes run this."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

from common.errors import UserError
from tasks.arithmetic import fingerprint, source, weights
from tasks.arithmetic.config import Config
from tasks.arithmetic.config import folder as place
from tasks.arithmetic.homes import below, home, sums

patience = 20  # seconds without a byte before a server is given up


def check(config: Config) -> str:
    """The fingerprint (SHA-256) of problems, splits and the pretrained embedding's weights.

    Reads everything, so ask once for each distinct task configuration. Raises UserError for missing or damaged files,
    for rows that cannot be used (file and line of each, unless ``task.unreadable=skip``), and for a validation set that
    does not fit.
    """
    return fingerprint.whole(config, source.read(config))


def stamp(config: Config) -> tuple:
    """What changes when a file that ``check`` reads is replaced; costs no reading."""
    return fingerprint.stamp(config)


def prepare(config: Config, folder: Path | None = None, report=print) -> None:
    """Fetches what is missing into ``folder`` (default: where the task looks), checks it, and reports the counts.

    A folder that reads as it is is checked alone, and no file that is there is ever replaced. May be interrupted and
    repeated. Weights that ``task.hub`` names go into the hub's own cache. Raises UserError when there is no network, a
    checksum is wrong, the folder cannot be written, or files in it keep it from being read.
    """
    if config.hub and not config.pretrained:
        report(f"{config.hub}: {weights.fetch(config)}")
    if config.dataset == "generated":
        report("generated: nothing to prepare, the problems are computed")
    else:
        if folder:
            config = replace(config, data=str(folder))
        try:
            _complete(config, _root(config), report)
        except OSError as problem:
            raise UserError(
                f"{problem.filename or place(config)}: cannot be written ({problem.strerror or problem}); mend this "
                "and repeat, or name another folder with DATA=<folder>"
            ) from problem
    for fold, found in source.read(config).items():
        held = "none held out" if found.validation is found.test else f"{len(found.validation)} validation"
        counts = f"{len(found.train)} training, {held}, {len(found.test)} test problems"
        report(f"{config.dataset}, fold {fold}: {counts}")
        for warning in found.warnings:
            report(f"warning: {warning}")


def _root(config: Config) -> Path:
    """The folder that has some of the data set's files, or else the one where the task looks first."""
    there = [root for root in source.roots(config) if any((root / name).is_file() for name in sums[config.dataset])]
    return there[0] if there else place(config)


def _complete(config: Config, folder: Path, report) -> None:
    """Fetches the published files that are not in ``folder``, unless what is there can be read without them."""
    published = sums[config.dataset]
    there = {name: _sum(folder / name) for name in published}
    missing = [name for name, found in there.items() if not found]
    others = [name for name, found in there.items() if found not in ("", published[name])]
    if not missing and not others:
        report(f"{config.dataset}: complete in {folder}, nothing to fetch")
        return
    fault = _fault(config)
    if others and (fault or not config.data):
        raise UserError(
            f"{folder / others[0]}: not the published file (expected MD5 {published[others[0]]}, found "
            f"{there[others[0]]}; {len(others)} such files){f', and {fault}' if fault else ''}. Nothing was fetched or "
            "replaced. Move it away to have it fetched, or name the folder of your own files with DATA=<folder>"
        )
    for name in others:
        report(f"warning: {folder / name} is not the published file; it is used as it is")
    if not fault:
        absent = f" ({len(missing)} published files are not in it; task.fold=-1 asks for every fold)" if missing else ""
        report(f"{config.dataset}: {folder} reads as it is, nothing was fetched{absent}")
        return
    for name in reversed(missing):  # what the first fold needs comes last: a fetch that was cut short does not read
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _fetch(f"{home}{below[config.dataset]}/{name}", published[name], folder / name, report)


def _fault(config: Config) -> str:
    """Why the folder cannot be read as it is; empty where it can."""
    try:
        source.read(config)
    except UserError as problem:
        return str(problem)
    return ""


def _fetch(address: str, md5: str, path: Path, report) -> None:
    content = _download(address, path.parent)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise UserError(f"{address}: expected MD5 {md5}, found {found}; nothing was kept of it{_by_hand}")
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    aside.write_bytes(content)
    os.replace(aside, path)
    report(f"  {path.parent.name}/{path.name}: {len(content) / 1e3:.0f} kB from {address}")


def _download(address: str, folder: Path) -> bytes:
    """The whole file; the published ones have 1.3 MB at most."""
    try:
        with urllib.request.urlopen(address, timeout=patience) as answer:
            return answer.read()
    except urllib.error.HTTPError as problem:
        reason = f"the server answers {problem.code} {problem.reason}"
    except (OSError, http.client.HTTPException) as problem:
        reason = str(getattr(problem, "reason", "") or problem)
    raise UserError(f"{address} could not be fetched ({reason}). What was fetched stays in {folder}{_by_hand}")


_by_hand = ". Repeat when there is a network, or get the files another way and name their folder with DATA=<folder>"


def _sum(path: Path) -> str:
    """The MD5 sum of a file; empty where there is none."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else ""
