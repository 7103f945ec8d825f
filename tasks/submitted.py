"""One step that a run has submitted, with the future that says how it ended."""

from dataclasses import dataclass, field
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
    """One step that was submitted; `reused` are the labels of all that reported so."""

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
