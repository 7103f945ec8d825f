"""A failed step is mended and retried on Prefect's page; interrupted runs go on where they were.

Real server, workers, command line and browser; `state.db` shows which bodies ran. With
GROKPATH_FIGURES=docs/figures the browser test writes the pictures of docs/rerun.md and
docs/run_page.md there.
"""

import os
from collections import Counter
from pathlib import Path

import psutil
import pytest
import yaml

from tests.operate.stage import until
from tests.servers import CHECKOUT

pytestmark = pytest.mark.timeout(1500)  # minutes on a quiet machine, more beside other tests
NEW = "main step10-tokens10K"
UNTOUCHED = ("main step0-tokens0K", "main step20-tokens20K")
DEPENDS_ON_SCORES = {
    "generalization main",
    "pairing main",
    "monitors",
    "warehouse",
    "report",
    "tracking",
}
SECOND = "main step15-tokens15K"
BEFORE_SCORES = {
    f"routing {SECOND}",
    f"pathways {SECOND}",
    f"measures {SECOND}",
    "memorization main",
    "groups main",
    "drift main",
    "router dynamics main",
}
AUTOMATION = CHECKOUT / "deployments" / "automations" / "crashed-runs.yaml"
WITHIN = 45  # seconds: more than one beat of 30


def picture(page, name):
    folder = os.environ.get("GROKPATH_FIGURES")
    if folder:
        page.wait_for_timeout(3000)  # the graph is a canvas: nothing tells when it is drawn
        page.screenshot(path=Path(folder) / f"{name}.png")


def until_text(page, text):
    page.get_by_text(text).first.wait_for()


@pytest.fixture
def page(browser):
    """A page that is closed when its test is done: Prefect's graph keeps a processor busy."""
    context = browser.new_context(viewport={"width": 1280, "height": 1040})
    yield context.new_page()
    context.close()


@pytest.mark.browser
def test_a_failed_step_is_retried_from_the_page_and_only_it_runs_again(stage, page):
    stage.write_checkpoint(10)
    key = stage.answers / "key.json"
    lost = key.rename(stage.answers / "moved.json")
    before = len(stage.attempts())
    page.set_default_timeout(120_000)

    # The form: "Custom run" of the deployment
    page.goto(f"{stage.page}/deployments/deployment/{stage.deployment()}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.get_by_role("textbox", name="study").fill(str(stage.study))
    picture(page, "prefect_form")
    page.get_by_role("button", name="Submit").click()
    run = until(stage.newest_run, "the form has made a run")
    page.goto("about:blank")  # a page with a graph keeps a processor busy
    stage.until_state(run, "Failed")

    # It says what is wrong, with which step, and what to do
    failed = stage.run(run)
    message = failed["state"]["message"]
    assert f"benchmarks {NEW}" in message
    assert str(key) in message
    assert "Retry" in message
    ran = stage.attempts()[before:]
    assert [name for ending, name in ran if ending == "failed"] == [f"benchmarks {NEW}"]
    assert not [name for _, name in ran if name.endswith(UNTOUCHED)]
    assert {f"routing {NEW}", f"pathways {NEW}"} <= {n for ending, n in ran if ending == "computed"}
    errors = stage.errors_logged(run)
    assert len(errors) <= 5, "one failure, reported by its step and by the run"
    assert not any("NotReady" in error for error in errors), "what only waits is no error"
    page.goto(f"{stage.page}/runs/flow-run/{run}?tab=Details")
    until_text(page, "executes only what is missing")
    picture(page, "prefect_failed_run")

    # Fixed, and the button pressed
    lost.rename(key)
    before = len(stage.attempts())
    page.get_by_role("button", name="Open menu").click()
    page.get_by_role("menuitem", name="Retry").click()
    with page.expect_response("**/set_state") as answered:
        page.get_by_role("alertdialog").get_by_role("button", name="Retry").click()
    assert answered.value.ok
    page.goto("about:blank")
    stage.until_state(run, "Completed")
    ran = stage.attempts()[before:]
    assert {name for _, name in ran} == {
        f"benchmarks {NEW}",
        *DEPENDS_ON_SCORES,
    }
    assert not [name for ending, name in ran if ending == "failed"]
    assert stage.run(run)["run_count"] == 2
    page.goto(f"{stage.page}/runs/flow-run/{run}?tab=Details")
    page.get_by_role("main").get_by_text("Completed", exact=True).first.wait_for()
    picture(page, "prefect_retried_run")
    page.goto(f"{stage.page}/runs/flow-run/{run}?tab=Artifacts")
    for what in ("completeness", "summary", "correlations", "accuracy", "report"):
        until_text(page, f"little-{what}")
    picture(page, "prefect_artifacts")
    (summary, *_) = stage.find(
        "artifacts", artifacts={"key": {"any_": ["little-summary"]}}, sort="CREATED_DESC"
    )
    page.goto(f"{stage.page}/artifacts/artifact/{summary['id']}")
    until_text(page, "A little study")
    picture(page, "prefect_summary")


def test_however_a_run_ends_only_the_interrupted_step_is_repeated(stage, tmp_path):
    """One run: cancelled, stopped, its process killed, and then everything killed at once."""
    slow = stage.answers / "slow"
    slow.touch()
    stage.write_checkpoint(15)
    before = len(stage.attempts())
    run = stage.start_run({"runtime": {"workers": 2}})

    processes = scoring(stage, before, attempt=1)
    stage.prefect("flow-run", "cancel", run)
    all_gone(processes)
    stage.until_state(run, "Cancelled")
    assert not stage.held_locks()

    stage.prefect("flow-run", "retry", run)
    flow_process, *_ = processes = scoring(stage, before, attempt=2)
    flow_process.terminate()  # as when the machine is shut down
    all_gone(processes)
    stage.until_state(run, "Crashed")

    stage.prefect("flow-run", "retry", run)
    flow_process, *_ = processes = scoring(stage, before, attempt=3)
    flow_process.kill()
    all_gone(processes)  # the body too, which cannot notice
    stage.until_state(run, "Crashed")  # the worker says so, and would say it again seconds later:
    until(lambda: "worker - Check whether" in stage.end_of_logs(), "the worker has said all")

    stage.prefect("automation", "create", "--from-file", str(shortened(tmp_path)))
    stage.prefect("flow-run", "retry", run)
    flow_process, *_ = processes = scoring(stage, before, attempt=4)
    killed = stage.kill()
    flow_process.kill()
    all_gone([*processes, *killed])
    stage.server = stage.start_server()
    state = stage.until_state(run, "Crashed")  # nobody but the automation can say so
    assert "No sign of life" in state["message"]

    slow.unlink()
    stage.worker = stage.start_worker()  # another one, with the same data
    stage.prefect("flow-run", "retry", run)
    stage.until_state(run, "Completed")
    ran = stage.attempts()[before:]
    attempts = Counter(name for _, name in ran)
    assert attempts.pop(f"benchmarks {SECOND}") == 5
    assert attempts == dict.fromkeys(BEFORE_SCORES | DEPENDS_ON_SCORES, 1)


def scoring(stage, before, attempt):
    """Processes of the run, its own first, once scoring is all that is left to do."""

    def reached():
        ran = stage.attempts()[before:]
        began = sum(name == f"benchmarks {SECOND}" for _, name in ran)
        return began == attempt and {("computed", name) for name in BEFORE_SCORES} <= set(ran)

    until(reached, f"scoring begins for the {attempt}. time")
    stuck = stage.answers / "stuck"
    until(stuck.exists, "the body is in its native loop")
    stuck.unlink()
    (flow_process,) = stage.worker.children()
    return [flow_process, *flow_process.children(recursive=True)]


def all_gone(processes):
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive


def shortened(folder):
    """The automation that ships, with a shorter time: a test should not take minutes."""
    content = yaml.safe_load(AUTOMATION.read_text())
    content["name"] += ", soon"
    content["trigger"]["within"] = WITHIN
    path = folder / "automation.yaml"
    path.write_text(yaml.safe_dump(content))
    return path
