"""Publish: the warehouse, the tracking store, and the folder where a user finds everything."""

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import yaml

from store import artifacts
from store.addresses import check
from store.artifacts import Artifact
from store.identity import canonical_json
from studies.settings import Runtime
from studies.spec import Domain, Study
from tasks.step import step

if TYPE_CHECKING:
    from store.tables import SeriesArtifacts

WAREHOUSE = "warehouse.duckdb"
REPORT = "report.html"
FIGURES = "figures"
EMBEDDED = "embedded"


@step("warehouse", version=4, run_name="warehouse")
def build_warehouse(
    out: Path,
    *,
    study: dict[str, str],
    series: "list[SeriesArtifacts]",
    domains: list[Domain],
    judged: list[Artifact],
    left_out: list[dict[str, Any]],
    runtime: Runtime,
) -> dict[str, Any]:
    """Build the DuckDB file from the artifacts: warehouse.duckdb. Costs seconds."""
    from store.tables import warehouse_tables
    from store.warehouse import build

    tables = warehouse_tables(series, domains, judged, study, left_out)
    build(tables, out / WAREHOUSE)
    return {}


@step("report", version=3, run_name="report")
def write_report(out: Path, *, warehouse: Artifact, runtime: Runtime) -> dict[str, Any]:
    """Write report.html (self-contained) and figures/ (PNG and SVG). Costs some ten seconds.

    The summary has the headline.
    """
    from reports.page import build_report

    return {"headline": build_report(warehouse.path / WAREHOUSE, out)}


def still_tracked(artifact: Artifact, inputs: dict[str, Any]) -> bool:
    """Whether the tracking store still has the run that an earlier export wrote."""
    from store.tracking import exists

    return exists(
        artifact.summary["run_key"],
        study=artifact.summary["study"],
        tracking_uri=_tracking_uri(inputs["destination"]),
        data_root=artifacts.root(),
    )


@step("tracking", version=1, run_name="tracking", still_holds=still_tracked)
def export_tracking(
    out: Path,
    *,
    study_name: str,
    warehouse: Artifact,
    report: Artifact,
    destination: str,
    runtime: Runtime,
) -> dict[str, Any]:
    """Mirror the warehouse and the report to MLflow. Costs some ten seconds.

    Writes tracking.json with the run's id. Runs again when the warehouse or the report change, the
    destination changes, or the run is gone from the tracking store.
    """
    from store.tracking import export

    run_key = f"{warehouse.fingerprint}-{report.version}"
    result = export(
        warehouse.path / WAREHOUSE,
        report.path,
        run_key=run_key,
        tracking_uri=_tracking_uri(destination),
        data_root=artifacts.root(),
    )
    found = {
        "study": study_name,
        "run_key": run_key,
        "run_id": result.run_id,
        "experiment_id": result.experiment_id,
    }
    (out / "tracking.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def tracking_destination() -> str:
    """Where runs are tracked: `MLFLOW_TRACKING_URI`, or the store inside the data folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED


def check_tracking() -> None:
    """Refuse an MLflow server that does not answer before anything is computed.

    Raises
    ------
    ConnectionError, ValueError
        Saying what was tried and what to do.
    """
    destination = tracking_destination()
    if destination != EMBEDDED:
        check(destination)


def describe(study: Study) -> dict[str, str]:
    """The study as one row: names, prose, and the specification as YAML without its runtime."""
    spec = study.model_dump(mode="json", exclude={"runtime"})
    return {
        "name": study.name,
        "title": study.title,
        "description": study.description,
        "spec_yaml": yaml.safe_dump(spec, sort_keys=False, allow_unicode=True, width=100),
        "spec_fingerprint": hashlib.sha256(canonical_json(spec).encode()).hexdigest(),
    }


def deliver(study: Study, found: dict[str, Artifact]) -> dict[str, str]:
    """Point the study's folder at its newest warehouse, report and figures; each swap is atomic.

    Returns
    -------
    dict
        Paths by name: `report`, `figures`, `warehouse`.
    """
    folder = artifacts.root() / study.name
    folder.mkdir(parents=True, exist_ok=True)
    targets = _targets(found)
    for target in targets.values():
        _point(folder / target.name, target)
    return {name: str(folder / target.name) for name, target in targets.items()}


def is_delivered(study: Study, found: dict[str, Any]) -> bool:
    """Whether the study's folder points at these artifacts already."""
    return all(
        delivered(study.name, target.name).resolve() == target.resolve()
        for target in _targets(found).values()
    )


def _targets(found: dict[str, Any]) -> dict[str, Path]:
    return {
        "report": found["report"].path / REPORT,
        "figures": found["report"].path / FIGURES,
        "warehouse": found["warehouse"].path / WAREHOUSE,
    }


def delivered(study_name: str, file_name: str) -> Path:
    """Where :func:`deliver` puts a file of a study."""
    return artifacts.root() / study_name / file_name


def _point(link: Path, target: Path) -> None:
    temporary = link.with_name(f".{link.name}.{uuid4().hex}")  # machines may share the folder
    temporary.symlink_to(os.path.relpath(target, link.parent))
    temporary.replace(link)


def _tracking_uri(destination: str) -> str | None:
    return None if destination == EMBEDDED else destination
