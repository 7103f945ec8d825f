"""What a step shows on the page of its task run, asked of a real Prefect server."""

import logging
import re
import sys
import threading
import time
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.runtime import task_run

from flows.run_page import key_of
from tasks import prefect_task, task_page
from tasks.listeners import Event, Kind, emit
from tasks.task_page import _Bar, in_words, number, on_its_page
from tests.artifacts import artifacts_of

server = pytest.mark.usefixtures("prefect_server")


def progress(label, done, total, message=""):
    return Event("routing", label, Kind.progress, done, total, message)


@server
def test_a_bar_of_a_failed_body_says_where_and_why(monkeypatch):
    monkeypatch.setattr(task_page, "SECONDS_BEFORE", 0.0)
    monkeypatch.setattr(task_page, "SECONDS_BETWEEN", 0.02)

    @task
    def failing():
        with on_its_page("routing main step100"):
            for done in (1, 2):
                emit(progress("another", 9, 9))
                emit(progress("routing main step100", done, 4, "math"))
            until = time.monotonic() + 60
            while not artifacts_of(task_run.id) and time.monotonic() < until:
                time.sleep(0.02)
            raise ValueError("a bad tensor")

    @flow
    def short():
        return failing(return_state=True)

    state = short(return_state=True)
    (run,) = [s for s in [state.result(raise_on_failure=False)] if s]
    bar = artifacts_of(run.state_details.task_run_id)["progress"]
    assert bar.data == 50
    assert re.fullmatch(
        r"failed after \d+ s at routing main step100: 2 of 4 math: ValueError: a bad tensor",
        bar.description,
    )


@server
def test_a_short_body_gets_no_bar_and_no_wait(monkeypatch):
    monkeypatch.setattr(task_page, "SECONDS_BEFORE", 3600.0)  # waited out, it would end the test

    @task
    def short_one():
        with on_its_page("short"):
            emit(progress("short", 1, 2))

    @flow
    def short():
        return short_one(return_state=True).state_details.task_run_id

    assert artifacts_of(short()) == {}


@server
def test_a_body_may_end_while_its_first_report_arrives():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns at every other instruction
    try:
        for _ in range(200):
            bar = _Bar("short", uuid4())
            reporting = threading.Thread(target=bar.follow, args=(progress("short", 1, 2),))
            reporting.start()
            while bar._newest is None:
                pass
            bar.end(None)
            reporting.join()
            assert bar._over.is_set()
    finally:
        sys.setswitchinterval(before)


def test_outside_of_a_run_there_is_no_bar():
    before = threading.active_count()
    with on_its_page("nobody sees it"):
        emit(progress("nobody sees it", 1, 2))
        assert threading.active_count() == before


def test_keys_have_the_characters_that_prefect_admits():
    assert key_of("olmoe_1b_7b", "pathway_distance") == "olmoe-1b-7b-pathway-distance"
    assert key_of("My study!", "report") == "my-study-report"


def test_a_step_logs_its_counts_its_domains_and_its_seconds():
    summary = {"num_rows": 1550, "num_samples": {"math": 3}, "device": "cpu"}
    by_domain = {
        "math": {"samples": 1000, "loss": 0.123456},
        "code": {"samples": 550, "loss": None},
    }
    event = Event(
        "routing",
        "routing main step100",
        Kind.computed,
        summary=summary,
        by_domain=by_domain,
        seconds=3.14159,
    )
    assert in_words(event).splitlines() == [
        "routing main step100: 1,550 rows, 1,550 samples, 2 domains, 3.1 s",
        "    math: samples 1,000, loss 0.1235",
        "    code: samples 550, loss -",
    ]
    assert in_words(Event("report", "report", seconds=12.0)) == "report: 12.0 s"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.5, "0.5"), (1e-9, "1e-09"), (12345, "12,345"), ("x", "x")]
)
def test_numbers_are_short(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("task_name", "level", "message", "is_logged"),
    [
        ("invented-step", logging.INFO, "Finished in state Completed()", False),
        ("invented-step", logging.ERROR, "Finished in state Failed()", True),
        ("invented-step", logging.INFO, "routing main step100: 3.1 s", True),
        ("somebody-elses", logging.INFO, "Finished in state Completed()", True),
    ],
)
def test_only_the_good_endings_of_steps_are_not_logged(
    monkeypatch, task_name, level, message, is_logged
):
    monkeypatch.setattr(prefect_task, "_quiet", {"invented-step"})
    logger = logging.getLogger("prefect.task_runs")
    record = logger.makeRecord(
        logger.name, level, "", 0, message, (), None, extra={"task_name": task_name}
    )
    assert bool(logger.filter(record)) is is_logged
