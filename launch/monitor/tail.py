"""How one stage is getting on: its state, its last numbers and the last lines its job printed; follows it if asked."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from common import paths
from launch.runs import logs, records
from launch.runs.records import Record, awaited
from launch.runs.state import MOVING
from launch.slurm import live_records, queue

PAUSE = 1.0  # seconds between looks at the files
METRICS = "metrics.jsonl"


def tail(record: Record, lines: int = 20, follow: bool = False, again: Callable[[], Record] | None = None) -> int:
    """Print the last ``lines`` metric lines and log lines; with ``follow`` also every new one until the stage ends.

    ``again``: reads the stage once more. Exit code 1 where it was followed to an end that is not ``done``, else 0.
    """
    print(header(record), flush=True)
    sources: dict[Path, int] = {}
    for path in (paths.metrics(record.folder), *logs.files(record)):
        sources[path] = _size(path)  # before the look: a line that arrives meanwhile is shown twice, not lost
        if shown := [_shown(path, line) for line in logs.last(path, lines, record.folder)]:
            title = "metrics" if path.name == METRICS else "log"
            print(f"\n{title}: {path}\n" + "\n".join(f"  {line}" for line in shown), flush=True)
    if not follow:
        return 0
    asks = queue.remembering()
    try:
        return _follow(record, sources, again or (lambda: live_records.again(record, asks)))
    except KeyboardInterrupt:
        print("\nno longer following; what runs goes on")
        return 0


def _follow(record: Record, sources: dict[Path, int], again: Callable[[], Record]) -> int:
    state = record.state
    waited = record.key in awaited()
    while state in MOVING or (waited and state != "done"):
        time.sleep(PAUSE)
        waited = record.key in awaited()
        record = again()  # before the files: what it wrote until its end is then shown
        for path in [paths.metrics(record.folder), *logs.files(record)]:
            text, sources[path] = _new(path, sources.get(path, 0))
            for line in text:
                print(_shown(path, line), flush=True)
        if record.state != state:
            print(header(record), flush=True)
        state = record.state
    return 0 if state == "done" else 1


def header(record: Record) -> str:
    """State, step, job and node in a line or two."""
    status, parts = record.status, [records.label(record)]
    if status.get("steps") and not record.done:
        parts.append(f"step {status.get('step')}/{status['steps']}")
    if record.element is not None and record.element.id:
        parts.append(f"job {record.element.id}")
    node = (record.job.node if record.job else "") or str(status.get("host") or "")
    parts += [f"on {node}"] if node else []
    return ", ".join(parts) + (f"\n  {record.reason}" if record.reason else "")


def _shown(path: Path, line: str) -> str:
    return numbers(line) if path.name == METRICS else line


def numbers(line: str) -> str:
    """One line of ``metrics.jsonl`` for readers: the time of day, the step, the rest to four digits."""
    try:
        values = json.loads(line)
        moment = time.strftime("%H:%M:%S", time.localtime(values.pop("time")))
        step = values.pop("step")
        rest = [
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return line
    return "  ".join([f"{moment}  step {step:>6}", *rest])


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _new(path: Path, offset: int) -> tuple[list[str], int]:
    """The whole lines behind ``offset``, and where they end; a file that was cut (on resuming) is read from its end."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < offset:
                return [], size
            file.seek(offset)
            content = file.read()
    except OSError:
        return [], offset
    whole = content[: content.rfind(b"\n") + 1]
    return [line for line in whole.decode(errors="replace").splitlines() if line.strip()], offset + len(whole)
