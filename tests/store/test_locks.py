"""Locks: one holder at a time, whatever happens to the file, and none after a kill."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from store import locks
from store.locks import RunInProgress, is_free, locked, no_run, run_in_progress


def test_a_second_writer_waits_for_the_first(root):
    order = []
    inside = threading.Event()
    go_on = threading.Event()

    def first():
        with locked("routing/v1-abc"):
            inside.set()
            go_on.wait(10)
            order.append("first")

    def second():
        inside.wait(10)
        with locked("routing/v1-abc"):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    with locked("routing/v1-other"):
        go_on.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]


def test_no_file_stays_and_of_many_at_once_one_is_inside(root):
    inside, most = [], []

    def work():
        for _ in range(20):
            with locked("routing/v1-abc"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80
    assert list((root / "locks").iterdir()) == []


def hold(root, held):
    os.environ["GROKPATH_ROOT"] = str(root)
    with locked("routing/v1-abc"):
        held.set()
        time.sleep(600)


def test_a_killed_holder_releases_its_lock(root):
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=hold, args=(root, held))
    holder.start()
    assert held.wait(60)
    assert not is_free("routing/v1-abc")
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert is_free("routing/v1-abc")
    with locked("routing/v1-abc"):
        assert not is_free("routing/v1-abc")


def test_runs_share_the_gate_and_deleting_needs_it_alone(root):
    with (
        run_in_progress(),
        run_in_progress(),
        pytest.raises(RunInProgress, match="in progress"),
        no_run(),
    ):
        pass
    with no_run():
        assert (root / "locks" / locks.GATE).exists()
