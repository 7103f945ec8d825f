"""What finished steps say: words, numbers, and nothing of what Prefect says anyway."""

import logging

import pytest

from tasks.said import in_words, number, silence_endings


def test_a_step_says_its_counts_its_domains_and_its_seconds():
    summary = {"num_rows": 1550, "num_samples": {"math": 3}, "device": "cpu"}
    by_domain = {
        "math": {"samples": 1000, "loss": 0.123456},
        "code": {"samples": 550, "loss": None},
    }
    assert in_words("routing main step100", summary, by_domain, 3.14159).splitlines() == [
        "routing main step100: 1,550 rows, 1,550 samples, 2 domains, 3.1 s",
        "    math: samples 1,000, loss 0.1235",
        "    code: samples 550, loss -",
    ]
    assert in_words("report", {}, {}, 12.0) == "report: 12.0 s"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.5, "0.5"), (1e-9, "1e-09"), (12345, "12,345"), ("x", "x")]
)
def test_numbers_are_short(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("task_name", "level", "message", "is_kept"),
    [
        ("invented-step", logging.INFO, "Finished in state Completed()", False),
        ("invented-step", logging.ERROR, "Finished in state Failed()", True),
        ("invented-step", logging.INFO, "routing main step100: 3.1 s", True),
        ("somebody-elses", logging.INFO, "Finished in state Completed()", True),
    ],
)
def test_only_the_good_endings_of_steps_are_kept_quiet(task_name, level, message, is_kept):
    silence_endings("invented-step")
    logger = logging.getLogger("prefect.task_runs")
    record = logger.makeRecord(
        logger.name, level, "", 0, message, (), None, extra={"task_name": task_name}
    )
    assert bool(logger.filter(record)) is is_kept
