"""`grokpath up` as a user has it: started, looked at, changed by hand, killed, started again."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import psutil
import pytest
import yaml

from tests.operated import status, up_at, wait_until_gone
from tests.servers import CHECKOUT, ask, environment, free_port, running

POOL_LIMIT, CARD_LIMIT = 3, 9
"""Neither is what `grokpath up` would choose."""


def api(up, method, path, body=None):
    return ask(f"{up.prefect}/api/{path}", body, method)


def schedule_of_smoke(up):
    deployment = api(up, "GET", "deployments/name/study/smoke")
    (schedule,) = [one for one in deployment["schedules"] if one["slug"]]
    return deployment["id"], schedule


def schedules_by_hand(up):
    found = {}
    for name in ("smoke", "file"):  # one with a schedule of the file's, one without
        schedules = api(up, "GET", f"deployments/name/study/{name}")["schedules"]
        found[name] = [one["schedule"]["interval"] for one in schedules if not one["slug"]]
    return found


def automations(up):
    return {one["name"]: one for one in api(up, "POST", "automations/filter", {})}


def expected_automations():
    files = sorted((CHECKOUT / "deployments" / "automations").glob("*.yaml"))
    contents = [yaml.safe_load(file.read_text()) for file in files]
    return {one["name"] for content in contents for one in content.get("automations", [content])}


def until(true):
    deadline = time.monotonic() + 180
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def rows(database, query):
    with closing(sqlite3.connect(database)) as kept:
        return kept.execute(query).fetchall()


def change_by_hand(up):
    """A pool, a limit, a schedule, more schedules and all automations."""
    api(up, "PATCH", "work_pools/cpu", {"concurrency_limit": POOL_LIMIT})
    api(up, "PATCH", "v2/concurrency_limits/gpu", {"limit": CARD_LIMIT})
    deployment, schedule = schedule_of_smoke(up)
    assert not schedule["active"]
    path = f"deployments/{deployment}/schedules/{schedule['id']}"
    api(up, "PATCH", path, {"active": True})
    more = [{"schedule": {"interval": 86400}, "active": False, "parameters": {"study": "nano"}}]
    for name in ("smoke", "file"):
        found = api(up, "GET", f"deployments/name/study/{name}")["id"]
        api(up, "POST", f"deployments/{found}/schedules", more)
    for one in automations(up).values():
        api(up, "PATCH", f"automations/{one['id']}", {"enabled": False})


def refused(root, *options):
    """What `grokpath up` says when it does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "--root", str(root), "up", *options],
        env=environment(root.with_suffix(".home")),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("up") / "data"


@pytest.fixture(scope="module")
def first(root):
    with up_at(root) as up:
        yield up


def test_the_addresses_it_prints_answer(first):
    for url in (first.prefect, first.mlflow):
        assert url in first.said()
        assert status(url) == 200
    assert str(first.root) in first.said()
    line = next(line for line in first.said().splitlines() if "export " in line)
    assert f"PREFECT_API_URL={first.prefect}/api MLFLOW_TRACKING_URI={first.mlflow}" in line


def test_everything_is_registered(first):
    pools = {one["name"]: one for one in api(first, "POST", "work_pools/filter", {})}
    assert {name: pool["type"] for name, pool in pools.items()} == dict.fromkeys(
        ("cpu", "gpu"), "process"
    )
    assert pools["cpu"]["concurrency_limit"] == max(1, os.cpu_count() // 2)
    assert api(first, "GET", "v2/concurrency_limits/gpu")["limit"] >= 1
    wanted = yaml.safe_load((CHECKOUT / "deployments" / "prefect.yaml").read_text())["deployments"]
    found = api(first, "POST", "deployments/filter", {})
    assert len(found) == len(wanted)
    assert set(automations(first)) >= expected_automations()


def test_a_worker_is_there_for_cpu(first):
    assert api(first, "POST", "work_pools/cpu/workers/filter", {})
    assert api(first, "GET", "work_pools/cpu")["status"] == "READY"


@pytest.mark.parametrize("first_import", ["flows.cli", "prefect"], ids=["command", "worker"])
def test_runs_beat_often_enough_not_to_be_taken_for_dead(first_import, tmp_path):
    """A run in a terminal or of a worker started by hand, which nobody told how often."""
    file = CHECKOUT / "deployments" / "automations" / "crashed-runs.yaml"
    ask = f"import {first_import}; from prefect.settings import get_current_settings as settings"
    ask += "; print(settings().flows.heartbeat_frequency)"
    beat = subprocess.check_output(
        [sys.executable, "-c", ask], env=environment(tmp_path), cwd=CHECKOUT, text=True
    )
    assert 2 * int(beat) < yaml.safe_load(file.read_text())["trigger"]["within"]


def test_foreign_names_and_pages_are_refused_without_a_password_too(first):
    assert status(f"{first.prefect}/api/health", host="evil.example") == 400
    assert status(f"{first.prefect}/api/flows/filter", body=b"{}", origin="http://a.example") == 403
    assert status(f"{first.prefect}/api/flows/filter", body=b"{}", origin=first.prefect) == 200
    assert status(first.mlflow, host="evil.example") == 403


def test_a_second_one_over_the_same_folder_is_refused(first):
    said = refused(first.root, "--prefect-port", str(free_port()))
    assert f"runs already over {first.root}" in said
    assert "--root" in said


@pytest.mark.parametrize("which", ["prefect", "mlflow"])
def test_a_taken_port_is_named_with_its_option(first, which, tmp_path):
    port = getattr(first, which).rpartition(":")[2]
    ports = {"prefect": str(free_port()), "mlflow": str(free_port()), which: port}
    words = [word for name, value in ports.items() for word in (f"--{name}-port", value)]
    said = refused(tmp_path / "other", *words)
    assert f"port {port}" in said
    assert f"--{which}-port" in said


def test_killed_and_started_again_it_keeps_what_was_changed_and_ends_on_ctrl_c(root, first):
    change_by_hand(first)
    family = first.family()
    first.process.send_signal(signal.SIGKILL)
    wait_until_gone(family)
    before = first.prefect
    with up_at(root) as up:
        assert up.prefect != before
        assert api(up, "GET", "work_pools/cpu")["concurrency_limit"] == POOL_LIMIT
        assert api(up, "GET", "v2/concurrency_limits/gpu")["limit"] == CARD_LIMIT
        assert schedule_of_smoke(up)[1]["active"]
        assert schedules_by_hand(up) == {"smoke": [86400.0], "file": [86400.0]}
        found = api(up, "POST", "automations/filter", {})
        assert len({one["name"] for one in found}) == len(found)
        assert not any(one["enabled"] for one in found)
        assert (
            status(up.mlflow + "/api/2.0/mlflow/experiments/create", body=b'{"name": "e"}') == 200
        )
        deployment, _ = schedule_of_smoke(up)
        run = api(up, "POST", f"deployments/{deployment}/create_flow_run", {})["id"]
        until(lambda: api(up, "GET", f"flow_runs/{run}")["state"]["type"] == "RUNNING")
        family = up.family()
        assert any("prefect.engine" in process.cmdline() for process in family)
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(60) == 0, up.said()
        wait_until_gone(family, seconds=1)
    ended = f"SELECT state_name FROM flow_run WHERE id = '{run}'"
    assert rows(root / "prefect.db", ended) == [("Crashed",)]
    places = dict(rows(root / "mlflow.db", "SELECT name, artifact_location FROM experiments"))
    assert places["e"].startswith("mlflow-artifacts:")
    assert (root / "logs" / "cpu.log").read_text()


def test_when_a_server_dies_the_rest_is_ended_and_its_last_lines_are_shown(tmp_path):
    root, log = tmp_path / "data", tmp_path / "log"
    command = [sys.executable, "-m", "flows.cli", "--root", str(root), "up", "--no-workers"]
    command += ["--prefect-port", str(free_port()), "--mlflow-port", str(free_port())]
    # Its database is none: that is how a server dies by itself.
    root.mkdir()
    (root / "prefect.db").write_text("this is no database, and long enough to be read as one" * 50)
    with running(command, environment(tmp_path / "home"), log) as process:
        until((root / "logs" / "mlflow.log").exists)
        mother = psutil.Process(process.pid)
        family = [mother, *mother.children(recursive=True)]
        assert process.wait(120) == 1
        wait_until_gone(family, seconds=5)
    said = log.read_text()
    assert "prefect ended by itself" in said
    assert "file is not a database" in said
