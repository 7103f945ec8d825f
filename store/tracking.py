"""The mirror of a warehouse in MLflow: the same numbers, where runs are searched and compared.

    experiment             the study's name
    run                    one study run: its settings as params, its curves as metrics with
                           step = pretraining step, report, figures and tables as artifacts
        child run          one checkpoint, with metrics named `<monitor>_<domain>`
            LoggedModel    the same checkpoint and numbers on MLflow's models page

The study run carries the tag `grokpath.fingerprint` and is marked finished last. An export that
finds a finished run with its key does nothing; one that finds the remains of a broken export
deletes them and starts over. So exporting twice changes nothing, and a finished run is whole.

The store is the one given, else `MLFLOW_TRACKING_URI`, else a SQLite file in the data root.
"""
# ruff: noqa: E402 (MLflow reads its settings from the environment while it is imported)

import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

import pyarrow.csv
import pyarrow.parquet
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
from sqlalchemy.exc import SQLAlchemyError

from store.addresses import is_server, redacted, run_page
from store.mirror import (
    TABLES,
    CheckpointMirror,
    Point,
    checkpoint_mirrors,
    study_params,
    study_points,
    study_row,
)
from store.provenance import provenance
from store.warehouse import query

EXPERIMENT_KIND = "custom_model_development"
"""Opens MLflow's pages in their model-training mode rather than the one for agents."""

FINGERPRINT_TAG = "grokpath.fingerprint"
STUDY_RUN_TAG = "grokpath.study_run"
ENTITIES_PER_CALL = 1000
PARAMS_PER_CALL = 100

STORES = "http://, https://, sqlite:///, postgresql://, mysql:// or mssql://"
# SQLite says these of a file that is no store or a damaged one; of a locked or full one, others.
BROKEN_FILE = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# The one telling phrase in what the HTTP library says of a request that failed.
WHY = re.compile(
    r"(?<=\] )[A-Za-z][\w ]+|timed out|too many \d+ error responses|error code \d+"
    r"|response body was not in a valid JSON format"
)


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
    with _reaching(uri):
        _prepare(uri, data_root)
        client = MlflowClient(uri)
        experiment_id = _experiment(client, study["name"], uri, data_root)
        found = _study_runs(client, experiment_id, run_key)
        finished = [run for run in found if run.info.status == "FINISHED"]
        if finished:
            return _result(uri, experiment_id, finished[0].info.run_id)
        for run in found:
            _discard(client, experiment_id, run.info.run_id)
        run_id = _start(client, experiment_id, study, run_key)
        _log(client, run_id, study_points(database), study_params(study["spec_yaml"]))
        _log_files(client, run_id, study["spec_yaml"], database, report_dir)
        for checkpoint in checkpoint_mirrors(database):
            _log_checkpoint(client, experiment_id, run_id, checkpoint)
        client.set_terminated(run_id, "FINISHED")
    return _result(uri, experiment_id, run_id)


def exists(run_key: str, *, study: str, data_root: Path, tracking_uri: str | None = None) -> bool:
    """Whether a whole export of this run of a study (by name) is in MLflow; creates nothing.

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
    with _reaching(uri):
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(study)
        if experiment is None or experiment.lifecycle_stage != "active":
            return False
        runs = _study_runs(client, experiment.experiment_id, run_key)
    return any(run.info.status == "FINISHED" for run in runs)


# ---------------------------------------------------------------- what is written


def _start(client: MlflowClient, experiment_id: str, study: Mapping[str, str], run_key: str) -> str:
    made_with = provenance()
    tags = {
        FINGERPRINT_TAG: run_key,
        "grokpath.kind": "study",
        "grokpath.version": made_with["packages"]["grokpath"] or "unknown",
        "grokpath.spec_fingerprint": study["spec_fingerprint"],
        "mlflow.source.name": "grokpath",
        "mlflow.source.git.commit": made_with["git_commit"] or "unknown",
        "mlflow.note.content": f"{study['title']}\n\n{study['description']}".strip(),
    }
    run = client.create_run(experiment_id, tags=tags, run_name=f"{study['name']} {run_key[:8]}")
    run_id: str = run.info.run_id
    return run_id


def _log_files(
    client: MlflowClient, run_id: str, spec_yaml: str, database: Path, report_dir: Path | None
) -> None:
    client.log_text(run_id, spec_yaml, "study.yaml")
    with tempfile.TemporaryDirectory() as folder:
        for name in TABLES:
            table = query(database, f"FROM {name}")
            pyarrow.csv.write_csv(table, Path(folder) / f"{name}.csv")
            pyarrow.parquet.write_table(table, Path(folder) / f"{name}.parquet")
        client.log_artifacts(run_id, folder, "tables")
    if report_dir is not None:
        client.log_artifacts(run_id, str(report_dir), "report")


def _log_checkpoint(
    client: MlflowClient, experiment_id: str, study_run_id: str, checkpoint: CheckpointMirror
) -> None:
    """One child run and one LoggedModel with the same params and metrics."""
    tags = {STUDY_RUN_TAG: study_run_id, "grokpath.kind": "checkpoint"}
    run_id = client.create_run(
        experiment_id,
        tags={**tags, "mlflow.parentRunId": study_run_id},
        run_name=checkpoint.title,
    ).info.run_id
    model_id = client.create_logged_model(
        experiment_id,
        name=checkpoint.title,
        source_run_id=run_id,
        tags=tags,
        params=checkpoint.params,
        model_type=checkpoint.family,
    ).model_id
    _log(client, run_id, checkpoint.points, checkpoint.params, model_id)
    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=checkpoint.step)])
    client.finalize_logged_model(model_id, "READY")
    client.set_terminated(run_id, "FINISHED")


def _log(
    client: MlflowClient,
    run_id: str,
    points: Sequence[Point],
    params: Mapping[str, str],
    model_id: str | None = None,
) -> None:
    """Log metrics and params in as few calls as MLflow's limits allow."""
    now = time.time_ns() // 1_000_000
    metrics = [Metric(p.name, p.value, now, p.step, model_id=model_id) for p in points]
    pairs = [Param(name, value) for name, value in params.items()]
    while metrics or pairs:
        some, pairs = pairs[:PARAMS_PER_CALL], pairs[PARAMS_PER_CALL:]
        room = ENTITIES_PER_CALL - len(some)
        client.log_batch(run_id, metrics=metrics[:room], params=some)
        metrics = metrics[room:]


# ---------------------------------------------------------------- what is there already


def _experiment(client: MlflowClient, name: str, uri: str, data_root: Path) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # A server knows where artifacts go; a bare database would put them in the working folder.
        location = None if is_server(uri) else (data_root.absolute() / "mlartifacts").as_uri()
        created: str = client.create_experiment(
            name, artifact_location=location, tags={"mlflow.experimentKind": EXPERIMENT_KIND}
        )
        return created
    experiment_id: str = experiment.experiment_id
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment_id)
    return experiment_id


def _study_runs(client: MlflowClient, experiment_id: str, run_key: str) -> list[Run]:
    wanted = f"tags.`{FINGERPRINT_TAG}` = '{run_key}'"
    return _pages(lambda token: client.search_runs([experiment_id], wanted, page_token=token))


def _discard(client: MlflowClient, experiment_id: str, study_run_id: str) -> None:
    """Delete the remains of a broken export; the study run last, so that it can be found again."""
    place, wanted = [experiment_id], f"tags.`{STUDY_RUN_TAG}` = '{study_run_id}'"
    for model in _pages(lambda at: client.search_logged_models(place, wanted, page_token=at)):
        client.delete_logged_model(model.model_id)
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


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    """Turn reports of a store that cannot be used into errors that say what to do.

    MLflow's own error for an unknown scheme cannot be unpickled, so no other process may meet it.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, ModuleNotFoundError) as error:
        explained = _explained(uri, error)
        if explained is None:
            raise
        raise explained from None


def _explained(uri: str, error: Exception) -> Exception | None:
    """The error to raise instead, None for one that has nothing to do with reaching the store."""
    shown = redacted(uri)
    if isinstance(error, UnsupportedModelRegistryStoreURIException):
        return ValueError(
            f"{shown} names no MLflow store; expected a URI that starts with {STORES}: correct "
            "MLFLOW_TRACKING_URI, or unset it to use the embedded store"
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
            f"({found[0] if found else 'no valid answer'}); start it, correct "
            "MLFLOW_TRACKING_URI, or unset it to use the embedded store, then export again"
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
        f"{path} cannot be used as an MLflow store ({reason}); mend that or correct "
        "MLFLOW_TRACKING_URI, then run again"
    )


def _result(uri: str, experiment_id: str, run_id: str) -> TrackingResult:
    shown = redacted(uri)
    hint = (
        run_page(uri, experiment_id, run_id)
        if is_server(uri)
        else f"mlflow ui --backend-store-uri {shown}"
    )
    return TrackingResult(shown, experiment_id, run_id, hint)
