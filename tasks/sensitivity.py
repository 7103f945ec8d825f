"""Sensitivity: the same relations under other settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from store.artifacts import Artifact
from store.tensors import load_losses, load_routing
from studies.settings import AnalysisSpec, PathwaysSpec, Runtime, SensitivitySpec
from tasks.step import step
from tasks.workers import report

if TYPE_CHECKING:
    import pandas as pd

    from metrics.sensitivity import Trial
    from store.tables import SeriesArtifacts

PAPER_DELTA, PAPER_EPSILON = 0.05, 2.0


@step("sensitivity", version=6, run_name="sensitivity")
def try_settings(
    out: Path,
    *,
    series: "list[SeriesArtifacts]",
    monitors: Artifact,
    accuracy: dict[str, str | None],
    pathways: PathwaysSpec,
    analysis: AnalysisSpec,
    sensitivity: SensitivitySpec,
    tuning_ranks: dict[str, int],
    runtime: Runtime,
) -> dict[str, Any]:
    """Correlate monitors with accuracy under other settings than the study's own.

    Varied are thresholds, units, pairs, groups, documents, and tuning (`tuning_ranks` holds each
    domain's own LoRA rank, 0 without tuning). Writes sensitivity.parquet. Costs some ten seconds
    per nano series. Runs again when a curve, a routing or the settings change.
    """
    from metrics.curves import control_level, controls_of
    from metrics.sensitivity import curve_trials, distance_trials, sensitivity_rows, tuning_trials
    from store.schemas import write_rows

    curves = pq.read_table(monitors.path / "curves.parquet").to_pandas()
    controls = controls_of(
        {one["name"]: one["role"] for one in series},
        {one["name"]: one["control_for"] for one in series},
    )
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(series):
        variants = _by_step(one["steps"], one["measures"], "distance_variants")
        for domain, benchmark in accuracy.items():
            here = curves[(curves["series"] == one["name"]) & (curves["domain"] == domain)]
            known = {str(m): c.set_index("step")["value"] for m, c in here.groupby("monitor")}
            if benchmark is None or "accuracy" not in known:
                continue
            true = known.pop("accuracy")
            assert one["generalization"] is not None, "it has accuracy"
            clean = pq.read_table(one["generalization"].path / "clean_scores.parquet").to_pandas()
            of_domain = (clean["domain"] == domain) & (clean["benchmark"] == benchmark)
            clean = clean[of_domain].set_index("step")
            trials = [
                *distance_trials(
                    variants[variants["domain"] == domain],
                    known["pathway_distance"],
                    true,
                    threshold=pathways.threshold,
                    seed=sensitivity.seed,
                ),
                *curve_trials(known, true, clean, analysis.moving_average_window),
                *tuning_trials(
                    known,
                    tuning_ranks[domain],
                    true,
                    _ablated(one, domain, benchmark) if tuning_ranks[domain] else {},
                ),
                *_memorization_trials(one, domain, true, pathways, sensitivity),
            ]
            rows += sensitivity_rows(
                one["name"],
                domain,
                trials,
                seed=analysis.seed,
                baseline=control_level(curves, controls.get(one["name"], []), domain),
            )
        report(number + 1, len(series), one["name"])
    write_rows("sensitivity", rows, out)
    return {"num_rows": len(rows)}


def _by_step(steps: list[int], artifacts: list[Artifact], name: str) -> "pd.DataFrame":
    import pandas as pd

    parts = [
        pq.read_table(artifact.path / f"{name}.parquet").to_pandas().assign(step=training_step)
        for training_step, artifact in zip(steps, artifacts, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def _ablated(one: "SeriesArtifacts", domain: str, benchmark: str) -> "dict[int, pd.Series]":
    """Accuracy by step under each other rank, over the documents that the study's own counts."""
    import pandas as pd

    if not one["ablation"]:
        return {}
    assert one["contamination"] is not None, "it has scores"
    found = pq.read_table(one["contamination"].path / "contamination.parquet").to_pandas()
    found = found[(found["domain"] == domain) & (found["benchmark"] == benchmark)]
    counted = set(found.loc[~found["removed"], "document_id"])
    curves = {}
    for rank, scores in one["ablation"].items():
        values = []
        for artifact in scores:
            rows = pq.read_table(artifact.path / "benchmark_documents.parquet").to_pandas()
            rows = rows[(rows["domain"] == domain) & (rows["benchmark"] == benchmark)]
            values.append(rows.loc[rows["document_id"].isin(counted), "value"].mean())
        curves[int(rank)] = pd.Series(values, index=one["steps"], dtype=float)
    return curves


def _memorization_trials(
    one: "SeriesArtifacts",
    domain: str,
    accuracy: "pd.Series",
    pathways: PathwaysSpec,
    sensitivity: SensitivitySpec,
) -> "list[Trial]":
    """Distance over the samples that are memorized before the end, under other definitions.

    What the appendix of the paper varies (App. E.3) is which samples count; the distance is then
    taken over those at every checkpoint.
    """
    import pandas as pd

    from metrics.grokking import NEVER, memorization_steps
    from metrics.sensitivity import Trial

    if len(one["steps"]) < 2:
        return []
    files = [artifact.path / f"{domain}.probe.npz" for artifact in one["routing"]]
    losses_NT = np.stack([load_losses(file).losses_N for file in files], axis=1)
    last = one["steps"][-1]
    settings = [("epsilon", epsilon, epsilon, PAPER_DELTA) for epsilon in sensitivity.epsilons]
    settings += [("delta", delta, PAPER_EPSILON, delta) for delta in sensitivity.deltas]
    memorized = []
    for setting, value, epsilon, delta in settings:
        found_N = memorization_steps(losses_NT, one["steps"], epsilon, delta)
        memorized.append((setting, value, (found_N != NEVER) & (found_N < last)))
    enough = [inside_N for *_, inside_N in memorized if inside_N.sum() >= 2]
    curves = _distances_within(files, one["steps"], enough, pathways, sensitivity)
    return [
        Trial(
            f"{setting} of memorization",
            f"{value:g} ({inside_N.mean():.0%} of samples)",
            "pathway_distance",
            curves.get(inside_N.tobytes(), pd.Series(dtype=float)),
            accuracy,
            False,
            None
            if inside_N.sum() >= 2
            else f"not available, because {int(inside_N.sum())} samples are memorized",
        )
        for setting, value, inside_N in memorized
    ]


def _distances_within(
    files: list[Path],
    steps: list[int],
    subsets: list[np.ndarray],
    pathways: PathwaysSpec,
    sensitivity: SensitivitySpec,
) -> "dict[bytes, pd.Series]":
    """Mean pathway distance by step within subsets of samples; one checkpoint in memory at once."""
    import pandas as pd

    from metrics.distances import mean_pairwise_distance
    from metrics.pathways import pathways_in_unit

    unique = {inside_N.tobytes(): inside_N for inside_N in subsets}
    means: dict[bytes, list[float]] = {key: [] for key in unique}
    for file in files if unique else ():
        weights_NLK = load_routing(file).routing_weights_NLK
        for key, inside_N in unique.items():
            strings = pathways_in_unit(weights_NLK[inside_N], pathways.threshold, "character")
            found = mean_pairwise_distance(
                strings, max_pairs=sensitivity.max_pairs, seed=sensitivity.seed
            )
            means[key].append(found.mean)
    return {key: pd.Series(values, index=steps) for key, values in means.items()}
