"""What a flow run has asked for: its steps in order, with the futures that tell how each ended.

Inside :func:`submissions` every step that is submitted is noted, so that at the end, or after a
failure in the middle, the run's page can say what is there and what is missing (tasks.shown).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prefect.futures import PrefectFuture

from store.artifacts import Checkpoint


class Ending(StrEnum):
    """How a step ended, as tables say it."""

    made = "made"
    reused = "reused"
    failed = "failed"
    missing = "missing"


@dataclass(frozen=True)
class Submission:
    """One step that was submitted."""

    step_name: str
    label: str
    checkpoint: Checkpoint | None
    future: PrefectFuture[Any]

    @property
    def ending(self) -> Ending:
        """How it ended; one that never ran, because what it reads failed, is missing."""
        state = self.future.state
        if state.is_completed():
            return Ending.reused if state.name == "Cached" else Ending.made
        return Ending.failed if state.is_failed() or state.is_crashed() else Ending.missing


_noted: ContextVar[list[Submission] | None] = ContextVar("submissions", default=None)


@contextmanager
def submissions() -> Iterator[list[Submission]]:
    """Note every step that this thread submits."""
    noted: list[Submission] = []
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def note(submission: Submission) -> None:
    """Note one step, where somebody asked for it."""
    noted = _noted.get()
    if noted is not None:
        noted.append(submission)
