"""Our own MLflow database, which may be thrown away: is it whole, which errors say it is not, moving it aside."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

# What SQLite says of a database whose tables are not what MLflow left: a migration was cut off, or bytes changed.
SIGNS = (
    "duplicate column",
    "already exists",
    "no such table",
    "no such column",
    "has no column",
    "decode",
    "malformed",
)


def condition(database: Path, thorough: bool = False) -> str:
    """ "absent", "empty", "damaged" or "usable", as quickly as SQLite can tell (``thorough`` reads the whole file).

    A file that another process has locked, or that cannot be opened at the moment, counts as usable.
    """
    if not database.is_file():
        return "damaged" if database.is_dir() else "absent"
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=1)) as connection:
            if thorough and connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                return "damaged"
            tables = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'experiments'").fetchone()
        return "usable" if tables[0] else "empty"
    except sqlite3.DatabaseError as problem:
        return "damaged" if shows_damage(problem) else "usable"


def shows_damage(problem: BaseException | None) -> bool:
    """Whether an error, or one behind it, says that a database is broken; not that it is locked or its disk full."""
    while problem is not None:
        if isinstance(problem, sqlite3.OperationalError):  # most of these are about the world around the file
            if any(sign in str(problem) for sign in SIGNS):
                return True
        elif isinstance(problem, (sqlite3.DatabaseError, UnicodeDecodeError, RecursionError)) or foreign(problem):
            return True
        problem = problem.__cause__ or problem.__context__
    return False


def foreign(problem: BaseException) -> bool:
    """Whether it says that another version of MLflow made the database."""
    return "database schema (" in str(problem) or type(problem).__name__ == "CommandError"  # alembic's


def refuses(uri: str) -> str:
    """Why a database in a file cannot even be opened, "" where it can, or is none: MLflow would try for minutes."""
    path = Path(uri[len("sqlite:///") :]) if uri.startswith("sqlite:///") else None
    if path is None or not path.name:
        return ""
    try:
        if path.is_dir() or not path.parent.is_dir():
            return "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        with open(path, "rb"):
            return ""
    except FileNotFoundError:
        return ""
    except OSError as problem:
        return problem.strerror or str(problem)


def set_aside(database: Path) -> Path:
    """Move a database out of the way, with the journals that SQLite would otherwise play into its successor."""
    aside = database.with_name(f"{database.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for ending in ("-journal", "-wal", "-shm"):
        journal = database.with_name(database.name + ending)
        if journal.exists():
            journal.rename(aside.with_name(aside.name + ending))
    return database.rename(aside)


def unhurried(connection: sqlite3.Connection, _: object) -> None:
    """For SQLAlchemy's connect event: do not wait for the disk."""
    connection.execute("PRAGMA synchronous = OFF")
