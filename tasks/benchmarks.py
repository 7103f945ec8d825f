"""Benchmarks: score one checkpoint with lm-eval."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from store.artifacts import Artifact, Checkpoint
from studies.settings import EvaluationSpec, Runtime
from studies.spec import Benchmark
from tasks.step import step


@step(
    "benchmarks",
    version=2,
    run_name="benchmarks {checkpoint.series} {checkpoint.revision}",
)
def score_benchmarks(
    out: Path,
    *,
    checkpoint: Checkpoint,
    benchmarks: dict[str, list[Benchmark]],
    items: Artifact | None,
    evaluation: EvaluationSpec,
    runtime: Runtime,
) -> dict[str, Any]:
    """Run the benchmarks of every domain on one checkpoint; keep scores and single documents.

    Writes benchmark_scores.parquet and benchmark_documents.parquet. One model load serves all
    benchmarks. Costs one to three seconds per nano checkpoint. Runs again when a benchmark's files
    or the settings change.
    """
    from evals.harness import score
    from models.extraction import load_checkpoint
    from models.samples import load_tokenizer

    model, _, device = load_checkpoint(checkpoint.path, runtime.device, "float32")
    domains = {b.name: domain for domain, chosen in benchmarks.items() for b in chosen}
    results = score(
        model,
        load_tokenizer(checkpoint.path),
        [benchmark for chosen in benchmarks.values() for benchmark in chosen],
        include_path=evaluation.tasks_folder or (items.path if items is not None else None),
        settings=evaluation,
        batch_size=runtime.batch_size,
        device=device,
    )
    scores = []
    documents = []
    for result in results:
        domain = domains[result.benchmark]
        scores.append(
            {
                "domain": domain,
                "benchmark": result.benchmark,
                "metric": result.metric,
                "value": result.value,
                "std_error": result.std_error,
                "num_documents": result.num_documents,
            }
        )
        documents.append(
            result.documents.append_column(
                "domain", pa.array([domain] * result.num_documents)
            ).append_column("benchmark", pa.array([result.benchmark] * result.num_documents))
        )
    pq.write_table(
        pa.Table.from_pylist(scores), out / "benchmark_scores.parquet", compression="zstd"
    )
    pq.write_table(
        pa.concat_tables(documents), out / "benchmark_documents.parquet", compression="zstd"
    )
    return {"device": device, "scores": {row["benchmark"]: row["value"] for row in scores}}
