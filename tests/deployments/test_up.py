"""The real `grokpath up`: what is there once it says so, and that nothing is left when it ends."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest

from tests.operated import status, up_at, wait_until_gone
from tests.servers import CHECKOUT, environment, free_port

SECONDS = 120.0
PAGE = {"limit": 200}


def ask(url, body=None, method=None):
    """The JSON that Prefect's API answers."""
    told = {"Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(url, data, told, method=method), timeout=30
    ) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def registered(api):
    """Names of all that was registered."""
    schedules = ask(f"{api}/deployments/filter", PAGE)
    return {
        "pools": sorted(pool["name"] for pool in ask(f"{api}/work_pools/filter", {})),
        "limits": sorted(one["name"] for one in ask(f"{api}/v2/concurrency_limits/filter", {})),
        "deployments": sorted((one["flow_id"], one["name"]) for one in schedules),
        "schedules": sorted(s["slug"] for one in schedules for s in one["schedules"]),
        "automations": sorted(one["name"] for one in ask(f"{api}/automations/filter", {})),
    }


def refused(root, *options):
    """What a `grokpath up` says that must not start."""
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
    assert done.stderr.startswith("failed: ")
    return done.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The data folder of both starts."""
    return tmp_path_factory.mktemp("up") / "data"


@pytest.fixture(scope="module")
def up(root):
    """The first start, on an empty folder."""
    with up_at(root) as up:
        yield up


@pytest.fixture(scope="module")
def first(up):
    """What the first start registered."""
    return registered(f"{up.prefect}/api")


def test_it_says_where_everything_is(up):
    said = up.said()
    assert f"PREFECT_API_URL={up.prefect}/api MLFLOW_TRACKING_URI={up.mlflow}" in said
    for url in (up.prefect, f"{up.prefect}/api/version", up.mlflow):
        assert url.partition("/api")[0] in said
        assert status(url) == 200


def test_pools_and_limits_fit_the_machine(up):
    from tasks.devices import cards

    api, num_cards = f"{up.prefect}/api", max(1, len(cards()))
    cpu, gpu = (ask(f"{api}/work_pools/{name}") for name in ("cpu", "gpu"))
    assert (cpu["type"], gpu["type"]) == ("process", "process")
    assert cpu["concurrency_limit"] == max(1, os.cpu_count() // 2)
    assert gpu["concurrency_limit"] == num_cards
    assert ask(f"{api}/v2/concurrency_limits/gpu")["limit"] == num_cards


def test_all_deployments_and_automations_are_there(first):
    import yaml

    files = CHECKOUT / "deployments"
    wanted = yaml.safe_load((files / "prefect.yaml").read_text())["deployments"]
    assert sorted(name for _, name in first["deployments"]) == sorted(d["name"] for d in wanted)
    shipped = [yaml.safe_load(f.read_text()) for f in sorted(files.glob("automations/*.yaml"))]
    assert first["automations"] == sorted(one["name"] for one in shipped)


def test_a_worker_is_there_only_for_what_the_machine_has(up):
    from tasks.devices import cards

    words = [" ".join(process.cmdline()) for process in up.family()]
    guards = {word.rpartition(" ")[2] for word in words if "worker start --pool" in word}
    assert guards == ({"cpu", "gpu"} if cards() else {"cpu"})


def test_requests_to_a_foreign_name_are_refused(up):
    assert status(up.mlflow, host="evil.example") == 403
    assert status(f"{up.prefect}/api/version", host="evil.example") == 403


def test_a_second_one_over_the_same_folder_is_refused(up, root):
    ports = ("--prefect-port", str(free_port()), "--mlflow-port", str(free_port()))
    assert f"runs already over {root}" in refused(root, *ports)


def test_a_taken_port_is_named(up, tmp_path):
    taken = up.mlflow.rpartition(":")[2]
    said = refused(tmp_path / "other", "--prefect-port", str(free_port()), "--mlflow-port", taken)
    assert f"port {taken}" in said
    assert "--mlflow-port" in said


def test_ctrl_c_then_a_second_start_then_a_kill(up, root, first):
    """The last use of the first start; what was changed by hand is there in the second."""
    ask(f"{up.prefect}/api/work_pools/cpu", {"concurrency_limit": 5}, "PATCH")
    family = up.family()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(SECONDS) == 0, up.said()
    wait_until_gone(family)

    with up_at(root) as again:
        api = f"{again.prefect}/api"
        assert registered(api) == first
        assert ask(f"{api}/work_pools/cpu")["concurrency_limit"] == 5
        family = [*with_a_run(again), *again.family()]
        os.kill(again.process.pid, signal.SIGKILL)
        wait_until_gone(family)


def with_a_run(up):
    """Start the experiment's deployment; returns the processes of its run once it runs."""
    api = f"{up.prefect}/api"
    found = ask(f"{api}/deployments/filter", {"deployments": {"name": {"any_": ["default"]}}})
    run = ask(f"{api}/deployments/{found[0]['id']}/create_flow_run", {})["id"]
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if ask(f"{api}/flow_runs/{run}")["state_type"] == "RUNNING":
            running = [p for p in up.family() if run in str(environ_of(p))]
            assert running
            return running
        time.sleep(0.1)
    raise AssertionError(up.said())


def environ_of(process):
    try:
        return process.environ()
    except psutil.Error:
        return {}


def test_one_that_ends_by_itself_takes_the_others_along_and_is_named(tmp_path):
    code = f"""
from pathlib import Path
from rich.console import Console
from deployments.processes import Processes
processes = Processes(Path({str(tmp_path)!r}), Console())
processes.add_process("broken", "sleep 0.5; echo the disk is full; exit 3")
processes.add_process("sound", "exec sleep 600")
processes.run()
"""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert time.monotonic() - began < 30
    assert done.returncode == 1
    last = done.stderr.partition("RuntimeError: ")[2]
    assert "broken ended by itself (exit code 3)" in last
    assert "the disk is full" in last
    assert "the disk is full" in (tmp_path / "broken.log").read_text()
