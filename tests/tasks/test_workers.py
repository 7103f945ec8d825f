import os
import signal
import threading

import pytest

from store.identity import Label
from studies.nano_model import CorpusSpec
from studies.settings import Runtime
from tasks import workers

JOB = workers.Job("tasks.checkpoints", "make_corpus", "corpus", "corpus for a test", "unused")


def inputs(out, **changes):
    out.mkdir(exist_ok=True)
    return {
        "out": out,
        "label": Label("main"),
        "corpus": CorpusSpec(modulus=7, **changes),
        "runtime": Runtime(),
    }


def run_until_killed(out):
    for attempt in range(1000):
        workers.run(JOB, 1, inputs(out, seed=attempt))


@pytest.fixture(autouse=True)
def no_workers_left():
    yield
    workers.stop()


def test_a_body_runs_in_another_process_with_one_thread(tmp_path):
    summary = workers.run(JOB, 1, inputs(tmp_path / "a")).summary
    assert summary["num_samples"] > 0
    pool = workers._pool
    assert pool is not None
    assert set(pool._processes) != {os.getpid()}


def test_what_a_body_raises_reaches_the_caller(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(FileExistsError):
        workers.run(JOB, 1, {**inputs(tmp_path / "a"), "out": in_the_way})


class Untransportable(Exception):
    """Pickles, but cannot be made again: its constructor wants more than its message."""

    def __init__(self, number, *, reason):
        super().__init__(f"{number} {reason}")


def test_only_errors_that_survive_the_way_are_sent_as_they_are():
    assert workers._can_travel(ValueError("a"))
    assert not workers._can_travel(Untransportable(1, reason="b"))


def test_a_killed_worker_is_told_plainly_and_the_next_call_works(tmp_path):
    workers.run(JOB, 1, inputs(tmp_path / "a"))
    assert workers._pool is not None
    (victim,) = workers._pool._processes
    killer = threading.Timer(0.05, os.kill, (victim, signal.SIGKILL))
    killer.start()
    with pytest.raises(workers.WorkerDied, match=r"corpus for a test.*killed.*memory") as caught:
        run_until_killed(tmp_path / "b")
    assert "run again to go on" in str(caught.value)
    assert workers.run(JOB, 1, inputs(tmp_path / "c")).summary["num_samples"] > 0


def test_another_number_of_workers_starts_new_ones(tmp_path):
    workers.run(JOB, 1, inputs(tmp_path / "a"))
    one = workers._pool
    workers.run(JOB, 2, inputs(tmp_path / "b"))
    assert workers._pool is not one


def test_reporting_where_nobody_watches_is_silent(capfd):
    workers.report(1, 2, "no one hears this")
    assert capfd.readouterr() == ("", "")
