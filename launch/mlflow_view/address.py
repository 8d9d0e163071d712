"""Where the MLflow view is kept, and what to say when it cannot be reached."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from common.errors import UserError
from launch.mlflow_view import database


class NoAnswer(Exception):
    """What a server said is nothing that MLflow would say."""

    def __init__(self, wanted: str) -> None:
        super().__init__(
            f"it answers, but not as MLflow does: expected {wanted}; is this the address of an MLflow server?"
        )


def address(runs: Path) -> str:
    """Where the view is kept: ``MLFLOW_TRACKING_URI``, or a database file in the runs folder."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or own_file(runs)
    try:
        urlsplit(uri)
    except ValueError as problem:
        raise UserError(
            f"MLFLOW_TRACKING_URI is no address ({problem}); expected something like http://host:5000"
        ) from problem
    return uri


def own_file(runs: Path) -> str:
    return f"sqlite:///{Path(runs).absolute() / 'mlflow.db'}"


def shown(text: str, uri: str | None = None) -> str:
    """A text (or the address itself) without the user name and password of the address in it."""
    user = urlsplit(uri or text).netloc.rpartition("@")[0]
    return text.replace(f"{user}@", "") if user else text


def refusal(problem: BaseException, runs: Path, uri: str) -> UserError:
    """What to say where MLflow did not take the records."""
    lines = [line for line in str(problem).splitlines() if line.strip() and not line.startswith("(raised as a result")]
    reason = (lines or [type(problem).__name__])[0]
    if type(problem).__name__ == "ParseError":  # of MLflow's own parser of answers
        reason = str(NoAnswer(f"what can be read, and found something else ({reason})"))
    if database.foreign(problem):
        reason = f"it is a database of another version of MLflow than the one that is installed here: {reason}"
    if "Max retries exceeded" in reason:  # the innermost of four nested messages says what it was
        reason = reason.rpartition(": ")[2].rstrip("'\")")
    return UserError(
        f"MLflow at {shown(uri)} did not take the records ({shown(reason[:300], uri)}). Nothing is lost: they are in "
        f"{runs}, and the next `make sync` sends what is missing. MLFLOW_TRACKING_URI sets the address; "
        "without it the view is mlflow.db in the runs folder, which may be deleted at any time"
    )
