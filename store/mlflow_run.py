"""What is written into MLflow for one study run: params, curves, files, data sets, checkpoints.

A server answers several calls at once, so checkpoints are sent side by side
(benchmarks/mlflow_export.md); :mod:`store.tracking` decides whether anything is written at all.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
)
from mlflow.exceptions import MlflowException

from store.addresses import is_server
from store.mlflow_rows import (
    TABLES,
    CheckpointMirror,
    DataSet,
    Point,
    checkpoint_mirrors,
    data_sets,
    study_params,
    study_points,
    study_row,
)
from store.provenance import provenance
from store.warehouse import reading

FINGERPRINT_TAG = "grokpath.fingerprint"
STUDY_RUN_TAG = "grokpath.study_run"
ENTITIES_PER_CALL = 1000
PARAMS_PER_CALL = 100
NUM_CALLERS = 4
"""Checkpoints that are sent to a server at once; it has as many workers."""


def start(client: MlflowClient, experiment_id: str, study: Mapping[str, str], run_key: str) -> str:
    """Begin the study run; returns its id."""
    versions = provenance()
    tags = {
        FINGERPRINT_TAG: run_key,
        "grokpath.kind": "study",
        "grokpath.version": versions["packages"]["grokpath"] or "unknown",
        "grokpath.spec_fingerprint": study["spec_fingerprint"],
        "mlflow.source.name": "grokpath",
        "mlflow.source.git.commit": versions["git_commit"] or "unknown",
        "mlflow.note.content": f"{study['title']}\n\n{study['description']}".strip(),
    }
    run = client.create_run(experiment_id, tags=tags, run_name=f"{study['name']} {run_key[:8]}")
    run_id: str = run.info.run_id
    return run_id


def fill(
    client: MlflowClient, experiment_id: str, run_id: str, database: Path, report_dir: Path | None
) -> None:
    """Everything below the study run; side by side where a server answers several at once."""
    spec_yaml = study_row(database)["spec_yaml"]
    _log_inputs(client, run_id, _inputs(database))
    _log(client, run_id, study_points(database), study_params(spec_yaml))
    at_once = NUM_CALLERS if is_server(client.tracking_uri) else 1
    now = time.time_ns() // 1_000_000
    with ThreadPoolExecutor(at_once) as callers:
        files = callers.submit(_log_files, client, run_id, spec_yaml, database, report_dir)
        # Started a millisecond apart, so that MLflow lists them in order.
        sent = callers.map(
            lambda numbered: _log_checkpoint(
                client, experiment_id, run_id, numbered[1], now + numbered[0]
            ),
            enumerate(checkpoint_mirrors(database)),
        )
        try:
            list(sent)
            files.result()
        except BaseException:
            callers.shutdown(cancel_futures=True)
            raise


def _log_inputs(client: MlflowClient, run_id: str, inputs: list[DatasetInput]) -> None:
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException as error:
        if "unique" not in str(error).lower():
            raise
        # MLflow looks a data set up and then inserts it: another export did so in between.
        client.log_inputs(run_id, inputs)


def _inputs(database: Path) -> list[DatasetInput]:
    """Every data set once, with the series that read it."""
    readers: dict[DataSet, list[str]] = {}
    for (series, _, _), data_set in data_sets(database).items():
        readers.setdefault(data_set, []).append(series)
    return [
        DatasetInput(
            Dataset(one.name, one.digest, one.source_type, one.source, profile=one.profile),
            [
                InputTag("mlflow.data.context", one.context),
                InputTag("grokpath.series", ", ".join(dict.fromkeys(series))),
            ],
        )
        for one, series in readers.items()
    ]


def _log_files(
    client: MlflowClient, run_id: str, spec_yaml: str, database: Path, report_dir: Path | None
) -> None:
    client.log_text(run_id, spec_yaml, "study.yaml")
    with tempfile.TemporaryDirectory() as folder, reading(database) as ask:
        for name in TABLES:
            table = ask(f"FROM {name}")
            pyarrow.csv.write_csv(table, Path(folder) / f"{name}.csv")
            pyarrow.parquet.write_table(table, Path(folder) / f"{name}.parquet")
        client.log_artifacts(run_id, folder, "tables")
    if report_dir is not None:
        client.log_artifacts(run_id, str(report_dir), "report")


def _log_checkpoint(
    client: MlflowClient,
    experiment_id: str,
    study_run_id: str,
    checkpoint: CheckpointMirror,
    started_at: int,
) -> None:
    """One child run and one LoggedModel with the same params and metrics."""
    tags = {STUDY_RUN_TAG: study_run_id, "grokpath.kind": "checkpoint"}
    run_id = client.create_run(
        experiment_id,
        start_time=started_at,
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
    metrics = [_metric(point, now, model_id) for point in points]
    pairs = [Param(name, value) for name, value in params.items()]
    while metrics or pairs:
        some, pairs = pairs[:PARAMS_PER_CALL], pairs[PARAMS_PER_CALL:]
        room = ENTITIES_PER_CALL - len(some)
        client.log_batch(run_id, metrics=metrics[:room], params=some)
        metrics = metrics[room:]


def _metric(point: Point, now: int, model_id: str | None) -> Metric:
    on = point.measured_on
    return Metric(
        point.name,
        point.value,
        now,
        point.step,
        model_id=model_id,
        dataset_name=None if on is None else on.name,
        dataset_digest=None if on is None else on.digest,
    )
