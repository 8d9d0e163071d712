"""Hands arrays to Slurm through submitit, which writes the batch script and the pickled paths.

Every submission is an array, also of one element, so that ids and file names have one shape. The call of sbatch is
ours: its message reaches the user, and an answer that got lost is looked up by the array's name before another try.
"""

import os
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from submitit.core.utils import DelayedSubmission, JobPaths
from submitit.slurm import slurm as backend

from launch.slurm import on_the_node

TRIES, PAUSE = 4, 3.0  # of a controller that does not answer; seconds between
LOST = ("timed out", "unable to contact", "zero bytes", "connection refused", "communication connection failure")
DEFAULTS = ("account", "partition", "qos", "constraint", "reservation")  # of the user, where the script is silent
FILTERS = ("SQUEUE_", "SCANCEL_", "SBATCH_")  # the user's own defaults for commands that are ours here
TIMEOUT = 120  # seconds; sbatch itself gives up earlier


class Refused(Exception):
    """Slurm took none of it; the text is what it said."""


class Mute(Refused):
    """Slurm did not say whether it took it."""


def environment(script: str = "") -> dict[str, str]:
    """What commands and jobs inherit: ours, without what Slurm set for the job we may be in (it would bind theirs to
    our cores), and without the user's own options: sbatch takes its variables before what a ``script`` says.
    """
    inside = "SLURM_JOB_ID" in os.environ
    left_out = {
        k for k in os.environ if (inside and k.startswith("SLURM_") and k != "SLURM_CONF") or k == "SLURM_EXPORT_ENV"
    }
    kept = {f"SBATCH_{name.upper()}" for name in DEFAULTS if f"--{name}=" not in script}
    left_out |= {k for k in os.environ if k.startswith(FILTERS) and k not in kept}
    return {k: v for k, v in os.environ.items() if k not in left_out}


def call(command: Sequence[str], keep: Sequence[int] = (), timeout: float = TIMEOUT, script: str = "") -> str:
    """The output of a Slurm command. ``Refused`` with its message; ``keep``: descriptors that it holds open too."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=environment(script), pass_fds=tuple(keep)
        )
    except FileNotFoundError:
        raise Refused(f"{command[0]} is not on PATH") from None
    except subprocess.TimeoutExpired:
        raise Refused(f"{command[0]} timed out after {timeout:.0f} s") from None
    if done.returncode:
        lines = [line.split("error: ", 1)[-1] for line in done.stderr.splitlines() if line.strip()]
        raise Refused("; ".join(lines) or f"{command[0]} ended with exit code {done.returncode}")
    return done.stdout


class Executor(backend.SlurmExecutor):
    """submitit's executor. ``keep``: descriptors (of a lock) that a call of sbatch holds until it has ended."""

    def __init__(self, folder: Path, python: str, keep: Sequence[int] = ()) -> None:
        super().__init__(folder, python=python or None)
        self.keep = keep

    @property
    def _submitit_command_str(self) -> str:
        # Slurm's notices may come while Python still starts, and would end it: until the job listens they are ignored.
        return f'sh -c \'trap "" TERM USR2; exec "$@"\' sh {super()._submitit_command_str}'

    def script(self, count: int) -> Path:
        """Write the batch script of an array of ``count`` elements."""
        path = Path(self.folder) / "array.sh"
        text = backend._make_sbatch_string(
            command=self._submitit_command_str, folder=self.folder, map_count=count, **self.parameters
        )
        path.write_text(text)
        return path

    def _internal_process_submissions(self, delayed_submissions: list[DelayedSubmission]) -> list:
        folder = Path(self.folder)
        pickles = [folder / f"{uuid.uuid4().hex}.pkl" for _ in delayed_submissions]
        for path, delayed in zip(pickles, delayed_submissions, strict=True):
            delayed.set_timeout(self.parameters["time"], self.max_num_timeout)
            delayed.dump(path)
        number = sbatch(self.script(len(pickles)), self.parameters["job_name"], self.keep)
        tasks = list(range(self._num_tasks()))
        jobs = [self.job_class(folder, f"{number}_{index}", tasks) for index in range(len(pickles))]
        for path, one in zip(pickles, jobs, strict=True):
            one.paths.move_temporary_file(path, "submitted_pickle")
        return jobs


def submit(
    folder: Path, lanes: Sequence[Sequence[Path]], code: Path, parameters: dict, python: str, keep: Sequence[int] = ()
) -> str:
    """Submit one array and return its number; element i trains the stage folders ``lanes[i]``. ``Refused``."""
    executor = _executor(folder, parameters, python, keep)
    jobs = executor.map_array(on_the_node.train, [tuple(map(str, lane)) for lane in lanes], [str(code)] * len(lanes))
    return jobs[0].job_id.split("_")[0]


def test(folder: Path, count: int, parameters: dict, python: str) -> None:
    """Ask Slurm whether it would take such an array; nothing is queued. ``Refused`` with its message."""
    script = _executor(folder, parameters, python).script(count)
    call(["sbatch", "--test-only", str(script)], script=script.read_text())


def _executor(folder: Path, parameters: dict, python: str, keep: Sequence[int] = ()) -> Executor:
    folder.mkdir(parents=True, exist_ok=True)
    executor = Executor(folder, python, keep)
    executor.update_parameters(**parameters)
    return executor


def submitted(folder: Path, number: str, count: int) -> bool:
    """Are the pickled paths of all ``count`` elements in their places?"""
    return all(JobPaths(folder, f"{number}_{index}").submitted_pickle.exists() for index in range(count))


def sbatch(script: Path, name: str, keep: Sequence[int] = ()) -> str:
    """Submit a script whose job's ``name`` is unique; returns the job's number. ``Refused`` with Slurm's message."""
    for _ in range(TRIES):
        try:
            return call(["sbatch", "--parsable", str(script)], keep, script=script.read_text()).strip().split(";")[0]
        except Refused as problem:
            if not any(word in str(problem).lower() for word in LOST):
                raise
            said = problem
        time.sleep(PAUSE)
        try:
            if number := find(name):  # it was taken, only the answer got lost
                return number
        except Refused as problem:
            raise Mute(str(problem)) from None
    raise Mute(str(said))


def find(name: str) -> str | None:
    """The number of the job with this unique name, None where the queue has none. ``Refused``: no answer."""
    out = call(["squeue", "--noheader", "--states=all", f"--name={name}", "--format=%F"], timeout=30)
    return next(iter(out.split()), None)


def cancel(numbers: Sequence[str]) -> None:
    """Cancel whole arrays by number. ``Refused`` with Slurm's message."""
    if numbers:
        call(["scancel", *numbers])


def largest_array() -> int:
    """Elements an array may have here (MaxArraySize). ``Refused``: no answer."""
    for line in call(["scontrol", "show", "config"], timeout=30).splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize":
            return max(1, int(value))
    return 1001  # Slurm's default


def submit_limit(account: str) -> int | None:
    """Elements a user may have queued by accounting's own word; None where there is no accounting, or no limit."""
    command = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={_user()}"]
    command += ["format=Account,MaxSubmitJobs", *([f"account={account}"] if account else [])]
    try:
        rows = [line.split("|") for line in call(command, timeout=20).splitlines()]
    except Refused:
        return None
    limits = [int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()]
    return max(limits) if limits and len(limits) == len(rows) else None


def queued() -> int:
    """Elements of ours in the queue now. ``Refused``: no answer."""
    return len(call(["squeue", "--noheader", "--array", f"--user={_user()}", "--format=%i"], timeout=30).split())


def _user() -> str:
    """The name by which Slurm knows us: USER or the like, else the password file's; a number where there is none."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container, or a node whose directory service is away
        return str(os.getuid())
