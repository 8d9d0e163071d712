"""What Slurm says about jobs: its queue first, its accounting for what the queue no longer knows. Asks, never changes.

A word this file does not know is not taken for an end, and no answer is not taken for one either.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from launch.runs.jobs import ENDED, GONE, NEVER, OUT_OF_MEMORY, UNKNOWN, Job

PATIENCE = 10.0  # seconds for one command; slurm's own message timeout is as long
CHUNK = 200  # job numbers a command: well below the kernel's limit for one word

# Fixed columns, since a reason or a name may hold any letter. The name comes last and is compared, so it may be long.
COLUMNS = {"JobArrayID": 90, "State": 20, "Reason": 60, "NodeList": 60, "exit_code": 12, "DerivedEC": 12}
COLUMNS |= {"RestartCnt": 8, "TimeUsed": 20, "TimeLimit": 20, "EndTime": 24, "Name": 250}
FIELDS = "JobID,State,ExitCode,DerivedExitCode,NodeList,Elapsed,Timelimit,End,Reason,JobName"
NO_FIELD = re.compile(r'Invalid field requested: "(\w+)"')


Ask = Callable[..., dict[str, Job]]  # ``ask`` below, or what stands in for it


def ask(wanted: Mapping[str, str], users: Iterable[int] = ()) -> dict[str, Job]:
    """The state of jobs ``{id: the job's name}``; an answer under another name is about another job: ids come round.

    An id is ``"12_3"`` or ``"12"``; an empty name fits any. ``users``: user ids beside our own whose jobs they may be.
    """
    if not wanted:
        return {}
    rows, problem = _queue(wanted, {os.getuid(), *users})
    if rows is None:
        return dict.fromkeys(wanted, Job(UNKNOWN, problem))
    found = _match(rows, wanted)
    missing = {name: wanted[name] for name in wanted if name not in found}
    past, problem = _accounting(missing) if missing else ([], "")
    found |= _match(past, missing)
    return {name: _settled(found.get(name, Job(GONE, problem))) for name in wanted}


def remembering(seconds: float = 30.0, asks: Ask = ask) -> Ask:
    """An ``ask`` for a view that is redrawn: answers are kept for ``seconds``, as schedulers are not to be polled."""
    answers: dict[str, Job] = {}
    asked = -seconds

    def answer(wanted: Mapping[str, str], users: Iterable[int] = ()) -> dict[str, Job]:
        nonlocal answers, asked
        if time.monotonic() - asked >= seconds or not wanted.keys() <= answers.keys():
            answers, asked = asks(wanted, users), time.monotonic()
        return {name: answers[name] for name in wanted}

    return answer


def _settled(job: Job) -> Job:
    """The accounting may still list a job as alive that the queue no longer knows: its end was lost, but it ended."""
    if job.source != "sacct" or job.state in ENDED:
        return job
    return replace(job, state=GONE, reason=f"accounting still says {job.state}, but it is not in the queue")


def _queue(wanted: Iterable[str], users: set[int]) -> tuple[list | None, str]:
    """(id, name, Job) of what the queue holds, or None and why it did not answer."""
    layout = ["-h", "-r", "-t", "all", "-O", ",".join(f"{name}:{width}" for name, width in COLUMNS.items())]
    done = run(["squeue", *layout, "-u", ",".join(map(str, sorted(users)))])
    if isinstance(done, subprocess.CompletedProcess) and "Invalid user" in done.stderr:
        # a user without an account on this machine (a container): by job instead, twice, as one alone is an error
        for ids in _chunks(wanted):
            more = run(["squeue", *layout, "-j", ",".join([*ids, ids[0]])])
            if isinstance(more, str) or (more.returncode and "Invalid job id" not in more.stderr):
                return None, more if isinstance(more, str) else message(more)
            done.stdout += more.stdout
        done.returncode = 0
    if isinstance(done, str) or done.returncode:
        return None, done if isinstance(done, str) else message(done)
    return [row for line in done.stdout.splitlines() if (row := _queue_row(line))], ""


def _queue_row(line: str) -> tuple[str, str, Job] | None:
    values, start = {}, 0
    for name, width in COLUMNS.items():
        values[name], start = line[start : start + width].strip(), start + width
    if not values["JobArrayID"] or not values["State"]:
        return None
    state = _state(values["State"], _exit(values["DerivedEC"]))
    reason = "" if values["Reason"] == "None" else values["Reason"]
    times = _seconds(values["TimeUsed"]), _seconds(values["TimeLimit"])
    restarts = int(values["RestartCnt"]) if values["RestartCnt"].isdecimal() else None
    # of a running job the end is a guess
    code, end = (_exit(values["exit_code"]), _moment(values["EndTime"])) if values["State"] in ENDED else ("", None)
    job = Job(state, reason, values["NodeList"], code, *times, restarts, end, "squeue")
    return values["JobArrayID"], values["Name"], job


def _accounting(wanted: Iterable[str]) -> tuple[list, str]:
    """(id, name, Job) of what the accounting knows, the newest last; nothing and why where it does not answer."""
    rows: list = []
    fields = FIELDS.split(",")
    for ids in _chunks(wanted):
        done = _sacct(fields, ids)
        while not isinstance(done, str) and (lacking := NO_FIELD.search(done.stderr)) and lacking[1] in fields:
            fields.remove(lacking[1])  # an older version has it not
            done = _sacct(fields, ids)
        if isinstance(done, str) or done.returncode:
            problem = done if isinstance(done, str) else message(done)
            off = "accounting storage is disabled" in problem.lower() or "is not installed" in problem
            return rows, "" if off else problem
        rows += _accounting_rows(done.stdout, fields)
    return rows, ""


def _sacct(fields: Sequence[str], ids: Sequence[str]) -> subprocess.CompletedProcess | str:
    # -D: every attempt of a requeued job has a row of its own
    return run(["sacct", "-n", "-P", "-D", "-a", "-o", ",".join(fields), "-j", ",".join(ids)])


def _accounting_rows(text: str, fields: Sequence[str]) -> list[tuple[str, str, Job]]:
    rows: list[tuple[str, str, Job]] = []
    attempts: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        parts = line.split("|", len(fields) - 1)
        if len(parts) < len(fields):
            continue
        known = dict(zip(fields, parts, strict=True))
        every = (known.get(field, "") for field in FIELDS.split(","))
        name, words, code, derived, node, used, limit, end, reason, title = every
        state = words.split(" ")[0]  # "CANCELLED by 0"
        base, _, step = name.partition(".")
        if step:  # a step follows its job; only its line says that memory ran out in it
            if rows and rows[-1][0] == base and rows[-1][2].state == "FAILED" and state == "OUT_OF_MEMORY":
                rows[-1] = (*rows[-1][:2], replace(rows[-1][2], state="OUT_OF_MEMORY"))
            continue
        reason = "" if reason == "None" else reason
        if words == "CANCELLED" and reason == "Dependency":  # by nobody: Slurm itself gave it up
            reason = NEVER
        restarts = attempts[base, title] = attempts.get((base, title), -1) + 1
        node = "" if node == "None assigned" else node
        times = _seconds(used), _seconds(limit)
        job = Job(_state(state, derived), reason, node, code, *times, restarts, _moment(end), "sacct")
        rows.append((base, title, job))
    return rows


def _match(rows: list, wanted: Mapping[str, str]) -> dict[str, Job]:
    """The last fitting row of each id; ``12_[0-9%4]`` and an expression that was cut short speak of many at once."""
    found: dict[str, Job] = {}
    rest: dict[str, tuple[str, Job]] = {}
    for name, title, job in rows:
        base, _, index = name.partition("_")
        if index.startswith("[") and ("..." in index or "]" not in index):
            rest[base] = title, job
        for i in map(str, _indices(index)) if index.startswith("[") else [index]:
            key = f"{base}_{i}" if i else base
            if key in wanted and wanted[key] in ("", title):
                found[key] = job
    for key, title in wanted.items():
        spoken, job = rest.get(key.partition("_")[0], (None, None))
        if job is not None and key not in found and title in ("", spoken):
            found[key] = job
    return found


def _indices(text: str) -> list[int]:
    """``[0,3-9:2%4]`` -> 0, 3, 5, 7, 9."""
    found: list[int] = []
    for first, last, step in re.findall(r"(\d+)(?:-(\d+))?(?::(\d+))?", text.partition("%")[0]):
        found += range(int(first), int(last or first) + 1, int(step or 1) or 1)
    return found


def _state(word: str, derived: str) -> str:
    """``FAILED`` hides that a step ran out of memory; the highest code of the steps tells."""
    return "OUT_OF_MEMORY" if word == "FAILED" and derived.endswith(f":{OUT_OF_MEMORY}") else word


def _exit(text: str) -> str:
    """``768`` (as wait() gives it) -> ``3:0``; newer versions print the latter."""
    return f"{int(text) >> 8 & 0xFF}:{int(text) & 0x7F}" if text.isdecimal() else text


def _seconds(text: str) -> float | None:
    """``1-02:03:04``, ``02:03``, ``10`` (seconds) -> seconds; None for anything else, such as UNLIMITED."""
    if not (match := re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)(?:\.\d+)?", text)):
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _moment(text: str) -> float | None:
    """A local time such as ``2026-11-20T09:38:45`` -> unix seconds."""
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):  # N/A, Unknown
        return None


def _chunks(wanted: Iterable[str]) -> list[list[str]]:
    """The job numbers of some ids, a few hundred at a time."""
    numbers = sorted({name.partition("_")[0] for name in wanted})
    return [numbers[i : i + CHUNK] for i in range(0, len(numbers), CHUNK)]


def run(command: list[str]) -> subprocess.CompletedProcess | str:
    """The finished command, or why there was none. The user's own defaults for its output are left out."""
    mine = ("SQUEUE_", "SACCT_", "SCANCEL_", "SLURM_TIME_FORMAT")
    env = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    env |= {"LC_ALL": "C", "SLURM_BITSTR_LEN": "0"}  # 0: lists of array indices in full
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env=env,
            timeout=PATIENCE,
        )
    except FileNotFoundError:
        return f"{command[0]} is not installed on this machine"
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not answer within {PATIENCE:.0f} s"
    except OSError as problem:
        return f"{command[0]} cannot be started: {problem.strerror}"


def message(done: subprocess.CompletedProcess) -> str:
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"{done.args[0]} ended with exit code {done.returncode}"
