"""A small invented study: what the tests of the report read."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from reports.page import build_report
from store.schemas import TABLES, conform
from store.warehouse import build
from tests.store.invented import filled

DOMAINS = {"math": "Math", "code": "Code & <types>"}
STEPS = (0, 25, 50, 100, 200, 400)
MONITORS = {"pathway_distance": -1, "pathway_consistency_median": 1, "training_loss": -1}
Rows = dict[str, list[dict[str, Any]]]
SPEC_YAML = "name: tiny\nanalysis: {significance: 0.05}\n"


def invent(series: Sequence[str] = ("main", "shuffled"), steps: Sequence[int] = STEPS) -> Rows:
    """Rows of every table; `main` generalizes, `shuffled` does not."""
    rows: Rows = {name: [] for name in TABLES}
    rows["study"] = [
        {
            "name": "tiny",
            "title": "A tiny study",
            "description": "Invented for `tests`, not </script> measured.",
            "spec_yaml": SPEC_YAML,
            "spec_fingerprint": "ab" * 32,
        }
    ]
    rows["domains"] = [
        {"domain": d, "title": t, "position": i, "benchmark": f"exam_{d}", "metric": "acc"}
        for i, (d, t) in enumerate(DOMAINS.items())
    ]
    rows["monitors"] = [
        {
            "monitor": name,
            "title": name.replace("_", " "),
            "unit": "units",
            "expected_direction": direction,
            "source": "arXiv 2506.21551, sec. 4.3",
            "formula": "a mean",
        }
        for name, direction in MONITORS.items()
    ]
    for position, name in enumerate(series):
        _add_series(rows, name, position, steps)
    if {"main", "shuffled"} <= set(series):
        rows["separation"] = [_separation(d, m) for d in DOMAINS for m in MONITORS]
    rows["artifacts"] = [
        {
            "fingerprint": f"{number:02d}" * 20,
            "step_name": step,
            "version": 1,
            "digest": "cd" * 32,
            "path": f"artifacts/{step}",
            "seconds": 1.5,
            "num_bytes": 2_000_000,
            "started_at": f"2026-01-01T00:00:{number:02d}Z",
            "git_commit": "e" * 40,
            "packages": json.dumps({"numpy": "2.4.0"}),
            "device": "cpu",
        }
        for number, step in enumerate(("routing", "monitors"))
    ]
    rows["lineage"] = [
        {
            "fingerprint": "01" * 20,
            "input_name": "routing",
            "input_digest": "cd" * 32,
            "input_fingerprint": "00" * 20,
        }
    ]
    return rows


def _add_series(rows: Rows, name: str, position: int, steps: Sequence[int]) -> None:
    control = name == "shuffled"
    role = "control" if control else "main"
    rows["series"].append(
        {
            "series": name,
            "role": role,
            "title": "",
            "source_kind": "nano",
            "position": position,
        }
    )
    rows["checkpoints"] += [
        {
            "series": name,
            "step": step,
            "tokens_seen": None,
            "repository": None,
            "revision": f"step{step}",
            "digest": f"{step:064x}",
            "family": "olmoe",
            "num_layers": 2,
            "num_experts": 4,
            "top_k": 2,
            "num_parameters": 1000,
        }
        for step in steps
    ]
    for domain in DOMAINS:
        rows["memorization"] += [
            {"series": name, "domain": domain, "sample_id": i, "memorization_step": step}
            for i, step in enumerate((25, 50, None, None))
        ]
        rows["memorization_thresholds"].append(
            {
                "series": name,
                "domain": domain,
                "epsilon": 0.5,
                "delta": 0.05,
                "share_memorized": 0.5,
                "share_low": 0.2,
                "share_high": 0.25,
                "in_range": False,
                "note": "nearest",
            }
        )
        rows["correlations"] += [
            _correlation(name, domain, monitor, window)
            for monitor in MONITORS
            for window in ("all", "after_onset")
        ]
        if not control:
            rows["power"].append(
                {"series": name, "domain": domain, "num_checkpoints": 5, "num_documents": 240}
                | {
                    "wobble": None,
                    "counting_noise": None,
                    "power": 0.0,
                    "num_tests": 2,
                    "corrected_power": 0.0,
                }
            )
        for step in steps:
            _add_checkpoint(rows, name, domain, step, control)


def _add_checkpoint(rows: Rows, series: str, domain: str, step: int, control: bool) -> None:
    place = {"series": series, "domain": domain, "step": step}
    learned = 1 - math.exp(-step / 100)
    values = {
        "accuracy": 0.1 if control else 0.05 + 0.9 * learned,
        "training_loss": 3 * (1 - learned),
        "validation_loss": 3.0 if control else 3 * (1 - learned) + 0.5,
        "pathway_distance": 18 - 4 * learned,
        "pathway_distance_normalized": 0.7 - 0.1 * learned,
        "pathway_consistency_median": None if step == 0 else 0.5 * learned,
    }
    rows["curves"] += [place | {"monitor": m, "value": v} for m, v in values.items()]
    rows["bound"].append(
        place
        | {"num_samples": 4, "ridge": 1.0, "effective_dimension": 2 + learned}
        | {"bias": 0.1, "variance": 0.2, "noise": 0.3, "total": 0.6}
    )
    scopes = [
        ("layer", None, 0, "pathway_distance_expert"),
        ("layer", None, 1, "pathway_distance_expert"),
        ("layer_pair", None, 0, "cosine"),
        ("group", 25, None, "pathway_distance"),
        ("group", 50, None, "pathway_distance"),
    ]
    rows["pathway_metrics"] += [
        place
        | {"scope": scope, "group_step": group, "layer": layer, "metric": metric}
        | {"value": 3 - learned, "low": None, "high": None}
        | {"num_samples": 4, "num_pairs": 6, "note": None}
        for scope, group, layer, metric in scopes
    ]


def _correlation(series: str, domain: str, monitor: str, window: str) -> dict[str, Any]:
    """Pathway distance follows accuracy in math of main, nothing else does."""
    follows = (series, domain, monitor) == ("main", "math", "pathway_distance")
    abstains = monitor == "training_loss"
    p = None if abstains else 0.001 if follows else 0.6
    return {
        "series": series,
        "domain": domain,
        "monitor": monitor,
        "window": window,
        "num_checkpoints": 6 if window == "all" else 5,
        "pearson": -0.91234 if follows else 0.25,
        "pearson_low": -0.99 if follows else -0.1,
        "pearson_high": -0.5 if follows else 0.6,
        "pearson_p": 0.01,
        "spearman": -0.9 if follows else 0.2,
        "smallest_p": 0.003,
        "partial_pearson": None,
        "linear_r2": 0.83,
        "linear_mse": 0.01,
        "difference_pearson": None if abstains else -0.8 if follows else 0.1,
        "difference_spearman": None if abstains else -0.75 if follows else 0.12,
        "difference_p": p,
        "difference_smallest_p": None if abstains else 0.0002,
        "holm_p": p and min(1.0, 12 * p),
        "verdict": "cannot tell: too smooth" if abstains else "in plain words",
        "note": None,
    }


def _separation(domain: str, monitor: str) -> dict[str, Any]:
    apart = (domain, monitor) == ("math", "pathway_distance")
    verdict = "differs in these two runs" if apart else "no difference shown"
    return {
        "domain": domain,
        "monitor": monitor,
        "main_series": "main",
        "control_series": "shuffled",
        "main_change": -2.0,
        "control_change": 0.0 if apart else -3.0,
        "main_moves": "falls",
        "control_moves": "stays" if apart else "falls",
        "graded": -4.0,
        "verdict": verdict,
        "sentence": f"{monitor} {verdict}: it falls in the main series (change -2).",
    }


@pytest.fixture(scope="session")
def write_database(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Rows], Path]:
    """Make a warehouse file of given rows."""

    def write(rows: Rows) -> Path:
        path = tmp_path_factory.mktemp("warehouse") / "warehouse.duckdb"
        build({name: conform(name, filled(name, of)) for name, of in rows.items()}, path)
        return path

    return write


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., Rows]:
    """Rows of the invented study, for tests that take some away."""
    return invent


@pytest.fixture(scope="session")
def database(write_database: Callable[[Rows], Path]) -> Path:
    """The whole invented study as a warehouse file."""
    return write_database(invent())


@pytest.fixture(scope="session")
def report(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of its report."""
    out = tmp_path_factory.mktemp("report")
    build_report(database, out)
    return out
