"""What a root remembers: attempts, verified artifacts, announced events, over processes."""

import json
import multiprocessing
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from store import state

pytestmark = pytest.mark.usefixtures("root")


def test_attempts_come_back_in_order_with_who_made_them():
    first = state.attempt_began("routing/v1-a", "routing", "routing main step10", "run-1")
    second = state.attempt_began("routing/v1-b", "routing", "routing main step20", None)
    state.attempt_ended(first, 1.5)
    state.attempt_ended(second, 0.5, "ValueError: " + "x" * 10_000)
    one, other = state.attempts()
    assert (one["artifact"], one["seconds"], one["error"]) == ("routing/v1-a", 1.5, None)
    assert (one["pid"], one["flow_run"]) == (os.getpid(), "run-1")
    assert one["began_at"] <= one["ended_at"]
    assert len(other["error"]) == state.MAX_ERROR


def test_one_that_was_killed_has_no_end():
    state.attempt_began("routing/v1-a", "routing", "routing main step10", None)
    assert [row["ended_at"] for row in state.attempts()] == [None]


def test_looking_creates_no_file():
    assert state.attempts() == []
    assert state.verified_stamp("routing/v1-a") is None
    assert state.announced("mine") == set()
    assert not state.path().exists()


def test_stamps_and_keys_are_remembered_until_they_are_forgotten():
    state.set_verified("routing/v1-a", "one")
    state.set_verified("routing/v1-a", "two")
    assert state.verified_stamp("routing/v1-a") == "two"
    state.forget_verified("routing/v1-a")
    assert state.verified_stamp("routing/v1-a") is None
    state.set_announced("mine", ["a", "b"])
    state.set_announced("mine", ["b", "c"])
    assert state.announced("mine") == {"a", "b", "c"}


def test_a_file_that_is_no_database_is_an_error_that_says_what_to_do(root):
    root.mkdir()
    state.path().write_text("no database " * 100)
    with pytest.raises(ValueError, match=r"state\.db cannot be used .*move it away"):
        state.attempts()


def _write(number: int) -> None:
    for at in range(25):
        attempt = state.attempt_began(f"step{number}/v1-{at}", f"step{number}", "x" * 400, None)
        state.attempt_ended(attempt, 0.1)


def test_several_processes_write_at_once():
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(4) as pool:
        pool.map(_write, range(4))
    rows = state.attempts()
    assert len(rows) == 100
    assert all(row["ended_at"] for row in rows)


def _look(number: int) -> int:
    errors = 0
    for at in range(20):
        try:
            state.verified_stamp(f"routing/v1-{number}-{at}")
            state.set_verified(f"routing/v1-{number}-{at}", "stamp")
        except ValueError:
            errors += 1
    return errors


def test_looking_while_the_file_is_created_or_after_its_creation_was_killed(root):
    root.mkdir()
    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(_look, range(8))) == 0
        state.path().unlink()
    state.path().touch()
    assert state.attempts() == []
    state.set_verified("routing/v1-a", "one")
    assert state.verified_stamp("routing/v1-a") == "one"


def test_events_that_an_earlier_version_announced_are_not_announced_again(root):
    (root / "mine").mkdir(parents=True)
    text = json.dumps({"warehouse": "v4-abc", "events": ["one", "two"]})
    (root / "mine" / "told.json").write_text(text)
    state.set_verified("routing/v1-a", "one")
    assert state.announced("mine") == {"v4-abc", "one", "two"}


def test_a_file_in_use_by_another_process_is_not_to_be_moved_away(monkeypatch):
    state.set_announced("mine", ["a"])
    with closing(sqlite3.connect(state.path(), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(state, "SECONDS_TO_WAIT", 0.1)
        state.set_verified("routing/v1-a", "one")  # costs hashing it again
        with (
            pytest.raises(ValueError, match="in use by another process; run again"),
            state.writing(0.1),
        ):
            pass
