"""Analysis: memorization, generalization, and whether the monitors track the scores."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from store.artifacts import Artifact
from store.identity import Label
from store.tensors import load_losses
from studies.settings import (
    AnalysisSpec,
    GeneralizationSpec,
    MemorizationSpec,
    OnlineSpec,
    Runtime,
    SensitivitySpec,
)
from tasks.step import step

if TYPE_CHECKING:
    import pandas as pd

    from store.tables import SeriesArtifacts

KEYS = ["domain", "benchmark", "document_id"]


@step("memorization", version=3, run_name="memorization {label}")
def find_memorization(
    out: Path,
    *,
    label: Label,
    steps: list[int],
    routing: list[Artifact],
    domains: list[str],
    settings: MemorizationSpec,
    sensitivity: SensitivitySpec | None,
    runtime: Runtime,
) -> dict[str, Any]:
    """Find the step from which each probe sample stays memorized, with epsilon per domain.

    Writes memorization.parquet, memorization_thresholds.parquet and, with `sensitivity`,
    epsilon_scan.parquet (arXiv 2506.21551, App. E.3). Reads only losses. Costs about a second.
    """
    from metrics.grokking import NEVER, scan_row
    from store.schemas import write_rows

    samples, thresholds, scan = [], [], []
    for domain in domains:
        losses = [load_losses(artifact.path / f"{domain}.probe.npz") for artifact in routing]
        losses_NT = np.stack([one.losses_N for one in losses], axis=1)
        found_N, epsilon, note = _memorized(losses_NT, steps, settings)
        if epsilon is not None and len(steps) > 1:
            tried = [(epsilon, settings.delta), *_tried(sensitivity)]
            scan += [{"domain": domain, **scan_row(losses_NT, steps, e, d)} for e, d in tried]
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
                "note": note,
            }
        )
        samples.append(
            pa.table(
                {
                    "domain": [domain] * len(found_N),
                    "sample_id": losses[0].sample_ids_N,
                    "memorization_step": pa.array(found_N, mask=found_N == NEVER),
                }
            )
        )
    pq.write_table(pa.concat_tables(samples), out / "memorization.parquet", compression="zstd")
    write_rows("memorization_thresholds", thresholds, out, leave_out=("series",))
    write_rows("epsilon_scan", scan, out, leave_out=("series",))
    return {
        "epsilon": {row["domain"]: row["epsilon"] for row in thresholds},
        "by_domain": {
            row["domain"]: {"memorized": row["share_memorized"], "epsilon": row["epsilon"]}
            for row in thresholds
        },
    }


def _memorized(
    losses_NT: np.ndarray, steps: list[int], settings: MemorizationSpec
) -> tuple[np.ndarray, float | None, str | None]:
    """Memorization steps, the threshold that decided, and what to know about it."""
    from metrics.grokking import NEVER, choose_epsilon, memorization_steps

    automatic = settings.epsilon == "auto"
    if len(steps) < 2:
        note = "not available, because one checkpoint has nothing to be compared with"
        nothing_N = np.full(len(losses_NT), NEVER)
        return nothing_N, None if automatic else float(settings.epsilon), note
    choice = choose_epsilon(
        losses_NT,
        steps,
        settings.delta,
        share_low=settings.share_low,
        share_high=settings.share_high,
    )
    epsilon = choice.epsilon if automatic else float(settings.epsilon)
    found_N = memorization_steps(losses_NT, steps, epsilon, settings.delta)
    return found_N, epsilon, choice.note if automatic else "epsilon given by the study"


def _tried(sensitivity: SensitivitySpec | None) -> list[tuple[float, float]]:
    """Thresholds of the paper's ablation: epsilons at delta 0.05, deltas at epsilon 2.0."""
    if sensitivity is None:
        return []
    return [(epsilon, 0.05) for epsilon in sensitivity.epsilons] + [
        (2.0, delta) for delta in sensitivity.deltas if delta != 0.05
    ]


@step("generalization", version=4, run_name="generalization {label}")
def find_generalization(
    out: Path,
    *,
    label: Label,
    steps: list[int],
    scores: list[Artifact],
    contamination: Artifact,
    settings: GeneralizationSpec,
    runtime: Runtime,
) -> dict[str, Any]:
    """Find the step from which each benchmark document stays answered.

    Documents that look contaminated are left out. Writes generalization.parquet and
    clean_scores.parquet, the scores without these. A benchmark whose metric is a share per
    document has scores and no such step: its documents are neither right nor wrong. Costs about a
    second.
    """
    import pandas as pd

    from metrics.grokking import NEVER, generalization_steps
    from store.schemas import write_rows

    _check_same_documents(steps, scores)
    tables = [pq.read_table(a.path / "benchmark_documents.parquet").to_pandas() for a in scores]
    wide, right = (_by_place(tables, column) for column in ("value", "correct"))
    if wide.isna().to_numpy().any():
        raise ValueError(
            f"{int(wide.isna().any(axis=1).sum())} benchmark documents were not answered at every "
            "checkpoint; score all checkpoints with the same benchmark files"
        )
    marked = _marked(contamination, wide)
    counted = wide[~marked["removed"].to_numpy(dtype=bool)]
    unmarked = wide[~marked["marked"].to_numpy(dtype=bool)]
    write_rows(
        "clean_scores", _clean_scores(counted, unmarked, wide, steps), out, leave_out=("series",)
    )
    right = right.loc[counted.index]
    shares = right.isna().any(axis=1).groupby(level=["domain", "benchmark"]).transform("any")
    right = right[~shares]
    found_N = np.zeros(0, dtype=np.int64)
    if len(right):
        found_N = generalization_steps(
            right.to_numpy(dtype=bool),
            steps,
            min_mean=settings.min_mean,
            max_errors=settings.max_errors,
        )
    rows = right.index.to_frame(index=False)
    table = pa.Table.from_pandas(rows, preserve_index=False).append_column(
        "generalization_step", pa.array(found_N, pa.int64(), mask=found_N == NEVER)
    )
    pq.write_table(table, out / "generalization.parquet", compression="zstd")
    means = pd.Series(found_N != NEVER, index=right.index).groupby("domain").mean()
    return {
        "share": float((found_N != NEVER).mean()) if len(right) else None,
        "without_steps": sorted({f"{d}/{b}" for d, b, _ in shares[shares].index}),
        "by_domain": {str(domain): {"generalized": float(s)} for domain, s in means.items()},
    }


def _marked(contamination: Artifact, wide: "pd.DataFrame") -> "pd.DataFrame":
    """Which of the scored documents look contaminated, and which of those are left out."""
    marked = pq.read_table(contamination.path / "contamination.parquet").to_pandas()
    found = marked.set_index(KEYS)[["marked", "removed"]].reindex(wide.index)
    if found.isna().to_numpy().any():
        raise ValueError(
            f"{int(found['removed'].isna().sum())} benchmark documents were scored but not "
            "checked for contamination; score and check the same benchmark files"
        )
    return found


def _by_place(tables: "list[pd.DataFrame]", column: str) -> "pd.DataFrame":
    """One column of all checkpoints' documents, side by side."""
    import pandas as pd

    columns = (table.set_index(KEYS)[column].rename(at) for at, table in enumerate(tables))
    return pd.concat(list(columns), axis=1)


def _check_same_documents(steps: list[int], scores: list[Artifact]) -> None:
    """Refuse scores of a benchmark whose data set changed between checkpoints."""
    first: dict[str, tuple[int, str]] = {}
    for training_step, artifact in zip(steps, scores, strict=True):
        for name, data in artifact.summary["data"].items():
            at, digest = first.setdefault(name, (training_step, data["documents_digest"]))
            if digest != data["documents_digest"]:
                raise ValueError(
                    f"benchmark {name} had other documents at step {training_step} than at step "
                    f"{at}; delete the older scores below artifacts/benchmarks and run again"
                )


def _clean_scores(
    counted: "pd.DataFrame", unmarked: "pd.DataFrame", every: "pd.DataFrame", steps: list[int]
) -> list[dict[str, Any]]:
    """Mean value of the counted documents, by checkpoint and benchmark."""
    groups = ["domain", "benchmark"]
    sizes = every.groupby(level=groups, sort=False).size().to_dict()
    clean = {
        key: block.to_numpy(dtype=float).mean(axis=0)
        for key, block in unmarked.groupby(level=groups, sort=False)
    }
    rows = []
    for key, block in counted.groupby(level=groups, sort=False):
        domain, benchmark = key
        for place, training_step in enumerate(steps):
            values = block.to_numpy(dtype=float)[:, place]
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
            rows.append(
                {
                    "step": training_step,
                    "domain": domain,
                    "benchmark": benchmark,
                    "value": float(values.mean()),
                    "std_error": None if error is None else float(error),
                    "value_unmarked": float(clean[key][place]) if key in clean else None,
                    "num_documents": len(values),
                    "num_removed": sizes[key] - len(values),
                }
            )
    return rows


@step("monitors", version=7, run_name="monitors")
def judge_monitors(
    out: Path,
    *,
    series: "list[SeriesArtifacts]",
    accuracy: dict[str, str | None],
    analysis: AnalysisSpec,
    online: OnlineSpec,
    runtime: Runtime,
) -> dict[str, Any]:
    """Hold every monitor against accuracy, and every series against its controls.

    `accuracy` names the benchmark by domain; a domain without one has curves and no judgement.

    Writes curves, monitors, correlations, separation (arXiv 2506.21551, sec. 4.3, with detrended
    tests), power, trend_fits, online, lead_lag and leaderboard, all tables of the warehouse as
    Parquet. Costs ten to twenty seconds for a nano series.
    """
    import pandas as pd

    from metrics.curves import controls_of, trend_rows, with_moving_average
    from metrics.leaderboard import leaderboard_rows
    from metrics.monitors import judge, separations
    from metrics.online import online_rows
    from metrics.power import power_rows
    from metrics.registry import MONITORS, monitor_rows
    from store.documents import documents_of
    from store.schemas import write_rows
    from store.tables import curves_of_series

    names = {monitor.measure for monitor in MONITORS}
    rows = [row for one in series for row in curves_of_series(one, accuracy, names)]
    curves = with_moving_average(pd.DataFrame(rows), analysis.moving_average_window)
    roles = {one["name"]: one["role"] for one in series}
    controls = controls_of(roles, {one["name"]: one["control_for"] for one in series})
    level: dict[str, Any] = {"significance": analysis.significance, "seed": analysis.seed}
    correlations = judge(
        curves,
        controls,
        num_permutations=analysis.num_permutations,
        num_bootstrap=analysis.num_bootstrap,
        **level,
    )
    apart = separations(curves, controls)
    calls, leads = online_rows(
        curves,
        controls,
        MONITORS,
        min_checkpoints=online.min_checkpoints,
        window=online.window,
        tolerance=online.plateau_tolerance,
    )
    tables: dict[str, list[dict[str, Any]]] = {
        "curves": [{str(k): v for k, v in row.items()} for row in curves.to_dict("records")],
        "monitors": monitor_rows(),
        "correlations": correlations,
        "power": power_rows(
            correlations, curves, controls, documents_of(series, accuracy), **level
        ),
        "separation": apart,
        "trend_fits": trend_rows(curves),
        "online": calls,
        "lead_lag": leads,
        "leaderboard": leaderboard_rows(
            curves,
            correlations,
            apart,
            controls,
            {one["name"]: one["variant"] or one["name"] for one in series},
            MONITORS,
            analysis.significance,
        ),
    }
    for name, rows in tables.items():
        write_rows(name, rows, out)
    return {"num_correlations": len(correlations)}
