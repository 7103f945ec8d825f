"""Several processes on one study: two workers of a server at once, and a Dask cluster.

Both make the little study, and what they make must be the same to the last byte.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.attempts import attempts, is_computed
from tests.little import write_study
from tests.servers import ask, environment, prefect, prefect_at, running, worker_of

PATIENCE = 550.0
UNLIKE = ("warehouse", "report", "tracking")
"""Steps whose artifacts hold times and places, so that two makings are never alike."""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """File of the little study."""
    return write_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def by_two_workers(study, tmp_path_factory):
    """Root, and flow runs, of two runs of the study at once, each on a worker of its own."""
    home, root = tmp_path_factory.mktemp("prefect"), tmp_path_factory.mktemp("shared")
    with prefect_at(home) as api, ExitStack() as workers:
        deployments = [deployed(home, api, pool) for pool in ("one", "two")]
        for pool in ("one", "two"):
            (home / pool).mkdir()
            workers.enter_context(worker_of(home / pool, api, pool, root))
        runs = [
            ask(
                f"{api}/deployments/{deployment}/create_flow_run",
                {"parameters": {"study": str(study)}},
            )["id"]
            for deployment in deployments
        ]
        yield root, [ended(api, run, home) for run in runs]


def deployed(home, api, pool):
    """Identifier of the study flow's deployment to a new work pool."""
    prefect(home, api, "work-pool", "create", "--type", "process", pool)
    words = ("deploy", "flows/run.py:study_flow", "--name", pool, "--pool", pool)
    prefect(home, api, *words)
    return ask(f"{api}/deployments/name/study/{pool}")["id"]


def ended(api, run_id, home):
    """A flow run, once it has ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        run = ask(f"{api}/flow_runs/{run_id}")
        if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return run
        time.sleep(0.3)
    logs = "".join(path.read_text()[-3000:] for path in home.rglob("worker.log"))
    raise AssertionError(f"still {run['state_name']}:\n{logs}")


def began(root):
    """How often each artifact's body began."""
    return Counter(row["artifact"] for row in attempts(root))


def computed(root):
    """How often each artifact was computed."""
    return Counter(row["artifact"] for row in attempts(root) if is_computed(row))


def digests(root):
    """Digest of every artifact that can be compared, by name."""
    found = {}
    for path in root.glob("artifacts/*/*/record.json"):
        record = json.loads(path.read_text())
        if record["step_name"] not in UNLIKE:
            found[path.parent.relative_to(root / "artifacts").as_posix()] = record["digest"]
    return found


def test_two_runs_at_once_do_everything_once(by_two_workers):
    root, runs = by_two_workers
    assert [run["state_type"] for run in runs] == ["COMPLETED", "COMPLETED"]
    assert max(r["start_time"] for r in runs) < min(r["end_time"] for r in runs), "not at once"
    assert set(computed(root).values()) == {1}
    assert began(root) == computed(root)
    by_run = {row["flow_run"] for row in attempts(root)}
    assert by_run <= {run["id"] for run in runs}


def test_dask_workers_give_the_same_bytes_though_one_is_killed(study, by_two_workers, tmp_path):
    root = tmp_path / "data"
    env = environment(
        tmp_path / "prefect",
        GROKPATH_ROOT=str(root),
        GROKPATH_TASK_RUNNER="dask",
        GROKPATH_DASK_WORKERS="2",
    )
    command = [sys.executable, "-m", "flows.cli", "run", str(study)]
    with running(command, env, tmp_path / "run.log") as process:
        victim = worker_in_the_middle_of(root, "routing", process)
        os.kill(victim["pid"], signal.SIGKILL)
        assert process.wait(PATIENCE) == 0, (tmp_path / "run.log").read_text()[-3000:]
    assert digests(root) == digests(by_two_workers[0])
    assert set(computed(root).values()) == {1}
    assert began(root) - computed(root) == Counter([victim["artifact"]])
    assert len({row["pid"] for row in attempts(root) if is_computed(row)}) > 1


def worker_in_the_middle_of(root, step, process):
    """The attempt at a body of a step that has begun and not ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run is over already"
        for row in attempts(root):
            if row["step"] == step and row["ended_at"] is None:
                return row
        time.sleep(0.05)
    raise AssertionError(f"{step} never began")
