"""Analysis: memorization, generalization, and whether the monitors track the scores."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from store.artifacts import Artifact
from store.identity import Label
from store.tensors import load_routing
from studies.settings import AnalysisSpec, GeneralizationSpec, MemorizationSpec, Runtime
from tasks.step import step


@step("memorization", version=1, run_name="memorization {label}")
def find_memorization(
    out: Path,
    *,
    label: Label,
    steps: list[int],
    routing: list[Artifact],
    domains: list[str],
    settings: MemorizationSpec,
    runtime: Runtime,
) -> dict[str, Any]:
    """Find the step from which each probe sample stays memorized, with epsilon per domain.

    Writes memorization.parquet and thresholds.parquet. Reads only losses. Costs about a second.
    """
    from metrics.memorization import NEVER, choose_epsilon, memorization_steps

    samples, thresholds = [], []
    for domain in domains:
        tensors = [load_routing(artifact.path / f"{domain}.probe.npz") for artifact in routing]
        losses_NT = np.stack([t.losses_N for t in tensors], axis=1)
        choice = choose_epsilon(
            losses_NT,
            steps,
            settings.delta,
            share_low=settings.share_low,
            share_high=settings.share_high,
        )
        epsilon = choice.epsilon if settings.epsilon == "auto" else settings.epsilon
        found_N = memorization_steps(losses_NT, steps, epsilon, settings.delta)
        before_N = (found_N != NEVER) & (found_N < steps[-1])
        share = float(before_N.mean())
        in_range = settings.share_low <= share <= settings.share_high
        thresholds.append(
            {
                "domain": domain,
                "epsilon": epsilon,
                "delta": settings.delta,
                "share_memorized": share,
                "share_low": settings.share_low,
                "share_high": settings.share_high,
                "in_range": in_range,
                "note": choice.note if settings.epsilon == "auto" else "epsilon given by the study",
            }
        )
        samples.append(
            pa.table(
                {
                    "domain": [domain] * len(found_N),
                    "sample_id": tensors[0].sample_ids_N,
                    "memorization_step": pa.array(found_N, mask=found_N == NEVER),
                }
            )
        )
    pq.write_table(pa.concat_tables(samples), out / "memorization.parquet", compression="zstd")
    pq.write_table(pa.Table.from_pylist(thresholds), out / "thresholds.parquet", compression="zstd")
    return {"epsilon": {row["domain"]: row["epsilon"] for row in thresholds}}


@step("generalization", version=1, run_name="generalization {label}")
def find_generalization(
    out: Path,
    *,
    label: Label,
    steps: list[int],
    scores: list[Artifact],
    settings: GeneralizationSpec,
    runtime: Runtime,
) -> dict[str, Any]:
    """Find the step from which each benchmark document stays answered.

    Writes generalization.parquet. Costs about a second.
    """
    from metrics.generalization import generalization_steps
    from metrics.memorization import NEVER

    tables = [pq.read_table(a.path / "documents.parquet").to_pandas() for a in scores]
    keys = ["domain", "benchmark", "document_id"]
    wide = pd.concat(
        [table.set_index(keys)["correct"].rename(place) for place, table in enumerate(tables)],
        axis=1,
    )
    if wide.isna().to_numpy().any():
        raise ValueError(
            f"{int(wide.isna().any(axis=1).sum())} benchmark documents were not answered at every "
            "checkpoint; score all checkpoints with the same benchmark files"
        )
    found_N = generalization_steps(
        wide.to_numpy(dtype=bool),
        steps,
        min_mean=settings.min_mean,
        max_errors=settings.max_errors,
    )
    rows = wide.index.to_frame(index=False)
    table = pa.Table.from_pandas(rows, preserve_index=False).append_column(
        "generalization_step", pa.array(found_N, mask=found_N == NEVER)
    )
    pq.write_table(table, out / "generalization.parquet", compression="zstd")
    return {"share": float((found_N != NEVER).mean())}


@step("monitors", version=1, run_name="monitors against accuracy")
def judge_monitors(
    out: Path,
    *,
    series: list[dict[str, Any]],
    accuracy: dict[str, str | None],
    analysis: AnalysisSpec,
    runtime: Runtime,
) -> dict[str, Any]:
    """Hold every monitor against accuracy, and the main series against its controls.

    `accuracy` names the benchmark by domain; a domain without one has curves and no judgement.

    Writes curves.parquet, monitors.parquet, correlations.parquet, separation.parquet
    (arXiv 2506.21551, sec. 4.3, with detrended tests). Costs seconds.
    """
    from metrics.monitors import MONITORS, judge, separations, with_moving_average
    from store.schemas import conform
    from store.tables import curves_of_series

    rows = [row for one in series for row in curves_of_series(one, accuracy)]  # type: ignore[arg-type]
    curves = with_moving_average(pd.DataFrame(rows), analysis.moving_average_window)
    roles = {one["name"]: one["role"] for one in series}
    tables: dict[str, list[dict[str, Any]]] = {
        "curves": [{str(k): v for k, v in row.items()} for row in curves.to_dict("records")],
        "monitors": [monitor.row() for monitor in MONITORS],
        "correlations": judge(
            curves,
            roles,
            num_permutations=analysis.num_permutations,
            num_bootstrap=analysis.num_bootstrap,
            significance=analysis.significance,
            seed=analysis.seed,
        ),
        "separation": separations(curves, roles),
    }
    for name, rows in tables.items():
        pq.write_table(conform(name, rows), out / f"{name}.parquet", compression="zstd")
    return {"num_correlations": len(tables["correlations"])}
