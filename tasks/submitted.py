"""What a flow run has asked for: its steps in order, with the futures that tell how each ended.

Inside :func:`submissions` every step that is submitted is noted, so that at the end, or after a
failure in the middle, the run's page can say what is there and what is missing (tasks.shown).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from prefect.futures import PrefectFuture

from store.artifacts import Checkpoint
from tasks.workers import Progress, unwatch, watch


class Ending(StrEnum):
    """How a step ended, as tables say it."""

    made = "made"
    reused = "reused"
    failed = "failed"
    missing = "missing"


@dataclass(frozen=True)
class Submission:
    """One step that was submitted; `reused` are the labels of all that told so."""

    step_name: str
    label: str
    checkpoint: Checkpoint | None
    future: PrefectFuture[Any]
    reused: set[str] = field(repr=False)

    @property
    def ending(self) -> Ending:
        """How it ended; one that never ran, because what it reads failed, is missing.

        Prefect's state alone does not tell: it is Cached only where Prefect's own record was found,
        and not where the artifact was there without it, or made by another run meanwhile.
        """
        state = self.future.state
        if state.is_completed():
            found = state.name == "Cached" or self.label in self.reused
            return Ending.reused if found else Ending.made
        return Ending.failed if state.is_failed() or state.is_crashed() else Ending.missing


@dataclass(frozen=True)
class _Noted:
    steps: list[Submission] = field(default_factory=list)
    reused: set[str] = field(default_factory=set)

    def follow(self, report: Progress) -> None:
        """Remember what was told to be reused."""
        if report.reused:
            self.reused.add(report.label)


_noted: ContextVar[_Noted | None] = ContextVar("submissions", default=None)


@contextmanager
def submissions() -> Iterator[list[Submission]]:
    """Note every step that this thread submits."""
    noted = _Noted()
    token = _noted.set(noted)
    watch(noted.follow)
    try:
        yield noted.steps
    finally:
        unwatch(noted.follow)
        _noted.reset(token)


def note(
    step_name: str, label: str, checkpoint: Checkpoint | None, future: PrefectFuture[Any]
) -> None:
    """Note one step, where somebody asked for it."""
    noted = _noted.get()
    if noted is not None:
        noted.steps.append(Submission(step_name, label, checkpoint, future, noted.reused))
