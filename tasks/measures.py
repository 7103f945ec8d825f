"""Routing measures of one checkpoint beyond the paper's own: field, candidates, nulls, controls."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from store.artifacts import Artifact, Checkpoint
from store.tensors import load_routing, load_tokens
from studies.settings import BoundSpec, PathwaysSpec, Runtime, SensitivitySpec
from tasks.pathways import answers_of
from tasks.step import step
from tasks.workers import report

MAX_PAIRS = 4000
"""Pairs per mean where a control or null needs distances anew; the same at every checkpoint."""


@step("measures", version=4, run_name="measures {checkpoint.series} {checkpoint.revision}")
def measure_routing(
    out: Path,
    *,
    checkpoint: Checkpoint,
    routing: Artifact,
    probes: Artifact,
    domains: list[str],
    pathways: PathwaysSpec,
    bound: BoundSpec,
    sensitivity: SensitivitySpec | None,
    runtime: Runtime,
) -> dict[str, Any]:
    """Measure load, margins, co-activation, signatures, candidates, nulls and controls.

    Writes routing_measures, expert_use, coactivation, nulls, cross_domain, entropy_control and,
    with `sensitivity`, distance_variants (tables of the warehouse, as Parquet). Costs about a
    second per nano checkpoint. Runs again when the routing or one of the settings changes.
    """
    from metrics.candidates import candidate_rows
    from metrics.controls import cross_domain_rows, entropy_row, null_rows, variant_rows
    from metrics.field import DomainTokens, field_tables
    from store.schemas import write_rows

    weights = {d: load_routing(routing.path / f"{d}.probe.npz") for d in domains}
    samples = {domain: tensors.routing_weights_NLK for domain, tensors in weights.items()}
    loaded = {domain: load_tokens(routing.path / f"{domain}.tokens.npz") for domain in domains}
    tokens = {d: DomainTokens(t.routing_weights_TLK, t.token_ids_T) for d, t in loaded.items()}
    top_k = routing.summary["model"]["top_k"]
    tables = field_tables(tokens, samples, top_k, seed=pathways.seed)
    rows: dict[str, list[dict[str, Any]]] = {
        "routing_measures": tables.measures,
        "expert_use": tables.expert_use,
        "coactivation": tables.coactivation,
        "nulls": [],
        "entropy_control": [],
        "cross_domain": cross_domain_rows(
            samples, pathways.threshold, max_pairs=MAX_PAIRS, seed=pathways.seed
        ),
        "distance_variants": [],
    }
    how = {"max_pairs": MAX_PAIRS, "seed": pathways.seed}
    for number, (domain, weights_NLK) in enumerate(samples.items()):
        inputs = inputs_of(probes, domain)
        answers = answers_of(probes, domain)
        rows["routing_measures"] += candidate_rows(
            domain, weights_NLK, inputs, answers, ridge=bound.ridge, **how
        )
        nulls, ratios = null_rows(domain, weights_NLK, pathways.threshold, **how)
        rows["nulls"] += nulls
        rows["routing_measures"] += ratios
        rows["entropy_control"].append(entropy_row(domain, weights_NLK, **how))
        if sensitivity is not None:
            rows["distance_variants"] += variant_rows(
                domain,
                weights_NLK,
                sensitivity.thresholds,
                max_pairs=sensitivity.max_pairs,
                seed=sensitivity.seed,
            )
        report(number + 1, len(samples), domain)
    for name, found in rows.items():
        write_rows(name, found, out, leave_out=("series", "step"))
    return {"num_numbers": sum(map(len, rows.values()))}


def inputs_of(probes: Artifact, domain: str) -> list[list[int]]:
    """Token ids of each probe sample up to its first answer token, which is its question."""
    samples = pq.read_table(
        probes.path / "probes.parquet",
        columns=["token_ids", "counted"],
        filters=[("domain", "=", domain), ("split", "=", "probe")],
    ).to_pylist()
    # Where every token counts (ordinary text) there is no answer, and all of it is the input.
    return [
        one["token_ids"][: _first_answer(one["counted"])] or one["token_ids"] for one in samples
    ]


def _first_answer(counted: list[bool]) -> int:
    flags = np.asarray(counted, dtype=bool)
    return len(flags) if flags[1:].all() else int(flags.argmax())
