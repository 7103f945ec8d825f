"""A small study, invented but consistent: what the tests of the warehouse and of MLflow read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from store.schemas import TABLES, conform
from store.warehouse import build

SERIES = {"main": "main", "shuffled": "control"}
DOMAINS = ("math", "code")
STEPS = (0, 25, 50, 100)
NUM_SAMPLES = 6
NUM_DOCUMENTS = 5
MONITORS = {
    "training_loss": -1,
    "validation_loss": -1,
    "pathway_distance": -1,
    "pathway_consistency": 1,
}
SPEC_YAML = """\
name: tiny
title: A tiny study
series:
- {name: main, role: main, source: {kind: nano, steps: [0, 25]}}
- {name: shuffled, role: control, source: {kind: nano, steps: [0, 25]}}
domains:
- {name: math, benchmarks: [{name: exam_math, metric: acc}]}
- {name: code, benchmarks: [{name: exam_code, metric: acc}]}
pathways: {threshold: 0.7, max_pairs: null}
runtime: {workers: 2}
"""

Rows = dict[str, list[dict[str, Any]]]

# Columns that most tests do not care about.
DEFAULTS: dict[str, dict[str, Any]] = {
    "series": {"variant": "base", "control_for": None},
    "monitors": {"family": "paper", "low": None, "high": None, "monitored": True},
    "correlations": {
        "pearson_loo_low": None,
        "pearson_loo_high": None,
        "linear_slope": None,
        "linear_intercept": None,
        "difference_lag": None,
    },
    "bound": {"kernel": "gating"},
}


def filled(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the columns that nobody cares about here."""
    return [{**DEFAULTS.get(name, {}), **row} for row in rows]


def invent_rows(*, spec_yaml: str = SPEC_YAML, shift: float = 0.0) -> Rows:
    """Rows of every table; `shift` moves the pathway distance, as another threshold would."""
    rows: Rows = {name: [] for name in TABLES}
    rows["study"] = [
        {
            "name": "tiny",
            "title": "A tiny study",
            "description": "It's invented.",
            "spec_yaml": spec_yaml,
            "spec_fingerprint": "ab" * 32,
        }
    ]
    for position, domain in enumerate(DOMAINS):
        rows["domains"].append(
            {
                "domain": domain,
                "title": domain.title(),
                "position": position,
                "benchmark": f"exam_{domain}",
                "metric": "acc",
            }
        )
    for monitor, direction in MONITORS.items():
        rows["monitors"].append(
            {
                "monitor": monitor,
                "title": monitor.replace("_", " "),
                "unit": "nats per token",
                "expected_direction": direction,
                "source": "arXiv 2506.21551, sec. 4.3",
                "formula": "a mean",
            }
        )
    for position, (series, role) in enumerate(SERIES.items()):
        rows["series"].append(
            {
                "series": series,
                "role": role,
                "title": "",
                "source_kind": "nano",
                "position": position,
            }
        )
        for domain in DOMAINS:
            _invent_domain(rows, series, domain)
        for place, step in enumerate(STEPS):
            _invent_checkpoint(rows, series, step, place, shift)
    _invent_verdicts(rows)
    return {name: filled(name, of_table) for name, of_table in rows.items()}


def _invent_domain(rows: Rows, series: str, domain: str) -> None:
    place = {"series": series, "domain": domain}
    rows["memorization_thresholds"].append(
        {
            **place,
            "epsilon": 0.5,
            "delta": 0.05,
            "share_memorized": 0.5,
            "share_low": 0.2,
            "share_high": 0.25,
            "in_range": False,
            "note": None,
        }
    )
    for sample in range(NUM_SAMPLES):
        # Samples 0..5 are memorized at 25, 25, 50, 50, 100, never.
        step = (25, 25, 50, 50, 100, None)[sample]
        rows["probes"].append(
            {
                **place,
                "sample_id": sample,
                "split": "probe",
                "num_tokens": 5,
                "num_counted": 1,
                "text": "1 + 1 = 2",
            }
        )
        rows["memorization"].append({**place, "sample_id": sample, "memorization_step": step})
    for document in range(NUM_DOCUMENTS):
        learned = series == "main" and document < 4
        rows["generalization"].append(
            {
                **place,
                "benchmark": f"exam_{domain}",
                "document_id": document,
                "generalization_step": 100 if learned else None,
            }
        )


def _invent_checkpoint(rows: Rows, series: str, step: int, place: int, shift: float) -> None:
    rows["checkpoints"].append(
        {
            "series": series,
            "step": step,
            "tokens_seen": step * 1600,
            "repository": None,
            "revision": f"step{step}",
            "digest": f"{series}-{step}",
            "family": "olmoe",
            "num_layers": 4,
            "num_experts": 8,
            "top_k": 2,
            "num_parameters": 492_000,
        }
    )
    for number, domain in enumerate(DOMAINS):
        at = {"series": series, "step": step, "domain": domain}
        accuracy = (0.0, 0.2, 0.4, 0.8)[place] if series == "main" else 0.2
        values = {
            "accuracy": accuracy,
            "training_loss": 5.0 / (1 + place),
            "validation_loss": 5.0 - 4 * accuracy,
            "pathway_distance": 18.0 - place + number + shift,
            "pathway_consistency": None if step == 0 else 0.3 + 0.2 * place,
        }
        for monitor, value in values.items():
            rows["curves"].append({**at, "monitor": monitor, "value": value})
        rows["loss_curve"].append({**at, "loss": values["training_loss"]})
        rows["benchmark_scores"].append(
            {
                **at,
                "benchmark": f"exam_{domain}",
                "metric": "acc",
                "value": accuracy,
                "std_error": 0.1,
                "num_documents": NUM_DOCUMENTS,
            }
        )
        for document in range(NUM_DOCUMENTS):
            rows["benchmark_documents"].append(
                {
                    **at,
                    "benchmark": f"exam_{domain}",
                    "document_id": document,
                    "value": float(document < accuracy * NUM_DOCUMENTS),
                    "correct": document < accuracy * NUM_DOCUMENTS,
                    "target": "2",
                    "response": "2",
                }
            )
        for sample in range(NUM_SAMPLES):
            rows["sample_losses"].append(
                {**at, "split": "probe", "sample_id": sample, "loss": values["training_loss"]}
            )
            rows["sample_pathways"].append(
                {
                    **at,
                    "sample_id": sample,
                    "pathway": "3,1-0-2-5,4",
                    "pathway_length": 6,
                    "roughness": None if sample == 0 else 0.4,
                    "mean_cosine": 0.1,
                    "max_cosine": 0.3,
                    "routing_entropy": 1.5,
                }
            )
        rows["pathway_metrics"].append(
            {
                **at,
                "scope": "domain",
                "group_step": None,
                "layer": None,
                "metric": "pathway_distance",
                "value": values["pathway_distance"],
                "low": None,
                "high": None,
                "num_samples": NUM_SAMPLES,
                "num_pairs": 15,
                "note": None,
            }
        )
        rows["bound"].append(
            {
                **at,
                "num_samples": NUM_SAMPLES,
                "ridge": 1.0,
                "effective_dimension": 2.0,
                "bias": 0.1,
                "variance": 0.3,
                "noise": 0.5,
                "total": 0.9,
            }
        )


def _invent_verdicts(rows: Rows) -> None:
    numbers = [c.name for c in TABLES["correlations"].columns if c.type == pa.float64()]
    for series in SERIES:
        for domain in DOMAINS:
            for monitor in MONITORS:
                rows["correlations"].append(
                    {
                        "series": series,
                        "domain": domain,
                        "monitor": monitor,
                        "window": "all",
                        "num_checkpoints": len(STEPS),
                        **dict.fromkeys(numbers, 0.25 if series == "main" else None),
                        "verdict": "cannot tell",
                        "note": "4 checkpoints",
                    }
                )
    for domain in DOMAINS:
        for monitor in MONITORS:
            rows["separation"].append(
                {
                    "domain": domain,
                    "monitor": monitor,
                    "main_series": "main",
                    "control_series": "shuffled",
                    "main_change": -3.0,
                    "control_change": -3.0,
                    "main_moves": "falls",
                    "control_moves": "falls",
                    "graded": 0.0,
                    "verdict": "no difference shown",
                    "sentence": "It falls by 3 in both.",
                }
            )
    for number, step_name in enumerate(("routing", "pathways")):
        rows["artifacts"].append(
            {
                "fingerprint": f"{number:020x}",
                "step_name": step_name,
                "version": 1,
                "digest": f"{number:064x}",
                "path": f"artifacts/{step_name}/v1-{number:020x}",
                "seconds": 1.5,
                "num_bytes": 1 << 20,
                "started_at": "2026-01-01T00:00:00+00:00",
                "git_commit": "c0ffee",
                "packages": json.dumps({"numpy": np.__version__}),
                "device": "cpu",
            }
        )
    rows["lineage"].append(
        {
            "fingerprint": f"{1:020x}",
            "input_name": "routing",
            "input_digest": f"{0:064x}",
            "input_fingerprint": f"{0:020x}",
        }
    )


def build_invented(out: Path, **options: Any) -> Path:
    """Build a warehouse from invented rows."""
    rows = invent_rows(**options)
    build({name: conform(name, some) for name, some in rows.items()}, out)
    return out
