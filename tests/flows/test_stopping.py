"""Ctrl-C and kill -9 on a real run: how it ends, what is left behind, and going on from there."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.servers import environment, give_prefect_database

pytestmark = pytest.mark.timeout(1500)  # three runs of a study, beside other tests


def start(root, home):
    """The smoke study as a process of its own, with a Prefect home of its own."""
    give_prefect_database(root / "prefect")
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "--root", str(root), "run", "smoke"],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_until(process, line):
    """Read output up to a line; the processes that belong to the run by then."""
    lines = []
    for said in process.stdout:
        lines.append(said)
        if line in said:
            return [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
    raise AssertionError(f"the run ended before it said {line!r}:\n{''.join(lines)}")


def digests(root, step_name):
    records = [
        json.loads(p.read_text()) for p in root.glob(f"artifacts/{step_name}/v*/record.json")
    ]
    return sorted(record["digest"] for record in records)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("prefect")


def test_stopped_and_killed_runs_leave_no_process_and_the_next_run_ends_whole(
    tmp_path, home, finished
):
    root = tmp_path / "data"
    process = start(root, home)
    family = run_until(process, "corpus: all 3 done")
    assert len(family) >= 3  # the command, its Prefect server, a worker
    asked = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    said = process.stdout.read()
    assert process.wait(60) == 130
    assert time.monotonic() - asked < 30
    assert "stopping; everything finished so far is saved" in said
    assert "Traceback" not in said
    assert psutil.wait_procs(family, timeout=30)[1] == []

    process = start(root, home)
    family = run_until(process, "pretraining: all 3 done")
    process.kill()
    process.wait(60)
    assert psutil.wait_procs(family, timeout=30)[1] == []

    process = start(root, home)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    for step_name in ("pretraining", "routing", "pathways", "benchmarks", "monitors"):
        assert digests(root, step_name) == digests(finished, step_name), step_name
    assert not list(root.rglob(".draft-*"))


def test_the_real_failure_is_told_not_what_hangs_on_it(tmp_path, home, finished):
    root = tmp_path / "data"
    (root / "artifacts").mkdir(parents=True)
    (root / "artifacts" / "corpus").write_text("in the way")
    process = start(root, home)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "PENDING" not in said
    assert "Traceback" not in said
    assert "corpus" in said
