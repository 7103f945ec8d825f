"""What a person sees who looks into a log file while a study runs."""

import io
import time

from rich.console import Console

from flows.display import lines
from tasks.listeners import Event, Kind, emit
from tasks.plan import Plan, Planned

STEPS = [Planned("routing", f"routing main step{n}", None, None) for n in range(3)]


def lines_of(seconds_between, reports, wait=0.0):
    out = io.StringIO()
    console = Console(file=out, width=200)
    with lines(Plan(list(STEPS)), console, seconds_between):
        for report in reports:
            emit(report)
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline and out.getvalue().count("\n") < 2:
            time.sleep(0.02)
    return out.getvalue()


def test_a_body_that_says_nothing_is_not_silent_for_long():
    done = Event("routing", "routing main step0", Kind.computed, 1)
    running = Event(
        "routing", "routing main step1", Kind.progress, 1, 8, "math probe, 64 of 6,000 samples"
    )
    text = lines_of(0.1, [done, running], wait=30)
    assert text.count("1 of 3 steps done; routing main step1: 1/8 math probe, 64 of 6,000") >= 2


def test_lines_do_not_come_more_often_than_that():
    running = [
        Event("routing", "routing main step1", Kind.progress, n, 8, "math") for n in range(8)
    ]
    assert lines_of(60.0, running) == ""


def test_the_last_run_of_a_step_is_reported_at_once():
    done = [Event("routing", entry.label, Kind.computed, 1) for entry in STEPS]
    assert "routing: all 3 done" in lines_of(60.0, done)
