"""Report: one page of HTML and the figures, from the warehouse alone."""

from pathlib import Path
from typing import Any

from store.artifacts import Artifact
from studies.settings import Runtime
from tasks.publish import WAREHOUSE
from tasks.step import step


@step("report", version=3, run_name="report")
def write_report(out: Path, *, warehouse: Artifact, runtime: Runtime) -> dict[str, Any]:
    """Write report.html (self-contained) and figures/ (PNG and SVG). Costs some ten seconds.

    The summary has the headline.
    """
    from reports.page import build_report

    return {"headline": build_report(warehouse.path / WAREHOUSE, out)}
