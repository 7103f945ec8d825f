"""Pathways: what the routing of one checkpoint looks like, over domains, layers and groups."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from store.artifacts import Artifact, Checkpoint
from store.identity import Label
from store.tensors import load_kernel, load_routing
from studies.settings import BoundSpec, MemorizationSpec, PathwaysSpec, Runtime
from tasks.routing import ROUTER_WEIGHTS
from tasks.step import step
from tasks.workers import report

if TYPE_CHECKING:
    from metrics.bound import BoundTerms

SHORT = {
    "pathway_distance": "pathway distance",
    "pathway_consistency_median": "median pathway consistency",
}
GLOBAL_PAIRS = 20_000
"""At most, over the samples of all domains: all pairs of four domains cost more than the rest."""


@step(
    "pathways",
    version=3,
    run_name="pathways {checkpoint.series} {checkpoint.revision}",
)
def measure_pathways(
    out: Path,
    *,
    checkpoint: Checkpoint,
    routing: Artifact,
    probes: Artifact,
    domains: list[str],
    pathways: PathwaysSpec,
    bound: BoundSpec,
    runtime: Runtime,
) -> dict[str, Any]:
    """Measure pathways, consistency and the bound's terms of every domain at one checkpoint.

    Writes pathway_metrics.parquet, sample_pathways.parquet and bound.parquet. Costs about half a
    second per nano checkpoint. Runs again when the routing, `pathways` or `bound` change.
    """
    from metrics.measures import (
        PairSettings,
        domain_bound,
        domain_rows,
        global_rows,
        row_dict,
        sample_rows,
        tangent_bound,
    )

    settings = PairSettings(pathways.threshold, pathways.max_pairs, pathways.seed)
    router_weights_LKD = np.load(routing.path / ROUTER_WEIGHTS, allow_pickle=False)
    metrics: list[dict[str, Any]] = []
    bounds: list[dict[str, Any]] = []
    samples: list[pa.Table] = []
    pooled: list[np.ndarray] = []
    for number, domain in enumerate(domains):
        tensors = load_routing(routing.path / f"{domain}.probe.npz")
        weights_NLK = tensors.routing_weights_NLK
        pooled.append(weights_NLK)
        rows = domain_rows(weights_NLK, router_weights_LKD, settings)
        metrics += [{"domain": domain, "group_step": None, **row_dict(row)} for row in rows]
        columns = sample_rows(weights_NLK, router_weights_LKD, pathways.threshold)
        ids = tensors.sample_ids_N
        samples.append(pa.table({"domain": [domain] * len(ids), "sample_id": ids, **columns}))
        answers = answers_of(probes, domain)
        how = {
            "ridge": bound.ridge,
            "noise_variance": bound.noise_variance,
            "confidence": bound.confidence,
        }
        gating = domain_bound(weights_NLK, answers, **how)
        bounds.append(_bound_row(domain, "gating", len(ids), gating))
        file = routing.path / f"{domain}.tangent.npz"
        if file.exists():  # dense models have no experts, and so no such kernel
            kernel = load_kernel(file)
            chosen = np.isin(ids, kernel.sample_ids_N).nonzero()[0]
            answered = None if answers is None else [answers[at] for at in chosen]
            tangent = tangent_bound(kernel.kernel_NN, answered, **how)
            bounds.append(_bound_row(domain, "tangent", len(chosen), tangent))
        report(number + 1, len(domains), domain)
    everything = replace(settings, max_pairs=min(settings.max_pairs or GLOBAL_PAIRS, GLOBAL_PAIRS))
    metrics += [
        {"domain": "all", "group_step": None, **row_dict(row)}
        for row in global_rows(np.concatenate(pooled), router_weights_LKD, everything)
    ]
    pq.write_table(
        pa.Table.from_pylist(metrics), out / "pathway_metrics.parquet", compression="zstd"
    )
    pq.write_table(pa.Table.from_pylist(bounds), out / "bound.parquet", compression="zstd")
    pq.write_table(
        pa.concat_tables(samples, promote_options="permissive"),
        out / "sample_pathways.parquet",
        compression="zstd",
    )
    return {"by_domain": _in_short(metrics, domains)}


def _in_short(metrics: list[dict[str, Any]], domains: list[str]) -> dict[str, dict[str, Any]]:
    """The paper's two numbers of each domain."""
    values = {
        (row["domain"], row["metric"]): row["value"]
        for row in metrics
        if row["scope"] == "domain" and row["layer"] is None
    }
    return {
        domain: {title: values.get((domain, name)) for name, title in SHORT.items()}
        for domain in domains
    }


def _bound_row(domain: str, kernel: str, num_samples: int, terms: "BoundTerms") -> dict[str, Any]:
    return {
        "domain": domain,
        "kernel": kernel,
        "num_samples": num_samples,
        "ridge": terms.ridge,
        "effective_dimension": terms.effective_dimension,
        "bias": terms.bias,
        "variance": terms.variance,
        "noise": terms.noise,
        "total": terms.total,
    }


def answers_of(probes: Artifact, domain: str) -> list[int] | None:
    """The answer token of each probe sample; None unless every sample has exactly one."""
    samples = pq.read_table(
        probes.path / "probes.parquet",
        columns=["token_ids", "counted"],
        filters=[("domain", "=", domain), ("split", "=", "probe")],
    ).to_pylist()
    answers = [
        [token for token, counts in zip(s["token_ids"], s["counted"], strict=True) if counts]
        for s in samples
    ]
    if any(len(tokens) != 1 for tokens in answers):
        return None
    return [tokens[0] for tokens in answers]


@step("groups", version=2, run_name="groups {label}")
def measure_groups(
    out: Path,
    *,
    label: Label,
    steps: list[int],
    routing: list[Artifact],
    memorization: Artifact,
    settings: MemorizationSpec,
    pathways: PathwaysSpec,
    runtime: Runtime,
) -> dict[str, Any]:
    """Measure distance, consistency and loss inside every group memorized at the same step.

    Writes pathway_metrics.parquet: per checkpoint step, domain and group (arXiv 2506.21551, sec.
    3.1); a group's own time is from its step on.
    Groups below `min_group_size` are left out. Costs seconds.
    """
    from metrics.measures import PairSettings, group_rows, row_dict
    from store.schemas import write_rows

    pair_settings = PairSettings(pathways.threshold, pathways.max_pairs, pathways.seed)
    members = pq.read_table(memorization.path / "memorization.parquet").to_pandas()
    members = members.dropna(subset="memorization_step")
    rows: list[dict[str, Any]] = []
    for number, (training_step, artifact) in enumerate(zip(steps, routing, strict=True)):
        router_weights_LKD = np.load(artifact.path / ROUTER_WEIGHTS, allow_pickle=False)
        for domain, of_domain in members.groupby("domain"):
            tensors = load_routing(artifact.path / f"{domain}.probe.npz")
            for group_step, group in of_domain.groupby("memorization_step"):
                if len(group) < settings.min_group_size:
                    continue
                inside_N = np.isin(tensors.sample_ids_N, group["sample_id"].to_numpy())
                rows += [
                    {
                        "step": training_step,
                        "domain": domain,
                        "group_step": int(group_step),
                        **row_dict(row),
                    }
                    for row in group_rows(
                        tensors.routing_weights_NLK[inside_N],
                        router_weights_LKD,
                        tensors.losses_N[inside_N],
                        pair_settings,
                    )
                ]
        report(number + 1, len(steps))
    write_rows("pathway_metrics", rows, out, leave_out=("series",))
    return {"num_rows": len(rows)}
