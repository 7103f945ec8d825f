"""MLflow's own pages, in a real Chromium: two study runs side by side, their curves, a search.

With GROKPATH_SCREENSHOTS=<folder> the pages are also kept as pictures, as docs/figures has them.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.servers import free_port, running, wait_for

pytestmark = pytest.mark.browser
PATIENCE = 120_000  # milliseconds: MLflow's pages are large, the machine may be busy
THRESHOLDS = ("0.6", "0.7")


@pytest.fixture(scope="module")
def study_runs(finished, prefect_server, tmp_path_factory):
    """Data folder with two runs of the smoke study, which differ in the pathway threshold."""
    from flows.run import study_flow

    folder = tmp_path_factory.mktemp("compared") / "data"
    shutil.copytree(finished, folder, symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROKPATH_ROOT", str(folder))
        study_flow("smoke", changes={"pathways": {"threshold": float(THRESHOLDS[0])}})
    return folder


@pytest.fixture(scope="module")
def server(study_runs):
    """A real MLflow server over the store that the studies were tracked in."""
    port, log = free_port(), study_runs / "mlflow.log"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{study_runs / 'mlflow.db'}", "--workers", "1"),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with running(command, {**os.environ, **quiet}, log) as process:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/health", process, log)
        yield address


@pytest.fixture(scope="module")
def client(server):
    from store.tracking import MlflowClient

    return MlflowClient(server)


@pytest.fixture(scope="module")
def experiment(client):
    return client.get_experiment_by_name("smoke").experiment_id


@pytest.fixture(scope="module")
def names(client, experiment):
    """Names of the two study runs, by threshold."""
    runs = client.search_runs([experiment], "tags.`grokpath.kind` = 'study'")
    found = {run.data.params["pathways.threshold"]: run.info.run_name for run in runs}
    assert sorted(found) == sorted(THRESHOLDS)
    return found


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    yield opened
    context.close()


def show_runs(page, server, experiment, names, query=""):
    """The list of runs, without the panel of the assistant beside it."""
    page.goto(f"{server}/#/experiments/{experiment}/runs{query}")
    for name in names.values():
        page.get_by_role("link", name=name).first.wait_for()
    close = page.locator("[data-component-id='mlflow.assistant.chat_panel.close']")
    if close.count():
        close.click()


def picture(page, name):
    folder = os.environ.get("GROKPATH_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"mlflow_{name}.png"), timeout=PATIENCE)


def test_two_runs_are_compared_by_what_differs(page, server, experiment, names):
    show_runs(page, server, experiment, names)
    for name in names.values():
        row = page.locator(".ag-row").filter(has_text=name)
        row.locator("input[type=checkbox]").first.check(force=True)
    page.get_by_test_id("runs-compare-button").click()
    page.get_by_text("Show diff only").first.wait_for()
    row = page.get_by_role("row").filter(has_text=re.compile(r"^\s*pathways\.threshold"))
    told = row.first.inner_text()
    assert all(threshold in told for threshold in THRESHOLDS), told
    body = page.inner_text("body")
    assert all(name in body for name in names.values())
    picture(page, "compare")


def test_curves_of_both_runs_lie_over_the_pretraining_steps(
    page, server, client, experiment, names
):
    show_runs(page, server, experiment, names, "?compareRunsMode=CHART")
    page.get_by_placeholder("Search metric charts").fill("main/math/pathway_distance$")
    for name in names.values():
        page.get_by_text(f"{name} (main/math/pathway_distance)").first.wait_for()
    chart = page.locator(".js-plotly-plot").first
    chart.locator(".xtitle").wait_for(state="attached")
    assert chart.locator(".xtitle").text_content() == "Step"
    runs = client.search_runs([experiment], "tags.`grokpath.kind` = 'study'")
    history = client.get_metric_history(runs[0].info.run_id, "main/math/pathway_distance")
    points = chart.locator(".scatterlayer .point").count()
    assert points == len(names) * len(history), "a point per run and checkpoint"
    ticks = [int(text) for text in chart.locator(".xtick text").all_text_contents()]
    steps = [point.step for point in history]
    assert min(steps) <= min(ticks)
    assert max(ticks) <= max(steps)
    picture(page, "chart")


def test_checkpoints_are_found_by_revision_and_by_what_they_measure(
    page, server, client, experiment, names
):
    one = client.search_runs([experiment], "tags.`grokpath.kind` = 'checkpoint'")[0]
    revision = one.data.params["revision"]
    show_runs(page, server, experiment, names)
    for wanted in (
        f"params.revision = '{revision}' and params.series = 'main'",
        "metrics.pathway_consistency_math > 0.6",
    ):
        found = client.search_runs([experiment], wanted)
        assert found
        models = client.search_logged_models([experiment], wanted)
        assert {model.source_run_id for model in models} == {run.info.run_id for run in found}
        parents = {run.data.tags["mlflow.parentRunId"] for run in found}  # shown above them
        num_shown = len(found) + len(parents)
        box = page.get_by_test_id("search-box")
        box.fill(wanted)
        box.press("Enter")
        page.get_by_text(re.compile(rf"^{num_shown}\s*matching runs?$")).first.wait_for()
    picture(page, "search")
