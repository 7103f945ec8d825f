"""What a run reports as it goes: events of its steps, to whoever listens in this process.

The terminal (:mod:`flows.display`), Prefect's pages (:mod:`tasks.task_page`) and the execution of a
graph (:mod:`flows.execution`) listen. Who reports imports none of them.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What happened."""

    progress = "progress"
    reused = "reused"
    computed = "computed"


@dataclass(frozen=True)
class Event:
    """Something that happened to one run of a step.

    Attributes
    ----------
    label
        Name of the run of the step, for a reader.
    done, total, message
        How far a body is, and a word on it.
    summary, by_domain, seconds
        What was computed: the artifact's summary, numbers by domain, and the time it took.
    """

    step_name: str
    label: str
    kind: Kind = Kind.progress
    done: int = 0
    total: int = 1
    message: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    by_domain: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_last(self) -> bool:
        """Whether the run of the step is over."""
        return self.kind is not Kind.progress


Listener = Callable[[Event], None]

logger = logging.getLogger("prefect.grokpath")

_listeners: list[Listener] = []


def listen(listener: Listener) -> None:
    """Call a listener in this process with every event, from now on."""
    if listener not in _listeners:
        _listeners.append(listener)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call a listener in this process with every event meanwhile."""
    listen(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def emit(event: Event) -> None:
    """Report an event; a listener that fails, such as a closed terminal, changes nothing."""
    for listener in list(_listeners):
        try:
            listener(event)
        except (Exception, SystemExit):
            logger.debug("a listener failed", exc_info=True)
