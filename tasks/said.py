"""What a finished step says on Prefect's pages: an entry in the log, and a table by domain.

A body may return numbers `by_domain` beside its summary. They are for reading, so they are not kept
in the artifact; its files hold every number. The table is attached to the task run alone: on the
page of a run with hundreds of tasks nobody would find anything else.
"""

import logging
from collections.abc import Mapping
from typing import Any

from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from tasks.pages import as_table, on_task_run

BY_DOMAIN = "by_domain"
Numbers = Mapping[str, Any]

_steps: set[str] = set()


def tell_made(
    label: str, summary: Numbers, by_domain: Mapping[str, Numbers], seconds: float
) -> None:
    """Say in the log of the task run, if there is one, what was made; attach the table."""
    context = TaskRunContext.get()
    if context is None:
        return
    get_run_logger().info("%s", in_words(label, summary, by_domain, seconds))
    if by_domain:
        _attach_table(context, label, by_domain)


def in_words(label: str, summary: Numbers, by_domain: Mapping[str, Numbers], seconds: float) -> str:
    """A line for the step, with what its summary counts, and one for each domain.

    Examples
    --------
    >>> print(in_words("routing main step100", {}, {"math": {"samples": 512, "loss": 0.1234}}, 3.1))
    routing main step100: 512 samples, 1 domain, 3.1 s
        math: samples 512, loss 0.1234
    """
    counts = {
        name.removeprefix("num_").replace("_", " "): value
        for name, value in summary.items()
        if name.startswith("num_") and isinstance(value, int)
    }
    asked = [numbers["samples"] for numbers in by_domain.values() if "samples" in numbers]
    if asked:
        counts["samples"] = sum(asked)
    parts = [f"{number(value)} {name}" for name, value in counts.items()]
    if by_domain:
        parts.append(f"{len(by_domain)} domain{'s' * (len(by_domain) > 1)}")
    lines = [f"{label}: {', '.join([*parts, f'{seconds:.1f} s'])}"]
    for domain, numbers in by_domain.items():
        told = ", ".join(f"{name} {number(value)}" for name, value in numbers.items())
        lines.append(f"    {domain}: {told}")
    return "\n".join(lines)


def number(value: float | int | str | None) -> str:
    """A number for reading."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def silence_endings(step_name: str) -> None:
    """Keep Prefect's own 'Finished in state Completed()' of a step out of the log."""
    _steps.add(step_name)
    logger = logging.getLogger("prefect.task_runs")
    if _is_news not in logger.filters:
        logger.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    ours = getattr(record, "task_name", None) in _steps
    ended = record.levelno == logging.INFO and str(record.msg).startswith("Finished in state")
    return not (ours and ended)


def _attach_table(context: TaskRunContext, label: str, by_domain: Mapping[str, Numbers]) -> None:
    rows = [
        {"domain": domain, **{name: number(value) for name, value in numbers.items()}}
        for domain, numbers in by_domain.items()
    ]
    try:
        on_task_run(context, description=label, **as_table(rows))
    except Exception as error:  # the numbers are in the log and in the artifact's files
        get_run_logger().debug("no table on this page: %s", error)
