"""The one writer of the MLflow view: replays what the stages recorded, each point once.

Files are the record; MLflow can be deleted and filled again. An experiment is a task. A stage is one run, found by its
``digest`` tag before it is created, under a parent run per sweep. Values keep their time stamps, and MLflow's key of a
value is (run, name, time, step, value), so sending a line twice leaves one point. Of a stage that is not done only the
lines that its checkpoint has committed are sent: what a resumed stage writes again was never sent. Where a stage was
trained again (its folder was deleted, or it fell back to an older checkpoint) the lines before the stored offset have
changed, and its run is replaced. Values that are not finite are sent as NaN: MLflow turns infinity into 1.8e308, which
flattens every chart; ``metrics.jsonl`` keeps the original. MLflow is imported only when there is something to send.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from common import paths
from common.errors import UserError
from launch.mlflow_view import content, database, mlflow_runs
from launch.mlflow_view.address import NoAnswer, address, own_file, refusal
from launch.mlflow_view.offsets import Offsets
from launch.runs import locks
from launch.runs.records import Record, sweeps

if TYPE_CHECKING:
    from mlflow import MlflowClient

SHORT = 10  # seconds a sweep waits for a sync that is running before it goes on without
METRICS, PARAMS = 800, 100  # of one batch; MLflow takes 1000 entries in all, of which 100 parameters
# A short patience with a server that does not answer: the records wait in their files. Whoever sets these, is obeyed.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines for each stage
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
# What MLflow says where another process did something to the same run.
CONFLICTS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")

# Databases this process moved aside. MLflow keeps a file open and remembers it by its address, so that each successor
# is opened under another spelling of the same path.
_replaced: list[Path] = []

# Without it the UI takes an experiment for one of language-model traces and opens on an empty page.
TRAINING = {"mlflow.experimentKind": "custom_model_development"}

Report = Callable[[str], object]  # where a message for the user goes


class SyncResult(NamedTuple):
    """Runs created, metric values sent, and stages of which nothing new was to send."""

    new_runs: int
    points: int
    skipped: int


def sync(
    records: list[Record], runs: Path, uri: str | None = None, report: Report = print, look: bool = False
) -> SyncResult:
    """Send what is new in ``records`` to MLflow; raises ``UserError`` where it cannot be reached (nothing is lost).

    ``look``: what was sent before is sent again where MLflow does not have it any more.
    """
    runs, uri = Path(runs).absolute(), uri or address(runs)
    records = [r for r in records if r.config and not r.problem]
    if not records:
        return SyncResult(0, 0, 0)
    with locks.exclusive(runs / ".sync.lock", "sync", report):
        offsets = Offsets(runs, uri)
        if (
            not look
            and not any(offsets.shows(stage) and offsets.news(stage) for stage in records)
            and not any(_changed(sweep, offsets) for sweep in content.sweeps(records, sweeps(runs)))
        ):
            return SyncResult(0, 0, sum(map(offsets.shows, records)))
        own = runs / "mlflow.db" if uri == own_file(runs) else None
        damaged = own is not None and database.condition(own, thorough=True) == "damaged"
        while True:
            if own is not None and damaged:
                _replace(own, offsets, report)
            try:
                return _attempt(records, offsets, runs, uri, own is not None, look)
            except _failures() as problem:
                if own is None or damaged or not (database.shows_damage(problem) or isinstance(problem, NoAnswer)):
                    raise refusal(problem, runs, uri) from problem
                damaged = True


def establish(task: str, runs: Path, report: Report = print) -> bool:
    """Create database and experiment once, before anything could race for them.

    False, and a note, where that cannot be done now: the records do not need it, and the next ``sync`` makes up for it.
    """
    runs = Path(runs).absolute()
    try:
        uri = address(runs)
        with locks.exclusive(runs / ".sync.lock", "sync", report, patience=SHORT):
            offsets = Offsets(runs, uri)
            if task not in offsets.experiments:
                with _mlflow(uri, uri == own_file(runs)) as client:
                    offsets.know(task, _experiment(client, task, runs, uri)[1])
                offsets.save()
        return True
    except UserError as problem:
        report(f"note: MLflow is not prepared; `make sync` does it later ({problem})")
    except _failures() as problem:
        report(f"note: {refusal(problem, runs, uri)}")
    return False


def _changed(sweep: content.Sweep, offsets: Offsets) -> bool:
    return offsets.sweeps.get(f"{sweep.task}/{sweep.name}", sweep.status) != sweep.status


def _attempt(records: list[Record], offsets: Offsets, runs: Path, uri: str, own: bool, look: bool) -> SyncResult:
    """Send, and note how far that went, also where it broke off."""
    try:
        with _mlflow(uri, own) as client:
            result = _send(client, records, offsets, runs, uri, look)
    except BaseException:
        with contextlib.suppress(UserError):  # the first error is the one to tell
            offsets.save()
        raise
    offsets.save()
    return result


def _replace(own: Path, offsets: Offsets, report: Report) -> None:
    """Make room for a new database: all of it comes from the records."""
    try:
        aside = database.set_aside(own)
    except OSError as problem:
        raise UserError(
            f"{own} is damaged and cannot be moved aside ({problem.strerror}); nothing is lost: delete it and "
            "repeat `make sync`, which fills a new one from the records"
        ) from problem
    _replaced.append(own)
    report(
        f"{own} is damaged, or of another version of MLflow: it is now {aside.name}, and a new one is filled from the "
        "records"
    )


def _send(
    client: MlflowClient, records: list[Record], offsets: Offsets, runs: Path, uri: str, look: bool
) -> SyncResult:
    """Send all that is new; one run for each stage, one parent run for each sweep."""
    from mlflow.exceptions import MlflowException

    members = sweeps(runs)
    experiments = {}
    for task in sorted({r.task for r in records if offsets.shows(r) or r.task in offsets.experiments}):
        experiments[task], identity = _experiment(client, task, runs, uri)
        offsets.know(task, identity)
        if look:
            offsets.keep(task, *mlflow_runs.there(client, experiments[task]), members)
    created = sent = skipped = 0
    parents: dict[tuple[str, str], str] = {}
    children = defaultdict(list)
    latest = []
    for stage in records:
        # Read again under the lock: another sync may have sent a newer state than the one we were called with.
        shown = offsets.shows(stage)
        stage = content.again(stage) if shown and offsets.news(stage) else stage
        latest.append(stage)
        if not shown or stage.problem or not offsets.news(stage):
            skipped += shown
            continue
        names = members.get((stage.task, stage.digest), [])  # its run is shown under that of the oldest
        experiment, above = experiments[stage.task], (stage.task, names[0] if names else "")
        if above[1] and above not in parents:
            parents[above] = mlflow_runs.sweep(client, experiment, *above, content.began(stage))
            offsets.sweeps["/".join(above)] = ""  # its status is still to be sent, also should this sync break off
        labels = content.tags(stage, names)
        labels |= {"mlflow.parentRunId": parents[above]} if above in parents else {}
        for last in (False, True):
            try:
                known, new = mlflow_runs.stage(client, experiment, stage, offsets.stages.get(stage.key), labels)
                sent += _send_stage(client, stage, known, labels, uri)
                break
            except MlflowException as problem:
                # A sync on another machine deleted the run as one too many, or filled it at the same moment.
                if last or problem.error_code not in CONFLICTS:
                    raise
        created += new
        children[above].append(known["run"])
        offsets.stages[stage.key] = known
        offsets.save(at_least=1.0)
    for sweep in content.sweeps(latest, members):
        above = sweep.task, sweep.name
        if _changed(sweep, offsets):
            run = mlflow_runs.sweep(client, experiments[sweep.task], *above, content.milliseconds(time.time()))
            for child in children[above] if run != parents.get(above, run) else []:
                client.set_tag(child, "mlflow.parentRunId", run)
            mlflow_runs.set_status(client, run, sweep.status, sweep.ended)
            offsets.sweeps["/".join(above)] = sweep.status
    return SyncResult(created, sent, skipped)


def _send_stage(client: MlflowClient, stage: Record, known: dict, labels: dict[str, str], uri: str) -> int:
    """Send what is new of one stage and bring ``known`` up to date; returns the number of values sent."""
    from mlflow.entities import Metric, Param, RunTag

    run, end = known["run"], content.committed(stage)
    values = [Metric(*value) for value in content.points(stage, known["offset"], end)]
    values += [Metric(*value) for value in content.final(stage)] if stage.done else []
    # Parameters cannot change, but the end may add one: a sparsity that rounds decide.
    params = [] if known["state"] and not stage.done else [Param(*pair) for pair in content.parameters(stage).items()]
    # A tag stays until it is written over: the reason of a failure is none for what was tried again.
    outlived = {"reason": ""} if known["state"] not in ("", stage.state) else {}
    known.update(offset=end, seal=content.seal(stage, end), state=stage.state)
    # The tag that says how far the run is filled goes with the last batch, which MLflow writes after its values.
    labels = outlived | labels | {"synced": f"{end} {known['seal']} {stage.state}"}
    batches = max(1, -(-len(values) // METRICS), -(-len(params) // PARAMS))
    for i in range(batches):
        client.log_batch(
            run,
            metrics=values[i * METRICS : (i + 1) * METRICS],
            params=params[i * PARAMS : (i + 1) * PARAMS],
            tags=[RunTag(*pair) for pair in labels.items()] if i == batches - 1 else [],
        )
    if stage.done and uri.startswith("sqlite:"):  # beside a local database; a server gets the numbers alone
        client.log_artifact(run, str(paths.config(stage.folder)))
        client.log_artifact(run, str(paths.summary(stage.folder)))
    mlflow_runs.set_status(client, run, content.status(stage), content.ended(stage))
    return len(values)


def _experiment(client: MlflowClient, task: str, runs: Path, uri: str, created: bool = False) -> tuple[str, str]:
    """The experiment named after the task, created once: its id, and what tells it from one in another database."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(task)
    if found is None and created:
        raise NoAnswer(f"the experiment {task} that was created a moment ago")
    if found is None:
        # A local view keeps its artifacts beside the runs; a server decides for itself.
        place = (runs / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
        try:
            client.create_experiment(task, artifact_location=place, tags=TRAINING)
        except MlflowException as problem:
            if problem.error_code != "RESOURCE_ALREADY_EXISTS":  # then another machine's sync was quicker
                raise
        return _experiment(client, task, runs, uri, created=True)  # there it is now
    if found.name != task or not found.experiment_id:
        raise NoAnswer(f"an experiment named {task}, with an id")
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    for key, value in TRAINING.items():  # an experiment made by an earlier version, or by hand
        if key not in found.tags:
            client.set_experiment_tag(found.experiment_id, key, value)
    return found.experiment_id, f"{found.experiment_id}/{found.creation_time}"


@contextlib.contextmanager
def _mlflow(uri: str, own: bool) -> Iterator[MlflowClient]:
    """An MLflow client that is quiet, patient for seconds instead of minutes, and reports to nobody.

    Our ``own`` database file is written without waiting for the disk (half the time, a tenth where the disk is slow): a
    killed process does it no harm, and what a power cut destroys is deleted and filled again from the records.
    """
    if not own and (problem := database.refuses(uri)):
        raise OSError(problem)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3")]
    levels = [logger.level for logger in loggers]
    from mlflow import MlflowClient

    if own:
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        event.listen(Engine, "connect", database.unhurried)
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)  # its errors are exceptions as well, and told by who catches them
        path = Path(uri[len("sqlite:///") :])
        uri = f"sqlite:///{path.parent}{'/.' * _replaced.count(path)}/{path.name}" if own else uri
        yield MlflowClient(tracking_uri=uri)
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
        if own:
            event.remove(Engine, "connect", database.unhurried)


def _failures() -> tuple[type[BaseException], ...]:
    """What MLflow and the libraries under it raise when an address cannot be used."""
    failures: tuple[type[BaseException], ...] = (OSError, ImportError, UnicodeDecodeError, NoAnswer)
    with contextlib.suppress(ImportError):
        from google.protobuf.json_format import ParseError

        failures += (ParseError,)
    with contextlib.suppress(ImportError):  # a server needs no SQL library
        from mlflow.exceptions import MlflowException

        failures += (MlflowException,)
        from alembic.util.exc import CommandError
        from sqlalchemy.exc import SQLAlchemyError

        failures += (SQLAlchemyError, CommandError)
    return failures
