"""Where the MLflow view is kept, and what to say when it cannot be reached."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from common.errors import UserError


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
    reason = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    if "Max retries exceeded" in reason:  # the innermost of four nested messages says what it was
        reason = reason.rpartition(": ")[2].rstrip("'\")")
    return UserError(
        f"MLflow at {shown(uri)} did not take the records ({shown(reason[:300], uri)}). Nothing is lost: they are in "
        f"{runs}, and the next `make sync` sends what is missing. MLFLOW_TRACKING_URI sets the address; "
        "without it the view is mlflow.db in the runs folder, which may be deleted at any time"
    )
