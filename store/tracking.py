"""The mirror of a warehouse in MLflow: the same numbers, where runs are searched and compared.

    experiment             the study's name
    run                    one study run: its settings as params, its curves as metrics with
                           step = pretraining step, report, figures and tables as artifacts
        child run          one checkpoint, with metrics named `<monitor>_<domain>`
            LoggedModel    the same checkpoint and numbers on MLflow's models page

The study run carries the tag `grokpath.fingerprint` and is marked finished last. An export that
finds a finished run with its key does nothing. One that has finished deletes what others with its
key have left unfinished, be it the remains of a crash or an export that goes on at the same time;
the latter then finds the finished one and takes it. So exporting twice, or by two at once, leaves
one run, and a finished run is complete.

The store is the one given, else `MLFLOW_TRACKING_URI`, else a SQLite file in the data root.
"""
# ruff: noqa: E402 (MLflow reads its settings from the environment while it is imported)

import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

for _name, _setting in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server that is away is given up after seconds, not minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}.items():
    os.environ.setdefault(_name, _setting)

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
from sqlalchemy.exc import SQLAlchemyError

from store.addresses import STORES, WHAT_TO_DO, is_server, redacted, run_page
from store.mlflow_rows import study_row
from store.mlflow_run import FINGERPRINT_TAG, STUDY_RUN_TAG, fill, start

Answer = TypeVar("Answer")

# SQLite says these of a file that is no store or a damaged one; of a locked or full one, others.
BROKEN_FILE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# The one useful phrase in what the HTTP library says of a request that failed.
WHY = re.compile(
    r"(?<=\] )[A-Za-z][\w ]+|timed out|too many \d+ error responses|error code \d+"
    r"|response body was not in a valid JSON format"
)
EXPERIMENT_KIND = "custom_model_development"
"""Opens MLflow's pages in their model-training mode rather than the one for agents."""


@dataclass(frozen=True)
class TrackingResult:
    """Where a study run is found in MLflow; addresses are without user name and password."""

    tracking_uri: str
    experiment_id: str
    run_id: str
    hint: str
    """Address of the run's page, or the command that shows it."""


def export(
    database: Path,
    report_dir: Path | None,
    *,
    run_key: str,
    data_root: Path,
    tracking_uri: str | None = None,
) -> TrackingResult:
    """Mirror a warehouse in MLflow, unless a finished run with the same key is already there.

    Parameters
    ----------
    database
        The warehouse; every number is read from it.
    report_dir
        Folder with the report and its figures, stored as artifacts of the run; None for none.
    run_key
        Identity of the study run; two runs with the same key are the same run.
    data_root
        Folder of the embedded store (`mlflow.db`, `mlartifacts/`).
    tracking_uri
        MLflow server or database; see the top of this module for the default.

    Raises
    ------
    ConnectionError
        The server does not answer.
    ValueError
        The warehouse or the MLflow database cannot be read, or the URI names no MLflow store.
    """
    study = study_row(database)
    uri = _resolve(tracking_uri, data_root)
    return reached(uri, lambda: _export(study, database, report_dir, run_key, uri, data_root))


def _export(
    study: dict[str, str],
    database: Path,
    report_dir: Path | None,
    run_key: str,
    uri: str,
    data_root: Path,
) -> TrackingResult:
    _prepare(uri, data_root)
    client = MlflowClient(uri)
    experiment_id = _experiment(client, study["name"], uri, data_root)
    run = _finished(client, experiment_id, run_key)
    if run is None:
        run_id = start(client, experiment_id, study, run_key)
        try:
            fill(client, experiment_id, run_id, database, report_dir)
            client.set_terminated(run_id, "FINISHED")
        except MlflowException:
            if _finished(client, experiment_id, run_key) is None:
                raise
            _discard(client, experiment_id, run_id)  # another export was quicker
        run = _settle(client, experiment_id, run_key)
    return _result(uri, experiment_id, run.info.run_id)


def exists(run_key: str, *, study: str, data_root: Path, tracking_uri: str | None = None) -> bool:
    """Whether a complete export of this run of a study (by name) is in MLflow; creates nothing.

    Raises
    ------
    ConnectionError
        The server does not answer.
    ValueError
        The MLflow database cannot be read, or the URI names no MLflow store.
    """
    uri = _resolve(tracking_uri, data_root)
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return False
    return reached(uri, lambda: _exists(run_key, study, uri))


def _exists(run_key: str, study: str, uri: str) -> bool:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(study)
    if experiment is None or experiment.lifecycle_stage != "active":
        return False
    return _finished(client, experiment.experiment_id, run_key) is not None


# ---------------------------------------------------------------- what is there already


def _experiment(client: MlflowClient, name: str, uri: str, data_root: Path) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # A server knows where artifacts go; a bare database would put them in the working folder.
        location = None if is_server(uri) else (data_root.absolute() / "mlartifacts").as_uri()
        kind = {"mlflow.experimentKind": EXPERIMENT_KIND}
        try:
            created: str = client.create_experiment(name, artifact_location=location, tags=kind)
            return created
        except MlflowException as error:
            experiment = client.get_experiment_by_name(name)  # another export was quicker
            if experiment is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    experiment_id: str = experiment.experiment_id
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment_id)
    return experiment_id


def _study_runs(client: MlflowClient, experiment_id: str, run_key: str) -> list[Run]:
    wanted = f"tags.`{FINGERPRINT_TAG}` = '{run_key}'"
    return _pages(lambda token: client.search_runs([experiment_id], wanted, page_token=token))


def _finished(client: MlflowClient, experiment_id: str, run_key: str) -> Run | None:
    """The complete export with this key; of two, the one that was finished first."""
    found = _study_runs(client, experiment_id, run_key)
    complete = [run for run in found if run.info.status == "FINISHED"]
    return min(complete, key=lambda run: (run.info.end_time, run.info.run_id), default=None)


def _settle(client: MlflowClient, experiment_id: str, run_key: str) -> Run:
    """Leave one complete export with this key, and no remains of a broken or slower one.

    An export that goes on elsewhere meets a deleted run, and then finds this one.
    """
    first = _finished(client, experiment_id, run_key)
    assert first is not None
    for run in _study_runs(client, experiment_id, run_key):
        if run.info.run_id != first.info.run_id:
            _discard(client, experiment_id, run.info.run_id)
    return first


def _discard(client: MlflowClient, experiment_id: str, study_run_id: str) -> None:
    """Delete an export; the study run last, so that it can be found again."""
    place, wanted = [experiment_id], f"tags.`{STUDY_RUN_TAG}` = '{study_run_id}'"
    for model in _pages(lambda at: client.search_logged_models(place, wanted, page_token=at)):
        try:
            client.delete_logged_model(model.model_id)
        except MlflowException as error:  # somebody else discards the same remains
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    for child in _pages(lambda at: client.search_runs(place, wanted, page_token=at)):
        client.delete_run(child.info.run_id)
    client.delete_run(study_run_id)


def _pages(search: Callable[[str | None], Any]) -> list[Any]:
    page = search(None)
    found = list(page)
    while page.token:
        page = search(page.token)
        found += page
    return found


# ---------------------------------------------------------------- where it is


def _resolve(tracking_uri: str | None, data_root: Path) -> str:
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return uri
    return f"sqlite:///{data_root.absolute() / 'mlflow.db'}"


def _prepare(uri: str, data_root: Path) -> None:
    """Make the embedded store's file, logging ahead: half the time, and readers need not wait."""
    file = data_root.absolute() / "mlflow.db"
    if uri == f"sqlite:///{file}" and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")


def _result(uri: str, experiment_id: str, run_id: str) -> TrackingResult:
    shown = redacted(uri)
    hint = (
        run_page(uri, experiment_id, run_id)
        if is_server(uri)
        else f"mlflow ui --backend-store-uri {shown}"
    )
    return TrackingResult(shown, experiment_id, run_id, hint)


# ---------------------------------------------------------------- a store that cannot be used


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
