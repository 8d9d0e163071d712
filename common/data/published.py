"""Published files fetched into a folder, checked by their MD5 sums. No torch: login nodes run this.

What has arrived is kept in ``.part`` files, and an interrupted fetch continues there. Standard library only.
"""

import contextlib
import fcntl
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from common.data.files import md5
from common.errors import UserError

patience = 20  # seconds without a byte before a server is given up
chunk = 1 << 18  # bytes read at a time
Report = Callable[[str], object]  # takes what a user is to read, line by line


class _Interrupted(Exception):
    """The server or the network failed; what has arrived so far is kept."""


@contextlib.contextmanager
def written(folder: Path, expected: str = "") -> Iterator[None]:
    """``UserError`` where what is done in here cannot write to ``folder``; ``expected`` is a part of its sentence."""
    try:
        yield
    except OSError as problem:
        raise UserError(
            f"{problem.filename or folder}: cannot be written ({problem.strerror or problem}){expected}. What was "
            "fetched so far is kept; mend this and repeat, or name another folder with DATA=<folder>"
        ) from problem


def unlike(dataset: str, names: Iterable[str], counts: str) -> list[str]:
    """What plan, summary and report say where files of ``names`` are not, byte by byte, those ``dataset`` is known by.

    No sentence where there are none. Such files are used as they are: ``counts`` says how much is in them.
    """
    listed = ", ".join(names)
    return [f"not the published files of {dataset}, by their checksums: {listed}; {counts}"] if listed else []


def complete(
    dataset: str, home: str, sums: dict[str, str], folder: Path, own: bool, read: Callable[[], object], report: Report
) -> None:
    """Fetches the published files that are not in ``folder``, unless what is there can be read without them.

    ``sums`` are the MD5 sums of all of them by their names below ``home`` (an address) and below ``folder``, those
    that are needed most first; ``own``: is the folder one that the user named? ``read`` reads the data set, with a
    ``UserError`` where it cannot. No file is ever replaced: one that keeps the folder from being read is a
    ``UserError``, and so is any other that is not the published one in a folder that is not the user's own.
    """
    with written(folder):
        there = {name: md5(folder / name) for name in sums}
    missing = [name for name, found in there.items() if not found]
    others = [name for name, found in there.items() if found not in ("", sums[name])]
    if not missing and not others:
        report(f"{dataset}: complete in {folder}, nothing to fetch")
        return
    fault = ""  # why the folder cannot be read as it is
    try:
        read()
    except UserError as problem:
        fault = str(problem)
    if others and (fault or not own):
        raise UserError(
            f"{folder / others[0]}: not the published file (expected MD5 {sums[others[0]]}, found "
            f"{there[others[0]]}; {len(others)} such files){f', and {fault}' if fault else ''}. Nothing was fetched or "
            "replaced. Move it away to have it fetched, or name the folder of your own files with DATA=<folder>"
        )
    for name in others:
        report(f"warning: {folder / name} is not the published file; it is used as it is")
    if not fault:
        absent = f" ({len(missing)} published files are not in it; task.fold=-1 asks for every fold)" if missing else ""
        report(f"{dataset}: {folder} reads as it is, nothing was fetched{absent}")
        return
    with written(folder):
        for name in reversed(missing):  # what is needed most comes last: a fetch that was cut short does not read
            fetch(name, [home], sums[name], folder, report)


def fetch(name: str, homes: list[str], expected: str, folder: Path, report: Report) -> None:
    """Brings the file with the MD5 sum ``expected`` into ``folder``, continuing what an earlier call began.

    ``name`` is that below ``folder`` and below each of ``homes`` (addresses); the first that has the file gives it.
    ``UserError`` that says of each home what was wrong; OSError where the folder cannot be written.
    """
    path, problems = folder / name, []
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "ab") as file:
        _alone(file, part)
        for address in (home + name for home in homes):
            try:
                _persist(address, name, file, report)
                found = md5(part)
                if found == expected:
                    os.replace(part, path)
                    return
                problems.append(f"{address}: expected MD5 {expected}, found {found} (thrown away)")
                _empty(file)
            except _Interrupted as problem:
                problems.append(f"{address}: {problem}")
        if not part.stat().st_size:
            part.unlink()
            if path.parent != folder and not any(path.parent.iterdir()):  # it would look like a part of the data
                path.parent.rmdir()
    raise UserError(
        f"{name} could not be fetched; tried " + "; ".join(problems) + f". Nothing is lost: what has arrived stays in "
        f"{folder} and `make prepare` continues there. Without a network, get the files another way and name their "
        "folder with DATA=<folder>"
    )


def _alone(file, part: Path) -> None:
    """Locks ``file``; UserError where another process has it, or has put it in place since it was opened."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = os.path.samestat(os.fstat(file.fileno()), part.stat())
    except (BlockingIOError, FileNotFoundError):
        alone = False
    if not alone:
        raise UserError(f"{part}: another `make prepare` is fetching this file; wait for it to end")


def _persist(address: str, name: str, file, report: Report) -> None:
    """Downloads ``address``, again after each interruption as long as every attempt brought something new."""
    while True:
        before = file.tell()
        try:
            return _download(address, name, file, report)
        except _Interrupted:
            if file.tell() <= before:
                raise


def _download(address: str, name: str, file, report: Report) -> None:
    """Appends to ``file`` what it still lacks of ``address``; raises _Interrupted when less than all arrives."""
    start = file.tell()
    request = urllib.request.Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    answer = _network(lambda: urllib.request.urlopen(request, timeout=patience))
    if answer is None:
        return
    with answer:
        if start and answer.status != 206:  # this server sends the whole file again
            _empty(file)
        reported = file.tell()
        size = reported + int(answer.headers.get("Content-Length") or 0)
        shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
        report(f"  {name}: {shown} from {address}" + (f", continued at {reported / 1e6:.1f} MB" if reported else ""))
        while block := _network(lambda: answer.read(chunk)):
            file.write(block)
            file.flush()  # so that an interruption loses nothing
            if file.tell() - reported >= max(size / 10, 1e6):
                reported = file.tell()
                report(f"  {name}: {reported / 1e6:.1f} of {size / 1e6:.1f} MB")
    if file.tell() < size:
        raise _Interrupted(f"broke off after {file.tell()} of {size} bytes")


def _network(call: Callable):
    """The result of ``call``; its failures as _Interrupted, told apart from those of the disk (OSError as well)."""
    try:
        return call()
    except urllib.error.HTTPError as problem:
        if problem.code == 416:  # nothing left to send: the file is whole, and its checksum will tell whether rightly
            return None
        raise _Interrupted(f"the server answers {problem.code} {problem.reason}") from problem
    except (OSError, http.client.HTTPException) as problem:
        raise _Interrupted(str(getattr(problem, "reason", "") or problem)) from problem


def _empty(file) -> None:
    file.seek(0)
    file.truncate()
