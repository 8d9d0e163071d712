"""Why a stage is where it is: reason, job, time, attempts, what it starts from, the end of its error, what helps."""

import itertools
import time
from collections.abc import Iterable

from launch import wording
from launch.runs import jobs, logs, records
from launch.runs.lineage import Lineage
from launch.runs.records import Record

LINES = 30  # of the error
PENDING = {
    "Priority": "others are before it in the queue",
    "Resources": "it is next; it waits until enough of the cluster is free",
    "Dependency": "it waits for the stage it starts from",
    "JobArrayTaskLimit": "as many elements of its array as allowed are running (the cluster's parallelism)",
    "BeginTime": "Slurm waits a little before it starts a requeued job again",
    "JobHeldUser": "it is held: `scontrol release` lets it go",
    "JobHeldAdmin": "an administrator holds it",
    "ReqNodeNotAvail": "nodes that it could run on are down or reserved",
    "PartitionTimeLimit": "it asks for more time than its partition grants",
    "PartitionNodeLimit": "it asks for more nodes than its partition grants",
    "AssocMaxJobsLimit": "the account's limit of running jobs is reached",
    "QOSMaxJobsPerUserLimit": "your limit of running jobs is reached",
    "QOSMaxSubmitJobPerUserLimit": "your limit of submitted jobs is reached",
}


def why(record: Record, all_stages: Iterable[Record]) -> str:
    """Everything known about one stage, for a reader. ``all_stages``: all records, for its ancestors."""
    lineage = Lineage(all_stages)
    # its unfinished ancestors, nearest first: the last one is to blame
    chain = [] if record.done else [*itertools.takewhile(lambda above: not above.done, lineage.ancestors(record))]
    rows = [("state", record.state + (f": {record.reason}" if record.reason else "")), *_facts(record)]
    lines = [records.label(record), f"  folder    {record.folder}"]
    lines += [f"  {name:<9} {value}" for name, value in rows if value]
    lines += [f"  {'and that' if i else 'stands'} on {records.label(above)}" for i, above in enumerate(chain)]
    lines += [f"  because   {chain[-1].reason}"] if chain and chain[-1].reason else []
    root = chain[-1] if chain else record
    if root.parent and lineage.parent(root) is None and not record.done:
        lines.append(f"  needs     {root.parent[:12]}, whose folder is gone")
    if record.state in ("failed", "interrupted", "blocked", "unknown"):
        lines += _error(record)
    return "\n".join([*lines, "", f"what helps: {advice(record, root)}"])


def _facts(record: Record) -> list[tuple[str, str]]:
    status, job, element = record.status, record.job, record.element
    facts = [("problem", record.problem)]
    if record.done and record.summary:
        summary = record.summary
        score = f"{summary['score']:.2f}" if isinstance(summary.get("score"), (int, float)) else "none"
        where = f"of step {summary.get('scored_step')}, {summary.get('steps')} steps trained"
        facts.append(("score", f"{summary.get('metric')} {score} {where}"))
    elif status.get("steps"):
        updated = record.moment("updated")
        word = f", last word {_clock(max(0.0, time.time() - updated))} ago" if updated else ""
        facts.append(("progress", f"step {status.get('step')} of {status.get('steps')}{word}"))
    if record.state == "queued" and job:
        facts.append(("waits", PENDING.get(job.reason.split(",")[0].strip("()"), "")))
    if element is not None:
        facts.append(("job", f"{element.id or 'none yet'}, array {element.array} on cluster {element.cluster}"))
    if job is not None:
        words = {jobs.GONE: "Slurm does not know it any more", jobs.UNKNOWN: "gave no answer"}
        facts.append(("slurm", words.get(job.state, job.state + jobs.exit_words(job.exit_code))))
    node = str((job.node if job else "") or status.get("host") or "")
    return [*facts, ("node", node), ("attempts", _attempts(record)), ("time", _time(record))]


def _attempts(record: Record) -> str:
    parts = [f"{record.status['attempt']} started"] if record.status.get("attempt") else []
    if record.submissions:
        parts.append(f"{record.submissions} submitted")
    if record.job is not None and record.job.restarts:
        parts.append(f"its job was put back into the queue {wording.amount(record.job.restarts, 'time')}")
    return ", ".join(parts)


def _time(record: Record) -> str:
    parts, job = [], record.job
    if job is not None and job.seconds is not None and job.source:
        limit = f" of {_clock(job.limit)}" if job.limit else ""
        near = job.limit and job.seconds > 0.95 * job.limit and record.state != "done"
        parts.append(f"{_clock(job.seconds)}{limit} in its job" + (" (the limit)" if near else ""))
    spent = record.status.get("seconds")
    if record.state == "running":
        spent = (spent if isinstance(spent, (int, float)) else 0) + time.time() - record.moment("started")
    if isinstance(spent, (int, float)) and spent and record.moment("started"):
        parts.append(f"{_clock(spent)} of training in all attempts")
    return ", ".join(parts)


def _error(record: Record) -> list[str]:
    path, lines = logs.error(record, LINES)
    if path is None:
        return ["", "nothing was printed that says more"] if record.state == "failed" else []
    return ["", f"the end of {path}:", *(f"  {line}" for line in lines)]


def advice(record: Record, root: Record) -> str:
    """One sentence: the command that helps. ``root``: the unfinished stage that all waits for, or the record itself."""
    job, state = record.job, record.state
    again = f"`make retry RUN={record.digest[:8]}`"
    whence = "goes on from its last resume point, or from the start where there is none"
    memory = (job is not None and job.state == "OUT_OF_MEMORY") or "memory" in record.reason.lower()
    if state in ("failed", "interrupted") and memory:
        more = 'SET="cluster.memory=<more>" with it' if record.element is not None else "fewer WORKERS="
        return f"{again} {whence}; if it needs more memory: {more}; of a GPU: a smaller batch"
    if state == "failed" and "RUNS has to be" in record.reason:
        return f"set RUNS to a folder that login node and compute nodes share, then {again}"
    if state == "interrupted" and job is not None and job.state == "TIMEOUT":
        return f'{again} {whence}; SET="cluster.time=<more>" with it gives it longer'
    sentences = {
        "done": "nothing: it is done; `make report` shows it among the others",
        "running": f"nothing: it is under way; `make tail RUN={record.digest[:8]}` shows it",
        "queued": f"patience; `make cancel RUN={record.digest[:8]}` takes it out of the queue",
        "failed": f"mend the cause, then {again} {whence}",
        "blocked": f"`make why RUN={root.digest[:8]}` says what to mend; `make retry` of that one tries this one too",
        "unknown": "ask again later; unknown is not taken for dead, and nothing is started twice",
        "broken": "mend or delete the file that is named, then `make sweep` with the same words",
        "new": "`make sweep` trains it; `make plan` says why it is new",
    }
    return sentences.get(state, f"{again} {whence}")


def _clock(seconds: float) -> str:
    """``1-02:03:04`` or ``2:03:04`` or ``3:04``."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}-{hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"
