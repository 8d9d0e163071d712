"""Run stages on this machine: a few warm workers, started through submitit, take ready stages until none is left.

The number of workers is capped, each uses one thread (results then do not depend on the machine's cores), and GPUs are
dealt out to them in turn. Two sweeps may run over the same stages: a stage's lock decides who trains it; the other
waits, and takes over should the first one die.
"""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import submitit

from common import paths
from common.errors import UserError
from launch.described import Stage
from launch.local import devices
from launch.local.order import Order, Result
from launch.local.pool import Pool
from launch.local.progress import Event
from launch.local.worker import serve
from launch.runs import locks

LIBRARIES = ("OMP_NUM", "MKL_NUM", "OPENBLAS_NUM", "NUMEXPR_NUM", "VECLIB_MAXIMUM")
FOREVER = 60 * 24 * 365  # minutes; submitit ends a local job after a few unless asked otherwise


def run(
    stages: Sequence[Stage],
    workers: int | None = None,
    progress: Callable[[Event], None] = lambda event: None,
    sweep: Path | None = None,
) -> Result:
    """Do ``stages`` (their folders hold ``config.yaml``), at most ``workers`` at once, and return once none is left.

    ``workers=None``: one for each GPU, or core. Logs go to a fresh folder in ``sweep`` (default:
    ``runs/.sweeps/local``), removed again when all went well. A stage that fails blocks its descendants
    only. Raises ``UserError`` where nothing can be written.
    """
    order = Order(stages)
    workers = devices.workers() if workers is None else workers
    parent = Path(sweep or paths.sweeps() / "local").absolute()
    try:
        parent.mkdir(parents=True, exist_ok=True)
        # Fresh every time: submitit names results by process id and hands out an old one when the id comes round again.
        folder = Path(tempfile.mkdtemp(prefix="local-", dir=parent))
        alive = locks.exclusive(paths.lock(folder), "sweep", lambda _: None)  # for who asks whether it is
        with alive, Pool(order, max(1, min(workers, order.width)), progress, submitter(folder)) as pool:
            pool.work()
    except BrokenPipeError:  # nobody reads the progress any more, which says nothing about the folder
        raise
    except OSError as error:
        advice = "make room there, or choose another folder with RUNS=<folder>"
        raise UserError(f"cannot run stages in {parent}: {error}; {advice}") from error
    result = order.result()
    result.interrupted, result.error = pool.signals > 0, pool.error
    if result.code == 0:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def submitter(folder: Path) -> Callable[[str, int], submitit.Job]:
    """What starts worker ``number`` and has it connect to ``address``; only strings are pickled."""
    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(timeout_min=FOREVER)
    executor._throttling = 0.0  # a courtesy to a scheduler; here it only delays the start
    gpus = devices.gpus()

    def submit(address: str, number: int) -> submitit.Job:
        cwd = os.getcwd()
        with _environment():
            return executor.submit(serve, address, number, cwd, gpus[number % len(gpus)] if gpus else None)

    return submit


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """What workers inherit: one thread, our packages first, and deaf to Ctrl-C, which reaches them through the driver.

    submitit kills a job one second after a SIGINT to its process group, too soon for a checkpoint. Blocked (not
    ignored), the signal still reaches the driver afterwards. ``python -m`` looks in the current folder first, hence
    the chdir.
    """
    path = os.pathsep.join(filter(None, (str(paths.root()), os.environ.get("PYTHONPATH"))))
    changes = {**dict.fromkeys([f"{name}_THREADS" for name in LIBRARIES], "1"), "PYTHONPATH": path}
    before, cwd = {name: os.environ.get(name) for name in changes}, os.getcwd()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        os.environ.update(changes)
        os.chdir(paths.root())
        yield
    finally:
        os.chdir(cwd)
        for name, value in before.items():
            os.environ.pop(name)
            os.environ.update({} if value is None else {name: value})
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
