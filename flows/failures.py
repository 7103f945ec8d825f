"""What a run reports when steps of it failed: which, why, and that trying again costs only those.

Prefect shows this message as the state of the run, and `grokpath run` prints it.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any

from prefect.futures import PrefectFuture

from tasks.step import failed_step

MAX_LINES = 5
OF_CHECKPOINT = re.compile(r"\b(step|checkpoint-)\d+")
"""In the name of a step's run: it is of one checkpoint."""
WAITS = "NotReady"
"""Prefect's name for the state of a task that never starts, because what it reads has failed."""


class StepsFailed(ValueError):
    """Steps of a study failed; everything that does not depend on them is computed and saved.

    Attributes
    ----------
    causes
        What the steps raised.
    """

    def __init__(self, message: str, causes: Sequence[BaseException] = ()) -> None:
        super().__init__(message)
        self.causes = tuple(causes)

    def although(self, finished: str) -> "StepsFailed":
        """The same, with what is finished all the same."""
        return StepsFailed(f"{self}\n{finished}", self.causes)


def raise_failures(futures: Sequence[PrefectFuture[Any]]) -> None:
    """Raise one error for all steps that failed among finished ones; nothing when none did.

    Raises
    ------
    StepsFailed
        Naming each step and what was wrong with it.
    """
    errors = [error for future in futures if (error := _error(future)) is not None]
    for error in errors:
        if failed_step(error) is None:
            raise error  # not a step's own failure: a task runner that gave up, a damaged root
    if not errors:
        return
    alike: dict[str, list[str | None]] = {}  # one cause can fail at every checkpoint
    for error in errors:
        alike.setdefault(_message(error), []).append(failed_step(error))
    lines = [f"{_named(steps)}: {why}" for why, steps in list(alike.items())[:MAX_LINES]]
    if len(alike) > MAX_LINES:
        lines.append(f"and {sum(map(len, list(alike.values())[MAX_LINES:]))} more")
    waiting = sum(future.state.name == WAITS for future in futures)
    what_next = _what_next(len(errors), waiting)
    if any(OF_CHECKPOINT.search(failed_step(error) or "") for error in errors):
        what_next += " To go on without a checkpoint, name its step in the source's skip_steps."
    raise StepsFailed("\n".join([*lines, what_next]), errors) from None


def _error(future: PrefectFuture[Any]) -> BaseException | None:
    state = future.state
    waited_in_vain = state.name == WAITS
    if state.is_completed() or waited_in_vain:
        return None
    try:  # also where it is not final: the task runner itself gave up, and says why
        future.result()
    except Exception as error:
        return error
    return None


def _named(steps: Sequence[str | None]) -> str:
    return f"{steps[0]}" + (f" and {len(steps) - 1} more steps" if steps[1:] else "")


def _message(error: BaseException) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _what_next(num_failed: int, num_waiting: int) -> str:
    failed = f"{num_failed} step{'s' * (num_failed > 1)} failed"
    waiting = f" and {num_waiting} could not start because of that" if num_waiting else ""
    return (
        f"{failed}{waiting}; everything else is saved. When it is fixed, Retry (or another run) "
        "executes only what is missing."
    )


class _Quieter(logging.Filter):
    """A step that waits for a failed one is no error of its own, and there may be hundreds."""

    def filter(self, record: logging.LogRecord) -> bool:
        if f"Finished in state {WAITS}" in str(record.msg):
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = "not started, because a step that it reads has failed", ()
        return True


logging.getLogger("prefect.task_runs").addFilter(_Quieter())
