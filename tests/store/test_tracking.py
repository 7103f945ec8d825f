import http.server
import os
import pickle
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from store import tracking
from store.mlflow_rows import CONTEXTS, safe_name, study_params
from store.tracking import FINGERPRINT_TAG, STUDY_RUN_TAG, MlflowClient, exists, export
from store.warehouse import build, query
from tests.store.invented import DOMAINS, SERIES, SPEC_YAML, STEPS, build_invented

KEY = "0123456789abcdef0123"
NUM_CHECKPOINTS = len(SERIES) * len(STEPS)


@pytest.fixture(scope="session")
def blank_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated MLflow database without runs: MLflow takes seconds to make one."""
    data_root = tmp_path_factory.mktemp("blank")
    uri = tracking._resolve(None, data_root)
    tracking._prepare(uri, data_root)
    MlflowClient(uri).search_experiments()
    return data_root / "mlflow.db"


def copy_store(blank: Path, copy: Path) -> Path:
    with closing(sqlite3.connect(blank)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


@pytest.fixture
def data_root(blank_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with an embedded store of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)  # where a stray mlruns folder would appear
    folder = tmp_path / "data"
    folder.mkdir()
    copy_store(blank_store, folder / "mlflow.db")
    return folder


@pytest.fixture
def report_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "report"
    (folder / "figures").mkdir(parents=True)
    (folder / "report.html").write_text("<h1>Report</h1>")
    (folder / "figures" / "accuracy.svg").write_text("<svg/>")
    return folder


def census(client: MlflowClient, experiment_id: str) -> dict[str, Any]:
    """Everything that counts in an experiment."""
    runs = client.search_runs([experiment_id], max_results=1000)
    return {
        "runs": sorted(run.info.run_id for run in runs),
        "unfinished": [r.info.run_id for r in runs if r.info.status != "FINISHED"],
        "params": sum(len(run.data.params) for run in runs),
        "points": sum(
            len(client.get_metric_history(run.info.run_id, name))
            for run in runs
            for name in run.data.metrics
        ),
        "models": len(client.search_logged_models([experiment_id], max_results=100)),
    }


def assert_mirrors(client: MlflowClient, experiment_id: str, run_id: str, database: Path) -> None:
    """Every number in the warehouse stands in MLflow, at its step."""
    for series in SERIES:
        for domain in DOMAINS:
            for monitor in ("accuracy", "pathway_distance", "pathway_consistency"):
                history = client.get_metric_history(run_id, f"{series}/{domain}/{monitor}")
                rows = query(
                    database,
                    f"SELECT step, value FROM curves WHERE series = '{series}' AND "
                    f"domain = '{domain}' AND monitor = '{monitor}' AND value IS NOT NULL",
                ).to_pylist()
                assert {p.step: p.value for p in history} == {r["step"]: r["value"] for r in rows}
    wanted = f"tags.`{STUDY_RUN_TAG}` = '{run_id}'"
    children = client.search_runs([experiment_id], wanted)
    assert len(children) == NUM_CHECKPOINTS
    for child in children:
        at = f"series = '{child.data.params['series']}' AND step = {child.data.params['step']}"
        curves = query(
            database,
            f"SELECT monitor || '_' || domain AS name, value FROM curves WHERE {at} AND "
            "value IS NOT NULL UNION ALL SELECT benchmark || '_' || metric, value "
            f"FROM benchmark_scores WHERE {at}",
        ).to_pylist()
        assert child.data.metrics == {row["name"]: row["value"] for row in curves}


# ---------------------------------------------------------------- the embedded store


def test_embedded_export_mirrors_the_warehouse_and_can_be_repeated(
    data_root: Path, report_dir: Path, database: Path
) -> None:
    assert not exists(KEY, study="tiny", data_root=data_root)
    result = export(database, report_dir, run_key=KEY, data_root=data_root)
    client, place = MlflowClient(result.tracking_uri), result.experiment_id
    assert result.tracking_uri == f"sqlite:///{data_root}/mlflow.db"
    assert result.hint == f"mlflow ui --backend-store-uri {result.tracking_uri}"
    assert exists(KEY, study="tiny", data_root=data_root)
    assert not exists("another", study="tiny", data_root=data_root)
    assert_mirrors(client, place, result.run_id, database)

    run = client.get_run(result.run_id)
    assert run.data.tags[FINGERPRINT_TAG] == KEY
    assert run.data.params["pathways.threshold"] == "0.7"
    assert run.data.metrics["versus_accuracy/all/main/pearson/pathway_distance_math"] == 0.25
    assert "versus_accuracy/all/shuffled/pearson/pathway_distance_math" not in run.data.metrics

    before = census(client, place)
    assert len(before["runs"]) == 1 + NUM_CHECKPOINTS
    assert before["unfinished"] == []
    assert before["models"] == NUM_CHECKPOINTS
    assert export(database, report_dir, run_key=KEY, data_root=data_root) == result
    assert census(client, place) == before
    assert [f.name for f in Path.cwd().iterdir() if f.name.startswith("ml")] == []


def test_data_sets_are_told_with_digest_and_context(data_root: Path, database: Path) -> None:
    result = export(database, None, run_key=KEY, data_root=data_root)
    inputs = MlflowClient(result.tracking_uri).get_run(result.run_id).inputs.dataset_inputs
    contexts = {
        (one.dataset.name, tag.value)
        for one in inputs
        for tag in one.tags
        if tag.key == "mlflow.data.context"
    }
    asked = query(database, "SELECT DISTINCT domain, split FROM probes").to_pylist()
    samples = {(f"{row['domain']}-{row['split']}", CONTEXTS[row["split"]]) for row in asked}
    scored = query(database, "SELECT DISTINCT benchmark FROM benchmark_documents").to_pylist()
    assert samples
    assert scored
    assert contexts == samples | {(row["benchmark"], "evaluation") for row in scored}
    assert all(re.fullmatch(r"[0-9a-f]{32}", one.dataset.digest) for one in inputs)


def test_report_and_tables_are_artifacts_of_the_run(
    data_root: Path, report_dir: Path, database: Path
) -> None:
    result = export(database, report_dir, run_key=KEY, data_root=data_root)
    client = MlflowClient(result.tracking_uri)
    names = {file.path for file in client.list_artifacts(result.run_id, "report")}
    assert names == {"report/report.html", "report/figures"}
    kept = data_root / "mlartifacts" / result.run_id / "artifacts"
    stored = pq.read_table(kept / "tables" / "correlation_table.parquet")
    assert stored.to_pylist() == query(database, "FROM correlation_table").to_pylist()
    study = Path(client.download_artifacts(result.run_id, "study.yaml"))
    assert study.read_text() == SPEC_YAML


def test_checkpoints_are_found_by_what_they_measure(data_root: Path, database: Path) -> None:
    result = export(database, None, run_key=KEY, data_root=data_root)
    client, place = MlflowClient(result.tracking_uri), [result.experiment_id]
    question = "metrics.pathway_consistency_math > 0.6 AND params.series = 'main'"
    found = client.search_runs(place, question)
    assert sorted(run.info.run_name for run in found) == ["main-step100", "main-step50"]
    assert {run.data.tags["mlflow.parentRunId"] for run in found} == {result.run_id}

    models = client.search_logged_models(place, question)
    assert sorted(model.name for model in models) == ["main-step100", "main-step50"]
    model = next(model for model in models if model.name == "main-step50")
    expected = {
        "series": "main",
        "role": "main",
        "step": "50",
        "tokens": "80000",
        "revision": "step50",
        "commit": "main-50",
    }
    assert expected.items() <= model.params.items()
    assert model.status == "READY"
    run = client.get_run(model.source_run_id)
    assert run.data.params == model.params
    assert {m.key: m.value for m in model.metrics} == run.data.metrics
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]


def test_an_export_that_was_cut_off_is_made_whole(
    data_root: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_outputs, calls = MlflowClient.log_outputs, []

    def cut_off(self: MlflowClient, run_id: str, models: list[Any]) -> None:
        calls.append(run_id)
        if len(calls) == 4:
            raise KeyboardInterrupt
        log_outputs(self, run_id, models)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_outputs", cut_off)
        with pytest.raises(KeyboardInterrupt):
            export(database, None, run_key=KEY, data_root=data_root)
    assert not exists(KEY, study="tiny", data_root=data_root)

    result = export(database, None, run_key=KEY, data_root=data_root)
    client = MlflowClient(result.tracking_uri)
    found = census(client, result.experiment_id)
    assert len(found["runs"]) == 1 + NUM_CHECKPOINTS
    assert found["unfinished"] == []
    assert found["models"] == NUM_CHECKPOINTS
    assert not set(calls) & set(found["runs"])
    assert_mirrors(client, result.experiment_id, result.run_id, database)


def test_two_runs_of_a_study_stand_side_by_side(
    data_root: Path, database: Path, tmp_path: Path
) -> None:
    other = build_invented(
        tmp_path / "other.duckdb",
        spec_yaml=SPEC_YAML.replace("threshold: 0.7", "threshold: 0.8"),
        shift=2.0,
    )
    first = export(database, None, run_key=KEY, data_root=data_root)
    second = export(other, None, run_key="another", data_root=data_root)
    assert first.experiment_id == second.experiment_id
    client = MlflowClient(first.tracking_uri)
    one, two = (client.get_run(r.run_id).data for r in (first, second))
    assert set(one.metrics) == set(two.metrics)
    assert (
        two.metrics["main/math/pathway_distance"] == 2 + one.metrics["main/math/pathway_distance"]
    )
    assert {n for n in one.params if one.params[n] != two.params[n]} == {"pathways.threshold"}


def test_a_deleted_experiment_comes_back(data_root: Path, database: Path) -> None:
    result = export(database, None, run_key=KEY, data_root=data_root)
    client = MlflowClient(result.tracking_uri)
    client.delete_experiment(result.experiment_id)
    assert not exists(KEY, study="tiny", data_root=data_root)
    export(database, None, run_key=KEY, data_root=data_root)
    assert exists(KEY, study="tiny", data_root=data_root)
    found = census(client, result.experiment_id)
    assert len(found["runs"]) == 1 + NUM_CHECKPOINTS


def test_asking_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert not exists(KEY, study="tiny", data_root=tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["random", "half", "page"])
def test_a_damaged_store_is_named(
    part: str, blank_store: Path, database: Path, tmp_path: Path
) -> None:
    file = copy_store(blank_store, tmp_path / "mlflow.db")
    whole = file.read_bytes()
    noise = random.Random(0).randbytes(5000)
    damaged = {
        "random": noise,
        "half": whole[: len(whole) // 2],
        "page": whole[:100] + noise + whole[5100:],
    }
    file.write_bytes(damaged[part])
    expected = (
        rf"^{re.escape(str(file))} is not a readable MLflow store \([a-z ]+\); move it away and "
        r"run again, everything in it can be exported again$"
    )
    with pytest.raises(ValueError, match=expected):
        exists(KEY, study="tiny", data_root=tmp_path)
    with pytest.raises(ValueError, match=expected):
        export(database, None, run_key=KEY, data_root=tmp_path)


def test_damage_that_only_a_query_meets_is_named_too(data_root: Path, database: Path) -> None:
    export(database, None, run_key=KEY, data_root=data_root)
    file = data_root / "mlflow.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root = "SELECT rootpage FROM sqlite_master WHERE name = 'experiments'"
        ((page,),) = connection.execute(root).fetchall()
        ((size,),) = connection.execute("PRAGMA page_size").fetchall()
    content = bytearray(file.read_bytes())
    content[(page - 1) * size : page * size] = b"\xff" * size
    copy = data_root / "copy"
    copy.mkdir()
    (copy / "mlflow.db").write_bytes(content)
    with pytest.raises(ValueError, match=r"not a readable MLflow store \([a-z ]+\); move it away"):
        exists(KEY, study="tiny", data_root=copy)


def test_a_store_that_is_whole_but_cannot_be_used_is_not_to_be_moved_away() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA query_only = ON")
        with pytest.raises(sqlite3.OperationalError) as caught:
            connection.execute("CREATE TABLE mine (a)")
    message = str(tracking.explained("sqlite:////data/mlflow.db", caught.value))
    assert message.startswith("/data/mlflow.db cannot be used as an MLflow store (attempt to write")
    assert "move it away" not in message


@pytest.mark.parametrize("uri", ["foo://bar", "localhost:5000", "s3://someone:secret@bucket/x"])
def test_a_tracking_uri_of_an_unknown_scheme_is_refused(
    uri: str, database: Path, tmp_path: Path
) -> None:
    for ask in (
        lambda: exists(KEY, study="tiny", data_root=tmp_path, tracking_uri=uri),
        lambda: export(database, None, run_key=KEY, data_root=tmp_path, tracking_uri=uri),
    ):
        with pytest.raises(
            ValueError, match=r"names no MLflow store; expected .*sqlite:///"
        ) as got:
            ask()
        assert str(got.value).startswith(uri.replace("someone:secret@", ""))
        assert "secret" not in str(got.value)
        assert str(pickle.loads(pickle.dumps(got.value))) == str(got.value)


def test_a_missing_database_driver_is_named(tmp_path: Path) -> None:
    error = ModuleNotFoundError("No module named 'driver'", name="driver")
    message = str(tracking.explained("mysql://someone:secret@host/db", error))
    assert message.startswith("mysql://host/db needs the Python package 'driver'")


# ---------------------------------------------------------------- a server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def server(blank_store: Path, tmp_path: Path) -> Iterator[str]:
    """A real MLflow server on loopback, with its own database and artifact folder."""
    store = copy_store(blank_store, tmp_path / "server.db")
    port, log = free_port(), tmp_path / "server.log"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{store}", "--workers", "1"),
        *("--artifacts-destination", str(tmp_path / "server-artifacts")),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **quiet},
            cwd=tmp_path,
            start_new_session=True,  # its workers belong to its group and end with it
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=20)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"the MLflow server did not start:\n{log.read_text()}")


def test_a_server_gets_the_same(
    server: str,
    report_dir: Path,
    database: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data_root = tmp_path / "data"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert not exists(KEY, study="tiny", data_root=data_root)
    result = export(database, report_dir, run_key=KEY, data_root=data_root)
    client, place = MlflowClient(server), result.experiment_id
    assert result.hint == f"{server}/#/experiments/{place}/runs/{result.run_id}"
    assert_mirrors(client, place, result.run_id, database)
    before = census(client, place)
    assert len(before["runs"]) == 1 + NUM_CHECKPOINTS
    assert export(database, report_dir, run_key=KEY, data_root=data_root) == result
    assert census(client, place) == before
    assert exists(KEY, study="tiny", data_root=data_root)
    assert not data_root.exists()  # nothing was kept on this side
    report = client.download_artifacts(result.run_id, "report/report.html", str(tmp_path))
    assert Path(report).read_text() == "<h1>Report</h1>"


def test_two_exports_at_once_leave_one_whole_run(
    server: str, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with ThreadPoolExecutor(2) as both:
        told = [
            both.submit(export, database, None, run_key=KEY, data_root=tmp_path) for _ in range(2)
        ]
        first, second = (one.result() for one in told)
    assert first == second
    found = census(MlflowClient(server), first.experiment_id)
    assert len(found["runs"]) == 1 + NUM_CHECKPOINTS
    assert found["unfinished"] == []
    assert found["models"] == NUM_CHECKPOINTS


def test_a_server_that_is_away_is_reported_soon_and_without_password(
    database: Path, tmp_path: Path
) -> None:
    port, started = free_port(), time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        export(
            database,
            None,
            run_key=KEY,
            data_root=tmp_path,
            tracking_uri=f"http://someone:secret@127.0.0.1:{port}/",
        )
    assert f"http://127.0.0.1:{port}/ does not answer as an MLflow server" in str(caught.value)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)
    assert "(Connection refused); start it" in str(caught.value)
    assert str(caught.value).endswith("unset it to use the embedded store, then run again")
    assert "secret" not in str(caught.value)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("status", "reason"),
    [(404, "error code 404"), (200, "response body was not in a valid JSON format")],
)
def test_another_server_is_no_mlflow_server(status: int, reason: str, tmp_path: Path) -> None:
    class Website(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Website) as website:
        threading.Thread(target=website.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{website.server_port}"
        with pytest.raises(ConnectionError) as caught:
            exists(KEY, study="tiny", data_root=tmp_path, tracking_uri=uri)
        website.shutdown()
    assert str(caught.value).startswith(f"{uri} does not answer as an MLflow server ({reason});")
    assert "welcome" not in str(caught.value)


# ---------------------------------------------------------------- settings as params


def test_settings_are_flattened() -> None:
    params = study_params(SPEC_YAML)
    assert params["series.shuffled.source.steps"] == "[0,25]"
    assert params["domains.code.benchmarks.exam_code.metric"] == "acc"
    assert params["pathways.max_pairs"] == "null"
    assert not any(name.startswith("runtime") for name in params)
    assert study_params("{a: [], b: {}, c: true}") == {"a": "[]", "b": "{}", "c": "true"}
    assert len(study_params(f"{{a: {'x' * 900}}}")["a"]) == 500


def test_names_keep_to_what_mlflow_allows() -> None:
    assert safe_name("main/math/mmlu:x|acc,none=1") == "main/math/mmlu:x_acc_none_1"


def test_a_database_without_a_study_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.duckdb"
    build({}, empty)
    with pytest.raises(ValueError, match="table study has 0 rows, expected 1"):
        export(empty, None, run_key=KEY, data_root=tmp_path)
