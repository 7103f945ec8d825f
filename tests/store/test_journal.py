"""The journal counts attempts: what began, what was made, what failed, over processes."""

import multiprocessing
import os

import pytest

from store import journal


def test_lines_come_back_in_order_with_who_wrote_them(root):
    journal.note("began", step="routing", run="main step10")
    journal.note("made", step="routing", run="main step10", seconds=1.5)
    began, made = journal.read()
    assert (began["event"], made["event"]) == ("began", "made")
    assert made["seconds"] == 1.5
    assert made["pid"] == os.getpid()
    assert began["at"] <= made["at"]


def test_there_is_nothing_to_read_before_the_first_attempt(root):
    assert list(journal.read()) == []


def test_a_line_cut_short_is_passed_over(root):
    journal.note("began", step="routing")
    with journal.path().open("a") as file:
        file.write('{"event": "ma')
    assert [row["step"] for row in journal.read()] == ["routing"]


def test_a_long_error_is_cut(root):
    journal.note("failed", error="x" * 10_000)
    (row,) = journal.read()
    assert len(row["error"]) == journal.MAX_ERROR


def _write(number: int) -> None:
    for _ in range(50):
        journal.note("began", step=f"step{number}", run="x" * 400)


@pytest.mark.usefixtures("root")
def test_lines_of_several_processes_do_not_mix():
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(4) as pool:
        pool.map(_write, range(4))
    assert len(list(journal.read())) == 200
