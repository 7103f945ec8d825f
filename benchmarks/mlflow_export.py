"""Export an invented study to a real MLflow server: as grokpath does, and number by number.

The study has many checkpoints, four domains and every monitor that there is. Both ways write the
same runs (checked). The naive one calls `log_metric` for each number and is given few checkpoints.
Afterwards searches such as those of docs/compare.md are timed. Prints tables in Markdown.

    python -m benchmarks.mlflow_export --checkpoints 250
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from metrics.registry import MONITORS
from store import tracking
from store.mlflow_rows import checkpoint_mirrors, study_points
from store.schemas import conform
from store.tracking import MlflowClient
from store.warehouse import build
from tests.servers import environment, free_port, running, wait_for

DOMAINS = ("math", "code", "commonsense", "chemistry")
SPEC = "{name: many, domains: [{name: math, probes: {kind: jsonl, path: math.jsonl}}]}"
SEARCHES = (
    "params.revision = 'step1000-tokens4B'",
    "metrics.pathway_consistency_math > 0.6 AND params.series = 'main'",
    "metrics.pathway_distance_math < 15 AND metrics.accuracy_math > 0.5",
)


def main() -> None:
    """Time both ways, compare what they wrote, time the searches, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=int, default=250)
    parser.add_argument("--few", type=int, default=5, help="checkpoints of the naive way")
    arguments = parser.parse_args()
    num, few = arguments.checkpoints, arguments.few
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        many, some = invent(where / "many.duckdb", num), invent(where / "some.duckdb", few)
        with server(where / "mlflow") as uri:
            rows = [
                told("`log_metric` per number", few, some, timed(naive, some, uri)),
                told("grokpath", few, some, timed(ours, some, uri, "some")),
                told("grokpath", num, many, timed(ours, many, uri, "many")),
            ]
            check(MlflowClient(uri), few)
            again = timed(ours, many, uri, "many")
            seconds = {search: search_seconds(uri, search) for search in SEARCHES}
    say("| way | checkpoints | numbers | seconds | numbers per second |\n|---|---|---|---|---|")
    say("\n".join(rows))
    say(f"\nthe same export once more: {again:.2f} s\n")
    say(f"| search over {num + 2 * few} checkpoints | runs | logged models |\n|---|---|---|")
    for search, (of_runs, of_models) in seconds.items():
        say(f"| `{search}` | {of_runs * 1000:.0f} ms | {of_models * 1000:.0f} ms |")


def say(text: str) -> None:
    """Write to standard output."""
    sys.stdout.write(text + "\n")


SERIES = {
    "series": "main",
    "role": "main",
    "title": "",
    "variant": "base",
    "control_for": None,
    "source_kind": "hub",
    "position": 0,
}


def _checkpoint(step: int) -> dict[str, Any]:
    return {
        "series": "main",
        "step": step,
        "tokens_seen": step * 4_000_000,
        "repository": "owner/name",
        "revision": f"step{step}-tokens{4 * step // 1000}B",
        "digest": f"{step:040x}",
        "family": "olmoe",
        "num_layers": 16,
        "num_experts": 64,
        "top_k": 8,
        "num_parameters": 6_919_161_856,
    }


def invent(out: Path, num_checkpoints: int) -> Path:
    """A warehouse of one series with every monitor in four domains, all numbers at random."""
    random = np.random.default_rng(0)
    names = [*(one.measure for one in MONITORS), "accuracy"]
    steps = [1000 * number for number in range(num_checkpoints)]
    values = random.uniform(0, 30, (len(steps), len(DOMAINS), len(names)))
    at = list(np.ndindex(values.shape))
    tables: dict[str, list[dict[str, Any]]] = {
        "study": [
            {
                "name": out.stem,
                "title": "Many checkpoints",
                "description": "",
                "spec_yaml": SPEC.replace("many", out.stem),
                "spec_fingerprint": "ab" * 32,
            }
        ],
        "series": [SERIES],
        "domains": [
            {
                "domain": domain,
                "title": domain,
                "position": position,
                "benchmark": f"exam_{domain}",
                "metric": "acc",
            }
            for position, domain in enumerate(DOMAINS)
        ],
        "checkpoints": [_checkpoint(step) for step in steps],
        "curves": [
            {
                "series": "main",
                "step": steps[s],
                "domain": DOMAINS[d],
                "monitor": names[n],
                "value": float(values[s, d, n]),
            }
            for s, d, n in at
        ],
        "probes": [
            {
                "series": "main",
                "domain": domain,
                "sample_id": sample,
                "split": "probe",
                "num_tokens": 5,
                "num_counted": 5,
                "text": f"{domain} {sample}",
            }
            for domain in DOMAINS
            for sample in range(10)
        ],
    }
    build({name: conform(name, rows) for name, rows in tables.items()}, out)
    return out


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """An MLflow server on SQLite with its default number of workers."""
    folder.mkdir()
    port, log = free_port(), folder / "log"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "files")),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with running(command, environment(folder, **quiet), log) as process:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}"


def ours(database: Path, uri: str, key: str) -> None:
    """The export of grokpath."""
    tracking.export(database, None, run_key=key, data_root=database.parent, tracking_uri=uri)


def naive(database: Path, uri: str) -> None:
    """The same runs, params, numbers and logged models, one call each."""
    client = MlflowClient(uri)
    place = client.create_experiment("naive")
    study = client.create_run(place).info.run_id
    for point in study_points(database):
        client.log_metric(study, point.name, point.value, step=point.step)
    for checkpoint in checkpoint_mirrors(database):
        run = client.create_run(
            place, run_name=checkpoint.title, tags={"mlflow.parentRunId": study}
        ).info.run_id
        model = client.create_logged_model(place, name=checkpoint.title, source_run_id=run)
        for name, value in checkpoint.params.items():
            client.log_param(run, name, value)
            client.log_model_params(model.model_id, {name: value})
        for point in checkpoint.points:
            client.log_metric(
                run, point.name, point.value, step=point.step, model_id=model.model_id
            )
        client.finalize_logged_model(model.model_id, "READY")
        client.set_terminated(run)
    client.set_terminated(study)


def check(client: MlflowClient, num: int) -> None:
    """Both ways wrote the same numbers and params for every checkpoint."""
    found = []
    for name in ("naive", "some"):
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], "params.series = 'main'")
        found.append({r.info.run_name: (r.data.metrics, r.data.params) for r in runs})
    assert len(found[0]) == num
    assert found[0] == found[1]


def search_seconds(uri: str, search: str) -> tuple[float, float]:
    """Median seconds of one search over all experiments' runs, and over their logged models."""
    client = MlflowClient(uri)
    places = [one.experiment_id for one in client.search_experiments()]
    of_runs = [timed(client.search_runs, places, search) for _ in range(5)]
    of_models = [timed(client.search_logged_models, places, search) for _ in range(5)]
    return statistics.median(of_runs), statistics.median(of_models)


def told(way: str, num: int, database: Path, seconds: float) -> str:
    """A row of the table."""
    numbers = len(study_points(database)) + sum(
        len(checkpoint.points) for checkpoint in checkpoint_mirrors(database)
    )
    return f"| {way} | {num} | {numbers:,} | {seconds:.1f} | {numbers / seconds:,.0f} |"


def timed(call: Callable[..., Any], *arguments: Any) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
