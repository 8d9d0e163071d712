"""The one writer of the MLflow view: replays what the stages recorded, each point once.

Files are the record; MLflow can be deleted and filled again. An experiment is a task. A stage is one run, found by its
``digest`` tag before it is created, under a parent run per sweep. Values keep their time stamps, and MLflow's key of a
value is (run, name, time, step, value), so sending a line twice leaves one point. Of a stage that is not done only the
lines that its checkpoint has committed are sent: what a resumed stage writes again was never sent. Where a stage was
trained again (its folder was deleted, or it fell back to an older checkpoint) the lines before the stored offset have
changed, and its run is replaced. Values that are not finite are sent as NaN: MLflow turns infinity into 1.8e308, which
flattens every chart; ``metrics.jsonl`` keeps the original. MLflow is imported only when there is something to send.
"""

import contextlib
import logging
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from common import paths
from common.errors import UserError
from launch import database_file, locks, view
from launch import records as reader
from launch.records import Record

METRICS, PARAMS = 800, 100  # of one batch; MLflow takes 1000 entries in all, of which 100 parameters
ENDED = {"done": "FINISHED", "failed": "FAILED"}
# A short patience with a server that does not answer: the records wait in their files. Whoever sets these, is obeyed.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}

# Databases this process moved aside. MLflow keeps a file open and remembers it by its address, so that each successor
# is opened under another spelling of the same path.
_replaced: list[Path] = []

# Without it the UI takes an experiment for one of language-model traces and opens on an empty page.
TRAINING = {"mlflow.experimentKind": "custom_model_development"}


class SyncResult(NamedTuple):
    """Runs created, metric values sent, and stages of which nothing new was to send."""

    new_runs: int
    points: int
    skipped: int


def address(runs: Path) -> str:
    """Where the view is kept: ``MLFLOW_TRACKING_URI``, or a database file in the runs folder."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or _own_file(runs)
    try:
        urlsplit(uri)
    except ValueError as problem:
        raise UserError(
            f"MLFLOW_TRACKING_URI is no address ({problem}); expected something like http://host:5000"
        ) from problem
    return uri


def _own_file(runs: Path) -> str:
    return f"sqlite:///{Path(runs).absolute() / 'mlflow.db'}"


def shown(text: str, uri: str | None = None) -> str:
    """A text (or the address itself) without the user name and password of the address in it."""
    user = urlsplit(uri or text).netloc.rpartition("@")[0]
    return text.replace(f"{user}@", "") if user else text


def sync(records: list[Record], runs: Path, uri: str | None = None, report=print) -> SyncResult:
    """Send what is new in ``records`` to MLflow; raises ``UserError`` where it cannot be reached (nothing is lost)."""
    runs, uri = Path(runs).absolute(), uri or address(runs)
    records = [r for r in records if r.config and not r.problem and (r.done or r.status.get("started"))]
    if not records:
        return SyncResult(0, 0, 0)
    with locks.exclusive(runs / ".sync.lock", "sync", report):
        offsets = view.Offsets(runs, uri)
        if not any(map(offsets.news, records)):
            return SyncResult(0, 0, len(records))
        own = runs / "mlflow.db" if uri == _own_file(runs) else None
        damaged = own is not None and database_file.condition(own, thorough=True) == "damaged"
        while True:
            if damaged:
                _replace(own, offsets, report)
            try:
                return _attempt(records, offsets, runs, uri, own is not None)
            except _failures() as problem:
                if own is None or damaged or not database_file.shows_damage(problem):
                    raise _refusal(problem, runs, uri) from problem
                damaged = True


def _attempt(records, offsets, runs, uri, own) -> SyncResult:
    """Send, and note how far that went, also where it broke off."""
    try:
        with _mlflow(uri, own) as client:
            result = _send(client, records, offsets, runs, uri)
    except BaseException:
        with contextlib.suppress(UserError):  # the first error is the one to tell
            offsets.save()
        raise
    offsets.save()
    return result


def _replace(database: Path, offsets: view.Offsets, report) -> None:
    """Make room for a new database: all of it comes from the records."""
    try:
        aside = database_file.set_aside(database)
    except OSError as problem:
        raise UserError(
            f"{database} is damaged and cannot be moved aside ({problem.strerror}); nothing is lost: delete it and "
            "repeat `make sync`, which fills a new one from the records"
        ) from problem
    _replaced.append(database)
    offsets.forget()
    report(f"{database} was damaged and is now {aside.name}; a new one is filled from the records")


def _refusal(problem: BaseException, runs: Path, uri: str) -> UserError:
    reason = (str(problem).strip() or type(problem).__name__).splitlines()[0][:300]
    return UserError(
        f"MLflow at {shown(uri)} did not take the records ({shown(reason, uri)}). Nothing is lost: they are in "
        f"{runs}, and the next `make sync` sends what is missing. MLFLOW_TRACKING_URI sets the address; "
        "without it the view is mlflow.db in the runs folder, which may be deleted at any time"
    )


def _send(client, records, offsets, runs, uri) -> SyncResult:
    """Send all that is new; one run a stage, one parent run a sweep."""
    members = reader.sweeps(runs)
    experiments = {}
    for task in sorted({r.task for r in records}):
        experiments[task], identity = _experiment(client, task, runs, uri)
        offsets.know(task, identity)
    created = sent = skipped = 0
    parents: dict[tuple[str, str], str] = {}
    for stage in records:
        # Read again under the lock: another sync may have sent a newer state than the one we were called with.
        if not offsets.news(stage) or not offsets.news(stage := reader.read_one(stage.folder)) or stage.problem:
            skipped += 1
            continue
        names = members.get((stage.task, stage.digest), [])
        owner = (stage.task, names[0]) if names else None
        if owner and owner not in parents:
            parents[owner] = _parent(client, experiments[stage.task], stage, names[0])
        known, new = _run(client, experiments[stage.task], stage, offsets, names, parents.get(owner))
        sent += _send_stage(client, stage, known, names, uri)
        created += new
        offsets.stages[view.key(stage)] = known
        offsets.save(at_least=1.0)
    for (task, name), run in parents.items():
        wanted = {digest for (of, digest), names in members.items() if of == task and names[0] == name}
        started = [r for r in records if r.task == task and r.digest in wanted]
        _set_parent_state(client, run, started, ended=len(started) == len(wanted))
    return SyncResult(created, sent, skipped)


def _run(client, experiment, stage, offsets, sweeps, parent) -> tuple[dict, bool]:
    """The stage's entry of the offsets and whether its run is new: created only where no run carries its digest."""
    found, known = _find(client, experiment, stage), offsets.stages.get(view.key(stage))
    if not (found and known and found["run"] == known["run"]):  # someone deleted the run, or the offsets
        known = found
    if known and not view.valid(stage, known):
        client.delete_run(known["run"])
        known = None
    if known:
        return dict(known), False
    labels = view.tags(stage, sweeps) | ({"mlflow.parentRunId": parent} if parent else {})
    name = str(stage.config.get("label") or f"{stage.method} {stage.digest[:8]}")
    started = view.milliseconds(stage.status.get("started"))
    run = client.create_run(experiment, start_time=started, tags=labels, run_name=name)
    return {"run": run.info.run_id, "offset": 0, "seal": 0, "state": ""}, True


def _find(client, experiment, stage) -> dict | None:
    """The run that carries the stage's digest, and how far it was filled (its ``synced`` tag, written last)."""
    found = client.search_runs([experiment], f"tags.digest = '{stage.digest}'", max_results=1, order_by=["created ASC"])
    if not found:
        return None
    offset, checksum, state = (found[0].data.tags.get("synced") or "0 0 -").split()
    return {"run": found[0].info.run_id, "offset": int(offset), "seal": int(checksum), "state": state.strip("-")}


def _send_stage(client, stage, known, sweeps, uri) -> int:
    """Send what is new of one stage and bring ``known`` up to date; returns the number of values sent."""
    from mlflow.entities import Metric, Param, RunTag

    run, end = known["run"], view.committed(stage)
    values = [Metric(*value) for value in view.points(stage, known["offset"], end)]
    values += [Metric(*value) for value in view.final(stage)] if stage.done else []
    # Parameters cannot change, but the end may add one: a sparsity that rounds decide.
    params = [] if known["state"] and not stage.done else [Param(*pair) for pair in view.parameters(stage).items()]
    known.update(offset=end, seal=view.seal(stage, end), state=stage.state)
    # The tag that says how far the run is filled goes with the last batch, which MLflow writes after its values.
    labels = view.tags(stage, sweeps) | {"synced": f"{end} {known['seal']} {stage.state}"}
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
    if stage.state in ENDED:
        client.set_terminated(run, ENDED[stage.state], view.milliseconds(stage.status.get("updated")))
    else:
        client.update_run(run, status="RUNNING" if stage.state == "running" else "SCHEDULED")
    return len(values)


def _parent(client, experiment, stage, name) -> str:
    """The run that stands for a sweep, created with its first stage."""
    found = client.search_runs([experiment], f"tags.kind = 'sweep' and tags.sweep = '{name}'", max_results=1)
    if found:
        return found[0].info.run_id
    labels = {"kind": "sweep", "sweep": name, "task": stage.task}
    started = view.milliseconds(stage.status.get("started"))
    return client.create_run(experiment, start_time=started, tags=labels, run_name=name).info.run_id


def _set_parent_state(client, run, stages, ended) -> None:
    """A sweep has ended when all its stages have; it failed when one of them did."""
    if ended and all(stage.state in ENDED for stage in stages):
        end = max(view.milliseconds(stage.status.get("updated")) for stage in stages)
        client.set_terminated(run, ENDED["failed" if any(s.state == "failed" for s in stages) else "done"], end)
    else:
        client.update_run(run, status="RUNNING")


def _experiment(client, task, runs, uri) -> tuple[str, str]:
    """The experiment named after the task, created once: its id, and what tells it from one in another database."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(task)
    if found is None:
        # A local view keeps its artifacts beside the runs; a server decides for itself.
        place = (runs / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
        try:
            client.create_experiment(task, artifact_location=place, tags=TRAINING)
        except MlflowException as problem:
            if problem.error_code != "RESOURCE_ALREADY_EXISTS":  # then another machine's sync was quicker
                raise
        found = client.get_experiment_by_name(task)
    elif found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    for key, value in TRAINING.items():  # an experiment made by an earlier version, or by hand
        if key not in found.tags:
            client.set_experiment_tag(found.experiment_id, key, value)
    return found.experiment_id, f"{found.experiment_id}/{found.creation_time}"


@contextlib.contextmanager
def _mlflow(uri: str, own: bool):
    """An MLflow client that is quiet, patient for seconds instead of minutes, and reports to nobody.

    Our ``own`` database file is written without waiting for the disk (half the time, a tenth where the disk is slow): a
    killed process does it no harm, and what a power cut destroys is deleted and filled again from the records.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3")]
    levels = [logger.level for logger in loggers]
    from mlflow import MlflowClient

    if own:
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        event.listen(Engine, "connect", database_file.unhurried)
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        path = Path(uri[len("sqlite:///") :])
        uri = f"sqlite:///{path.parent}{'/.' * _replaced.count(path)}/{path.name}" if own else uri
        yield MlflowClient(tracking_uri=uri)
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
        if own:
            event.remove(Engine, "connect", database_file.unhurried)


def _failures() -> tuple[type[BaseException], ...]:
    """What MLflow and the libraries under it raise when an address cannot be used."""
    failures: tuple[type[BaseException], ...] = (OSError, ImportError, UnicodeDecodeError)
    with contextlib.suppress(ImportError):  # a server needs no SQL library
        from mlflow.exceptions import MlflowException

        failures += (MlflowException,)
        from sqlalchemy.exc import SQLAlchemyError

        failures += (SQLAlchemyError,)
    return failures
