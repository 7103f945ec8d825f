"""`grokpath watch` as a process of its own, beside a folder that fills."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter

import psutil
import pytest
import typer

from flows.watching import seconds
from tests import little
from tests.attempts import attempts, is_computed
from tests.servers import CHECKOUT, environment, give_prefect_database

SECONDS = 240


@pytest.fixture
def watcher(tmp_path):
    """Starts the command; it is killed when a test has not ended it."""
    started = []

    def start(*options):
        root = str(tmp_path / "data")
        give_prefect_database(tmp_path / "data" / "prefect")
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "--root", root, "watch", *map(str, options)],
            env=environment(tmp_path / "prefect", PYTHONUNBUFFERED="1"),
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def read_until(process, line):
    """Output up to a line; a process that says nothing of the kind in time is killed."""
    timer = threading.Timer(SECONDS, process.kill)
    timer.start()
    said = []
    try:
        for one in process.stdout:
            said.append(one)
            if line in one:
                return "".join(said)
    finally:
        timer.cancel()
    raise AssertionError(f"never said {line!r}:\n{''.join(said)}")


def test_what_comes_is_measured_once_and_ctrl_c_leaves_nothing_behind(tmp_path, watcher):
    study = little.write_study(tmp_path / "study", steps=(0, 10))
    (tmp_path / "study" / "checkpoints").rename(tmp_path / "aside")
    (tmp_path / "study" / "checkpoints").mkdir()
    process = watcher(study, "--every", "0.2s")
    read_until(process, "holds no checkpoint")
    for checkpoint in sorted((tmp_path / "aside").iterdir()):
        checkpoint.rename(tmp_path / "study" / "checkpoints" / checkpoint.name)
    said = read_until(process, "little: up to date")
    assert "failed" not in said
    read_until(process, "little: nothing new")
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signal.SIGINT)
    said = process.stdout.read()
    assert process.wait(60) == 130
    assert "stopping; everything finished so far is saved" in said
    assert "Traceback" not in said
    assert psutil.wait_procs(family, timeout=30)[1] == []
    computed = Counter(row["step"] for row in attempts(tmp_path / "data") if is_computed(row))
    assert computed["routing"] == computed["benchmarks"] == 2
    assert computed["report"] == computed["tracking"] == 1


def test_a_failure_ends_one_look_and_not_the_watch(tmp_path, watcher):
    for name in ("step1", "step1-tokens1K"):
        (tmp_path / "study" / "checkpoints" / name).mkdir(parents=True)
    study = little.write_study(tmp_path / "study", steps=())
    once = watcher(study, "--once")
    assert "holds two checkpoints of step 1" in once.communicate(timeout=SECONDS)[0]
    assert once.returncode == 1
    process = watcher(study, "--every", "0.2s")
    said = read_until(process, "tried again in 0.2 s")
    assert "holds two checkpoints of step 1" in said
    (tmp_path / "study" / "checkpoints" / "step1").rmdir()
    read_until(process, "holds no complete checkpoint")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM


@pytest.mark.parametrize(("text", "number"), [("90s", 90), ("5m", 300), ("1.5h", 5400)])
def test_times(text, number):
    assert seconds(text) == number


@pytest.mark.parametrize("text", ["5", "0m", "m", "-5m", "5 days", ""])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(typer.BadParameter, match="expected one like 90s, 5m or 2h"):
        seconds(text)
