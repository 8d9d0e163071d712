"""What a runs tree holds, as a document for programs and as one screen of text. Reads only."""

import math
import shutil
import sys
import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, TextIO

from launch.report.average import finite
from launch.report.rows import level
from launch.request import folds, variants
from launch.runs.jobs import UNKNOWN
from launch.runs.records import Record, awaited
from launch.runs.state import ENDED_BADLY, MOVING, STATES
from launch.wording import amount, listed, percent, span

LINES, STAGES = 24, 8  # rows of a section that fit on one screen; beyond that a section is summarised
ROOM = 40  # lines of one screen, shared by the sections
WIDTH, SHORT = 110, 24  # columns of a screen; of settings that a row has room for beside those of its method
BUNDLES = 8  # such settings that are listed below the table
SILENT = "no reason recorded; see error.txt in its folder"
NAMED = ("queued", "new", "unknown")  # lists of names for who asks for them


def status(records: list[Record]) -> dict:
    """A JSON-ready document: ``counts`` per state, ``lines`` per method and sparsity, and the stages to look at.

    ``pending``: how many wait in Slurm's queue for which reason; ``scheduler``: why it gave no answer, if it gave none.
    """
    groups = defaultdict(list)
    known = [record for record in records if record.config]
    for record, variant in zip(known, variants.of_stages(known), strict=True):
        groups[_key(record, variant)].append(record)
    lines = [_line(key, groups[key]) for key in sorted(groups, key=_order)]
    return {
        "stages": len(records),
        "counts": _counts(records),
        "lines": lines,
        "pending": dict(Counter(r.reason for r in records if r.job and r.state == "queued").most_common()),
        "scheduler": next(
            (r.job.reason for r in records if r.job and r.element and r.element.id and r.job.state == UNKNOWN), ""
        ),
        "running": [_stage(r) for r in records if r.state == "running"],
        "failures": [{**_stage(r), "reason": r.reason or SILENT} for r in records if r.state == "failed"],
        **{state: [_stage(r) for r in records if r.state == state] for state in NAMED},
        "interrupted": [_stage(r) for r in records if r.state == "interrupted"],
        "cancelled": [_stage(r) for r in records if r.state == "cancelled"],
        "blocked": dict(Counter(r.reason for r in records if r.state == "blocked").most_common()),
        "problems": [{"folder": str(r.folder), "problem": r.problem} for r in records if r.problem],
    }


def text(document: dict, names: int | None = None) -> str:
    """The document on one screen of about 110 columns; with ``names`` up to so many names in each of its lists."""
    if not document["stages"]:
        return "no stages yet: `make plan` shows what a sweep would run, `make sweep` runs it"
    out, common = [_first(document)], _common(document)
    bundles = _bundles(document["lines"], common)
    document = {name: _shortened(value, common, bundles) for name, value in document.items()}
    if document["pending"]:
        few = [f"{number} {_short(reason, 40)}" for reason, number in list(document["pending"].items())[:5]]
        out.append(f"queued: {', '.join(few)}")
    if document["scheduler"]:
        out.append(f"Slurm gave no answer ({_short(document['scheduler'], 60)}): states are as the files say")
    lines = document["lines"]
    detailed = len(lines) <= LINES
    lines = lines if detailed else _by_method(lines)
    out += ["", *_table(lines[:LINES], detailed)]
    if len(lines) > LINES:
        out.append(f"and {len(lines) - LINES} more lines (FORMAT=json has all)")
    out += [f"all of {task}: {_short(', '.join(found), 100)}" for task, found in common.items() if found]
    for parts, mark in list(bundles.items())[:BUNDLES]:
        out += textwrap.wrap(f"{mark}: {', '.join(parts)}", WIDTH, subsequent_indent="    ")
    if len(bundles) > BUNDLES:
        out.append(f"and {len(bundles) - BUNDLES} more such settings (FORMAT=json has all)")
    blocked = [{"reason": reason, "number": number} for reason, number in document["blocked"].items()]
    sections = [
        ("running", document["running"], _progress),
        ("failed", document["failures"], lambda f: f"{_name(f)}  {_short(f['reason'], 60)}"),
        ("blocked", blocked, lambda b: f"{b['number']} because {_short(b['reason'] or 'of a stage before them', 90)}"),
        ("interrupted (the next `make sweep` resumes them)", document["interrupted"], _name),
        ("cancelled (the next `make sweep` takes them up again)", document["cancelled"], _name),
        (
            "unreadable",
            document["problems"],
            lambda p: f"{'/'.join(p['folder'].rsplit('/', 2)[-2:])}  {_short(p['problem'], 70)}",
        ),
    ]
    if names:
        sections[1:1] = [(state, document[state], _name) for state in NAMED]
    sections = [section for section in sections if section[1]]
    room = names or max(2, min(STAGES, (ROOM - len(out)) // max(1, len(sections)) - 3))
    for title, items, line in sections:
        out += ["", f"{title}:", *listed([line(item) for item in items], room, " (LAST=1000 names them)")]
    if document["failures"]:
        first = document["failures"][0]["digest"][:6]
        out += ["", f"next: make why RUN={first} says more, make retry tries them again"]
    return "\n".join(out)


def watch(read: Callable[[], list[Record]], every: float = 5.0, out: TextIO | None = None) -> int:
    """Show the text again and again until nothing runs or waits any more (1 where something failed), or Ctrl-C (0).

    A stage waits, too, for its turn in a sweep on this machine.
    On a terminal it is redrawn; elsewhere it is written once, then a line whenever a count changes, and at the end.
    """
    out = out or sys.stdout
    before = None
    try:
        while True:
            waited = awaited()  # before the look: a sweep that ends in between is looked at once more
            found = read()
            document = status(found)
            moving = any(r.state in MOVING or (r.key in waited and not r.done) for r in found)
            if out.isatty():
                height = shutil.get_terminal_size().lines - 2
                shown = [f"{time.strftime('%H:%M:%S')}, every {every:g} s (Ctrl-C ends)", *text(document).splitlines()]
                print("\x1b[H\x1b[2J" + "\n".join(shown[:height]), file=out, flush=True)
            elif before is None or not moving:
                print(text(document), file=out, flush=True)
            elif document["counts"] != before:
                print(_first(document), file=out, flush=True)
            before = document["counts"]
            if not moving:
                return int(any(document["counts"].get(state) for state in ENDED_BADLY))
            time.sleep(every)
    except KeyboardInterrupt:
        print("\nno longer watching; what runs goes on", file=out)
        return 0


def _first(document: dict) -> str:
    counts = ", ".join(f"{number} {state}" for state, number in document["counts"].items())
    return f"{amount(document['stages'], 'stage')}: {counts}"


def _common(document: dict) -> dict[str, list[str]]:
    """For every task the settings that all its rows have; a row shows what is its own."""
    found = defaultdict(list)
    for line in document["lines"]:
        found[line["task"]].append((line["method"], line["variant"]))
    return {task: variants.shared(pairs) for task, pairs in found.items()}


def _own(item: dict, common: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """Of a row or stage the settings that not all rows of its task have: in general, and of its method."""
    found = [part for part in variants.parts(item["variant"]) if part not in common.get(item["task"], [])]
    return [p for p in found if not p.startswith("method.")], [p for p in found if p.startswith("method.")]


def _bundles(lines: list[dict], common: dict[str, list[str]]) -> dict[tuple[str, ...], str]:
    """Settings too many for a row, such as a preset's -> the mark, ``#1``, that stands for them there."""
    found = dict.fromkeys(tuple(_own(line, common)[0]) for line in lines)
    long = [parts for parts in found if len(variants.plain([*parts])) > SHORT]
    return {parts: f"#{number}" for number, parts in enumerate(long, 1)}


def _shortened(value: object, common: dict[str, list[str]], bundles: dict[tuple[str, ...], str]) -> Any:
    """A list of rows or stages with, as variant, those settings alone that not all rows of the task have."""
    if not isinstance(value, list) or not all("variant" in item for item in value):
        return value
    found = []
    for item in value:
        general, method = _own(item, common)
        mark = bundles.get(tuple(general))
        found.append({**item, "variant": variants.plain([*(general if mark is None else [mark]), *method])})
    return found


def _key(record: Record, variant: str) -> tuple:
    sparsity = None if record.sparsity is None else level(record.sparsity)
    return record.task, record.dataset, record.model, record.method, variant, sparsity


def _order(key: tuple) -> tuple:
    """Dense first, then by name; sparsities ascending, none first."""
    task, dataset, model, method, variant, sparsity = key
    return task, dataset, model, method != "dense", method, variant, -1 if sparsity is None else sparsity


def _line(key: tuple, records: list[Record]) -> dict:
    done = [r.summary for r in records if r.state == "done" and r.summary]
    scores = [summary["score"] for summary in done if finite(summary.get("score"))]
    metrics = sorted({str(summary.get("metric")) for summary in done})
    return {
        **dict(zip(("task", "dataset", "model", "method", "variant", "sparsity"), key)),
        "metric": metrics[0] if len(metrics) == 1 else None,
        "stages": len(records),
        "counts": _counts(records),
        # scores on two different metrics have no mean
        "score": math.fsum(scores) / len(scores) if scores and len(metrics) == 1 else None,
        "collapsed": sum(bool(summary.get("collapsed")) for summary in done),
    }


def _counts(records: list[Record]) -> dict[str, int]:
    counts = Counter(record.state for record in records)
    return {state: counts[state] for state in STATES if counts[state]}


def _stage(record: Record) -> dict:
    """One stage, with how far it came."""
    base = {"digest": record.digest, "task": record.task, "method": record.method, "variant": record.variant}
    progress = {name: record.status.get(name) for name in ("step", "steps", "attempt", "host", "updated")}
    if record.element is not None and record.job is not None:
        progress |= {"job": record.element.id, "node": record.job.node or None}
    return {**base, "sparsity": record.sparsity, "replicate": record.replicate, "seed": record.seed, **progress}


def _by_method(lines: list[dict]) -> list[dict]:
    """One line per method: counts added up, sparsities and scores as their range."""
    groups = defaultdict(list)
    for line in lines:
        groups[tuple(line[name] for name in ("task", "dataset", "model", "method", "variant"))].append(line)
    summed = []
    for group in groups.values():
        scores = sorted(line["score"] for line in group if line["score"] is not None)
        levels = sorted(line["sparsity"] for line in group if line["sparsity"] is not None)
        own = {
            "stages": sum(line["stages"] for line in group),
            "counts": sum((Counter(line["counts"]) for line in group), Counter()),
            "collapsed": sum(line["collapsed"] for line in group),
            "sparsity": span([percent(level) for level in levels], " - ") or "-",
            "score": span([f"{score:.2f}" for score in scores], " - ") or "-",
        }
        summed.append(group[0] | own)
    return summed


def _table(lines: list[dict], detailed: bool) -> list[str]:
    """A column for each state there is, in the words and the order of the headline."""
    states = [s for s in STATES if s != "done" and any(line["counts"].get(s) for line in lines)]
    rows = [("task", "data", "method", "sparsity", "done", *states, "score", "")]
    full = dict.fromkeys(_method(line) for line in lines)
    cut = Counter(_short(name, 34) for name in full)
    for line in lines:
        counts = line["counts"]
        sparsity, score = line["sparsity"], line["score"]
        if detailed:
            sparsity = "-" if sparsity is None else percent(sparsity)
            score = "-" if score is None else f"{score:.2f}"
        name = _short(_method(line), 34)
        name = name if cut[name] == 1 else _method(line)  # what sets it apart from another is not to be cut
        numbers = [f"{counts.get('done', 0)}/{line['stages']}", *(str(counts.get(state) or ".") for state in states)]
        mark = f"{line['collapsed']} collapsed" if line["collapsed"] else ""
        rows.append((line["task"], f"{line['dataset']}/{line['model']}", name, sparsity, *numbers, score, mark))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = (0, 1, 2, len(widths) - 1)
    aligned = [[c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))] for row in rows]
    return ["  ".join(row).rstrip() for row in aligned]


def _method(line: dict) -> str:
    return " ".join(filter(None, (line["method"], line["variant"])))


def _progress(stage: dict) -> str:
    steps = f"step {stage['step']}/{stage['steps']}" if stage["steps"] else "starting"
    silent = time.time() - stage["updated"] if finite(stage["updated"]) else None
    job = f"  job {stage['job']} on {stage['node'] or '?'}" if stage.get("job") else ""
    return f"{_name(stage)}  {steps}" + (f", last word {silent:.0f} s ago" if silent is not None else "") + job


def _name(stage: dict) -> str:
    level = "" if stage["sparsity"] is None else f" {percent(stage['sparsity'])}"
    variant = f" ({_short(stage['variant'], 30)})" if stage["variant"] else ""
    own = f"{level} {folds.pair(stage['replicate'], stage['seed'])}{variant}"
    return f"{stage['digest'][:12]}  {stage['task']} {_short(stage['method'], 24)}{own}"


def _short(value: str, width: int) -> str:
    value = " ".join(value.split())
    return value if len(value) <= width else value[: width - 3] + "..."
