"""What a runs tree holds, as a document for programs and as one screen of text. Reads only; needs no scheduler."""

import math
import time
from collections import Counter, defaultdict

from launch.board import level
from launch.records import STATES, Record

LINES, STAGES = 24, 8  # rows of a section that fit on one screen; beyond that a section is summarised
WAITING = ("queued", "new", "stopped", "interrupted", "blocked")


def status(records: list[Record]) -> dict:
    """A JSON-ready document: ``counts`` per state, ``lines`` per method and sparsity, and the stages to look at."""
    groups = defaultdict(list)
    for record in records:
        if record.config:
            groups[_key(record)].append(record)
    lines = [_line(key, groups[key]) for key in sorted(groups, key=_order)]
    return {
        "stages": len(records),
        "counts": _counts(records),
        "lines": lines,
        "running": [_stage(r) for r in records if r.state == "running"],
        "failures": [{**_stage(r), "reason": _reason(r)} for r in records if r.state == "failed"],
        "interrupted": [_stage(r) for r in records if r.state == "interrupted"],
        "problems": [{"folder": str(r.folder), "problem": r.problem} for r in records if r.problem],
    }


def text(document: dict) -> str:
    """The document on one screen of at most 110 columns."""
    if not document["stages"]:
        return "no stages yet: `make plan` shows what a sweep would run, `make sweep` runs it"
    counts = ", ".join(f"{number} {state}" for state, number in document["counts"].items())
    out = [f"{document['stages']} stages: {counts}", ""]
    detailed = len(document["lines"]) <= LINES
    out += _table(document["lines"] if detailed else _by_method(document["lines"]), detailed)
    out += _running(document["running"])
    out += _section("failed", document["failures"], lambda f: f"{_name(f)}  {_short(f['reason'], 60)}")
    out += _section("interrupted (the next `make sweep` resumes them)", document["interrupted"], _name)
    out += _section("unreadable", document["problems"], lambda p: f"{_tail(p['folder'])}  {_short(p['problem'], 70)}")
    return "\n".join(out)


def _key(record: Record) -> tuple:
    sparsity = None if record.sparsity is None else level(record.sparsity)
    return record.task, record.dataset, record.model, record.method, record.variant, sparsity


def _order(key: tuple) -> tuple:
    """Dense first, then by name; sparsities ascending, none first."""
    task, dataset, model, method, variant, sparsity = key
    return task, dataset, model, method != "dense", method, variant, -1 if sparsity is None else sparsity


def _line(key: tuple, records: list[Record]) -> dict:
    done = [r.summary for r in records if r.state == "done"]
    scores = [summary["score"] for summary in done if _finite(summary.get("score"))]
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
    return {**base, "sparsity": record.sparsity, "seed": record.seed, **progress}


def _reason(record: Record) -> str:
    return str(record.status.get("reason") or "no reason recorded; see error.txt in its folder")


def _finite(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _by_method(lines: list[dict]) -> list[dict]:
    """One line per method: counts added up, sparsities and scores as their range."""
    groups = defaultdict(list)
    for line in lines:
        groups[tuple(line[name] for name in ("task", "dataset", "model", "method", "variant"))].append(line)
    return [_summed(group) for group in groups.values()]


def _summed(group: list[dict]) -> dict:
    counts = sum((Counter(line["counts"]) for line in group), Counter())
    scores = [line["score"] for line in group if line["score"] is not None]
    levels = [line["sparsity"] for line in group if line["sparsity"] is not None]
    return {
        **group[0],
        "stages": sum(line["stages"] for line in group),
        "counts": counts,
        "collapsed": sum(line["collapsed"] for line in group),
        "sparsity": f"{min(levels):.2%} - {max(levels):.2%}" if levels else "-",
        "score": f"{min(scores):.2f} - {max(scores):.2f}" if scores else "-",
    }


def _table(lines: list[dict], detailed: bool) -> list[str]:
    rows = [("task", "data", "method", "sparsity", "done", "running", "waiting", "failed", "score", "")]
    for line in lines:
        counts = line["counts"]
        sparsity, score = line["sparsity"], line["score"]
        if detailed:
            sparsity = "-" if sparsity is None else f"{sparsity:.2%}"
            score = "-" if score is None else f"{score:.2f}"
        name = _short(" ".join(filter(None, (line["method"], line["variant"]))), 34)
        done = f"{counts.get('done', 0)}/{line['stages']}"
        waiting = sum(counts.get(state, 0) for state in WAITING)
        other = (counts.get("running", 0), waiting, counts.get("failed", 0))
        mark = f"{line['collapsed']} collapsed" if line["collapsed"] else ""
        numbers = [str(number) if number else "." for number in other]
        rows.append((line["task"], f"{line['dataset']}/{line['model']}", name, sparsity, done, *numbers, score, mark))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = (0, 1, 2, 9)
    aligned = [[c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))] for row in rows]
    return ["  ".join(row).rstrip() for row in aligned]


def _running(stages: list[dict]) -> list[str]:
    def line(stage):
        steps = f"step {stage['step']}/{stage['steps']}" if stage["steps"] else "starting"
        silent = time.time() - stage["updated"] if _finite(stage["updated"]) else None
        return f"{_name(stage)}  {steps}" + (f", last word {silent:.0f} s ago" if silent is not None else "")

    return _section("running", stages, line)


def _section(title: str, items: list, line) -> list[str]:
    if not items:
        return []
    rest = len(items) - STAGES
    shown = [f"  {line(item)}" for item in items[:STAGES]]
    return ["", f"{title}:", *shown, *([f"  and {rest} more"] if rest > 0 else [])]


def _name(stage: dict) -> str:
    level = "" if stage["sparsity"] is None else f" {stage['sparsity']:.2%}"
    return f"{stage['digest'][:12]}  {stage['task']} {_short(stage['method'], 24)}{level} seed {stage['seed']}"


def _short(value: str, width: int) -> str:
    value = " ".join(value.split())
    return value if len(value) <= width else value[: width - 3] + "..."


def _tail(folder: str) -> str:
    return "/".join(folder.rsplit("/", 2)[-2:])
