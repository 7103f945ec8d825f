"""Progress bars of long bodies, and keys of artifacts, asked of a real Prefect server."""

import re
import sys
import threading
import time
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.runtime import task_run

from tasks import progress, workers
from tasks.progress import Bar
from tasks.shown import key_of
from tests.artifacts import artifacts_of

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_a_bar_of_a_failed_body_says_where_and_why(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BEFORE", 0.0)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN", 0.02)

    @task
    def failing():
        with Bar("routing main step100"):
            for done in (1, 2):
                workers.tell(workers.Progress("routing", "another", 9, 9))
                workers.tell(workers.Progress("routing", "routing main step100", done, 4, "math"))
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


def test_a_short_body_gets_no_bar_and_no_wait(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BEFORE", 3600.0)  # waited out, it would end the test

    @task
    def short_one():
        with Bar("short"):
            workers.tell(workers.Progress("routing", "short", 1, 2))

    @flow
    def short():
        return short_one(return_state=True).state_details.task_run_id

    assert artifacts_of(short()) == {}


def test_a_body_may_end_while_its_first_report_arrives():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns at every other instruction
    try:
        for _ in range(200):
            bar = Bar("short")
            bar._task_run = uuid4()
            report = workers.Progress("routing", "short", 1, 2)
            telling = threading.Thread(target=workers.tell, args=(report,))
            with bar:
                telling.start()
                while bar._newest is None:
                    pass
            telling.join()
            assert bar._over.is_set()
    finally:
        sys.setswitchinterval(before)


def test_outside_of_a_run_there_is_no_bar():
    with Bar("nobody sees it") as bar:
        workers.tell(workers.Progress("routing", "nobody sees it", 1, 2))
    assert bar._teller is None


def test_keys_have_the_characters_that_prefect_admits():
    assert key_of("olmoe_1b_7b", "pathway_distance") == "olmoe-1b-7b-pathway-distance"
    assert key_of("My study!", "report") == "my-study-report"
