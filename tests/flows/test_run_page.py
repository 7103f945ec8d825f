"""What a study leaves on the page of its flow run, asked of a real Prefect server."""

import json
import re
import shutil
import time

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)

from flows.run import study_flow
from flows.study import plan_study
from tasks import task_page
from tests.artifacts import artifacts_of

REMADE = "pathways main step10-tokens3.2K"
NUM_STEPS = 95
STEPS = {"routing", "pathways", "measures", "benchmarks"}
pytestmark = pytest.mark.usefixtures("prefect_server")


def run(smoke):
    """The state of a flow run over the data folder, and the artifacts on its page by key."""
    state = study_flow(smoke, return_state=True)
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    )
    found = get_client(sync_client=True).read_artifacts(artifact_filter=wanted)
    # One without a key is Prefect's own note of where it keeps what the run returned or raised.
    return state, {one.key: one for one in found if one.key and one.task_run_id is None}


def task_runs(flow_run_id):
    """Task runs of a flow run by name; the server learns of them, and their names, later."""
    client, deadline = get_client(sync_client=True), time.monotonic() + 60
    ours = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    while True:
        found = client.read_task_runs(flow_run_filter=ours, limit=200)
        named = {one.name: one for one in found}
        all_there = len(found) >= NUM_STEPS and {"monitors", "warehouse", "report"} <= set(named)
        if all_there or time.monotonic() > deadline:
            return named
        time.sleep(0.2)


def test_a_failed_run_shows_what_is_missing_and_the_next_one_all_there_is(
    copied, smoke, monkeypatch
):
    monkeypatch.setattr(task_page, "SECONDS_BEFORE", 0.0)
    (entry,) = [one for one in plan_study(smoke).entries if one.label == REMADE]
    folder = entry.artifact.path
    shutil.rmtree(folder)
    in_the_way = folder.with_name(f".draft-{folder.name}")
    in_the_way.write_text("")

    state, shown = run(smoke)
    assert state.is_failed()
    assert set(shown) == {"smoke-completeness", "smoke-summary"}
    cells = [row["pathways"] for row in json.loads(shown["smoke-completeness"].data)]
    assert sorted(cells) == sorted(["✓ reused"] * 12 + ["✗ failed"])
    summary = shown["smoke-summary"].data
    assert summary.startswith("# The smoke study: not complete\n\n95 steps: ")
    assert f"## Failed\n\n- **{REMADE}**: NotADirectoryError: " in summary
    assert "- warehouse\n- report\n- tracking" in summary
    assert "| pathways | 12 | 1 |  |" in summary

    in_the_way.unlink()
    state, shown = run(smoke)
    assert state.is_completed()
    assert {key: one.type for key, one in shown.items()} == {
        "smoke-completeness": "table",
        "smoke-summary": "markdown",
        "smoke-correlations": "table",
        "smoke-accuracy": "image",
        "smoke-pathway-distance": "image",
        "smoke-report": "markdown",
    }
    matrix = json.loads(shown["smoke-completeness"].data)
    assert len(matrix) == 13
    assert all(set(row) == {"series", "checkpoint"} | STEPS for row in matrix)
    (computed,) = [row for row in matrix if "✓ computed" in row.values()]
    assert (computed["series"], computed["checkpoint"]) == ("main", "step10-tokens3.2K")
    assert (computed["pathways"], computed["measures"]) == ("✓ computed", "✓ reused")
    summary = shown["smoke-summary"].data
    assert summary.startswith("# The smoke study\n\n")
    assert f"`{copied}/smoke/warehouse.duckdb`" in summary
    assert "95 steps: 1 computed, 94 reused." in summary
    assert shown["smoke-report"].data == f"`{copied}/smoke/report.html`"
    rows = json.loads(shown["smoke-correlations"].data)
    assert {row["domain"] for row in rows} == {"math", "chemistry"}
    assert rows[0]["monitor"] == "pathway distance"
    assert shown["smoke-accuracy"].data.startswith("data:image/png;base64,iVBOR")

    runs = task_runs(state.state_details.flow_run_id)
    assert len(runs) == NUM_STEPS  # every name once
    assert {"routing main step10-tokens3.2K", "benchmarks shuffled step0-tokens0"} < set(runs)
    assert {"corpus dense", "memorization main", "monitors", "warehouse", "report"} < set(runs)
    shown = artifacts_of(runs[REMADE].id)
    assert [row["domain"] for row in json.loads(shown["table"].data)] == ["math", "chemistry"]
    assert shown["progress"].data == 100
    assert re.fullmatch(rf"{REMADE}: done after \d+ s", shown["progress"].description)
