"""The runs of MLflow that stand for stages and sweeps: one each, looked for before it is created.

MLflow gives every run a number of its own, so that two syncs that cannot lock each other out (two machines whose file
system has no locks) may both create one. Each looks again after it has created: of several the first number stays, the
others are deleted. All decide alike, and who comes last sees all of them, so one remains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from launch.mlflow_view import content
from launch.mlflow_view.address import NoAnswer
from launch.runs.records import Record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def stage(
    client: MlflowClient, experiment: str, record: Record, known: dict | None, labels: dict[str, str]
) -> tuple[dict, bool]:
    """The stage's entry of the offsets (see ``launch.mlflow_view.offsets``), and whether its run is new."""
    condition = f"tags.digest = '{record.digest}'"
    found = _find(client, experiment, condition)
    if found and not (known and found.info.run_id == known["run"]):  # someone deleted the run, or the offsets
        known = _filled(found)
    if found and known and content.valid(record, known):
        return dict(known), False
    if found:
        client.delete_run(found.info.run_id)
    name = str(record.config.get("label") or f"{record.method} {record.digest[:8]}")
    made, kept = _create(client, experiment, condition, name, content.began(record), labels)
    return _filled(kept), made


def sweep(client: MlflowClient, experiment: str, task: str, name: str, start: int) -> str:
    """The run of a sweep; ``start`` in milliseconds."""
    condition = f"tags.kind = 'sweep' and tags.sweep = '{name}'"
    labels = {"kind": "sweep", "sweep": name, "task": task}
    found = _find(client, experiment, condition) or _create(client, experiment, condition, name, start, labels)[1]
    return found.info.run_id


def there(client: MlflowClient, experiment: str) -> tuple[set[str], set[str]]:
    """The ids of all runs of an experiment that nobody deleted, and the names of the sweeps among them."""
    ids, names, token = set(), set(), None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        ids |= {run.info.run_id for run in page}
        names |= {run.data.tags.get("sweep", "") for run in page if run.data.tags.get("kind") == "sweep"}
        token = page.token
        if not token:
            return ids, names


def set_status(client: MlflowClient, run: str, status: str, end: int | None) -> None:
    """``end``: milliseconds, for a run that has ended."""
    if status in content.ENDED:
        client.set_terminated(run, status, end)
    else:
        client.update_run(run, status=status)


def _create(
    client: MlflowClient, experiment: str, condition: str, name: str, start: int, labels: dict[str, str]
) -> tuple[bool, Run]:
    """Whether the run that remains is the one created here, and that run."""
    made = client.create_run(experiment, start_time=start, tags=labels, run_name=name)
    if not made.info.run_id:
        raise NoAnswer("the id of a new run")
    kept = _find(client, experiment, condition) or made
    return kept.info.run_id == made.info.run_id, kept


def _find(client: MlflowClient, experiment: str, condition: str) -> Run | None:
    """The run that fulfils the condition, or None."""
    found = sorted(client.search_runs([experiment], condition, max_results=50), key=lambda run: run.info.run_id)
    if not all(run.info.run_id for run in found):
        raise NoAnswer("runs with an id")
    for other in found[1:]:
        client.delete_run(other.info.run_id)
    return found[0] if found else None


def _filled(run: Run) -> dict:
    """How far a run was filled: its ``synced`` tag, written last."""
    try:
        offset, checksum, state = (run.data.tags.get("synced") or "0 0 -").split()
        return {"run": run.info.run_id, "offset": int(offset), "seal": int(checksum), "state": state.strip("-")}
    except ValueError:  # somebody changed it: all is sent again, which leaves each point once
        return {"run": run.info.run_id, "offset": 0, "seal": 0, "state": ""}
