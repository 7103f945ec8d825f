"""What is wrong with an MLflow store that cannot be used, and what to do, in one message."""

import re
import sqlite3
from collections.abc import Callable
from typing import TypeVar

from mlflow.exceptions import MlflowException
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
from sqlalchemy.exc import SQLAlchemyError

from store.addresses import STORES, WHAT_TO_DO, is_server, redacted

Answer = TypeVar("Answer")

# SQLite says these of a file that is no store or a damaged one; of a locked or full one, others.
BROKEN_FILE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# The one useful phrase in what the HTTP library says of a request that failed.
WHY = re.compile(
    r"(?<=\] )[A-Za-z][\w ]+|timed out|too many \d+ error responses|error code \d+"
    r"|response body was not in a valid JSON format"
)


def reached(uri: str, ask: Callable[[], Answer]) -> Answer:
    """What `ask` answers; a store that cannot be used becomes an error that says what to do.

    MLflow's own error for an unknown scheme cannot be unpickled, so no other process may meet it:
    ours is raised where no error is being handled, because some picklers take along the one that
    was.
    """
    try:
        return ask()
    except (MlflowException, SQLAlchemyError, sqlite3.Error, ModuleNotFoundError) as error:
        clear = explained(uri, error)
        if clear is None:
            raise
    raise clear


def explained(uri: str, error: Exception) -> Exception | None:
    """The error to raise instead, None for one that has nothing to do with reaching the store."""
    shown = redacted(uri)
    if isinstance(error, UnsupportedModelRegistryStoreURIException):
        return ValueError(
            f"{shown} names no MLflow store; expected a URI that starts with {STORES}: {WHAT_TO_DO}"
        )
    if isinstance(error, ModuleNotFoundError):
        return ValueError(
            f"{shown} needs the Python package {error.name!r}, which is not installed; install it "
            "or use another MLflow store"
        )
    # Within a session MLflow wraps what the database says, SQL and all.
    cause = error.__cause__ if isinstance(error, MlflowException) else error
    if isinstance(cause, SQLAlchemyError | sqlite3.Error):
        return _unusable(shown, getattr(cause, "orig", None) or cause)
    if is_server(uri) and "API request to" in str(error):
        found = WHY.search(str(error))
        return ConnectionError(
            f"{shown} does not answer as an MLflow server "
            f"({found[0] if found else 'no valid answer'}); start it, {WHAT_TO_DO}, then run again"
        )
    return None


def _unusable(shown: str, error: BaseException) -> ValueError:
    """What to do about a database, given its driver's error."""
    path, reason = shown.removeprefix("sqlite:///"), str(error).partition("\n")[0]
    if getattr(error, "sqlite_errorcode", -1) & 0xFF in BROKEN_FILE:
        return ValueError(
            f"{path} is not a readable MLflow store ({reason}); move it away and run again, "
            "everything in it can be exported again"
        )
    return ValueError(
        f"{path} cannot be used as an MLflow store ({reason}); fix that or correct "
        "MLFLOW_TRACKING_URI, then run again"
    )
