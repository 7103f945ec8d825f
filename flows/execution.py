"""Submit graphs to Prefect, wait for them, and report what failed.

Weights that come from a hub are too large to stay. At most so many checkpoints of a series as fit
into the disk budget are read at a time: what reads a later one starts when an earlier one is
released, and that is when everything that reads its weights is done or has failed.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from prefect import allow_failure, task
from prefect.futures import PrefectFuture, wait

from store.artifacts import Artifact, Checkpoint
from tasks.downloads import num_in_flight, release_checkpoint
from tasks.graph import Graph, Node, replaced
from tasks.listeners import Event, Kind, listening
from tasks.prefect_task import submit
from tasks.step import Step, failed_step

Future: TypeAlias = "PrefectFuture[Any]"
MAX_LINES = 5
OF_CHECKPOINT = re.compile(r"\b(step|checkpoint-)\d+")
"""In the name of a step's run: it is of one checkpoint."""
WAITS = "NotReady"
"""Prefect's name for the state of a task that never starts, because what it reads has failed."""


class Ending(StrEnum):
    """How a step ended, as tables name it."""

    computed = "computed"
    reused = "reused"
    failed = "failed"
    missing = "missing"
    """It never ran, because something that it reads failed."""


@dataclass(frozen=True)
class Ended:
    """One run of a step and how it ended."""

    step_name: str
    label: str
    checkpoint: Checkpoint | None
    ending: Ending
    message: str
    """Prefect's message about it."""


class Execution:
    """What one flow run has submitted."""

    looking = False

    def __init__(self) -> None:
        self._futures: dict[int, Future] = {}
        self._nodes: dict[tuple[str, str], Node] = {}
        self._reused: set[str] = set()

    def submit(self, graph: Graph) -> None:
        """Hand every node to Prefect that was not handed over before."""
        weights = _Weights(graph, self._futures)
        for node in graph.nodes:
            if node.number not in self._futures:
                inputs = replaced(node.inputs, lambda one: self._futures[one.number])
                assert isinstance(node.step, Step)
                self._futures[node.number] = submit(node.step, inputs, weights.before(node))
                # Once also where a study is laid out again without some checkpoints.
                self._nodes.setdefault((node.step.name, node.label), node)
        weights.release_all()

    def call(self, name: str, of: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function as a Prefect task that is never cached."""
        return task(function, name=name, task_run_name=f"{name} {of}")(*arguments)

    def finish(self) -> None:
        """Wait for everything, so that a failure costs only what depends on it.

        Raises
        ------
        StepsFailed
            Naming what failed.
        """
        futures = list(self._futures.values())
        wait(futures)
        raise_failures(futures)

    def artifacts_of(self, nodes: Sequence[Node]) -> list[Artifact | None]:
        """Submit some nodes and what they read, and wait for their artifacts."""
        graph = Graph(list(nodes))
        self.submit(graph)
        futures = [self._futures[node.number] for node in graph.nodes]
        wait(futures)
        raise_failures(futures)
        return [self.artifact(node) for node in nodes]

    def artifact(self, node: Node) -> Artifact:
        """The artifact of a node that is finished."""
        found: Artifact = self._futures[node.number].result()
        return found

    def has_artifact(self, node: Node) -> bool:
        """Whether a node that is finished has its artifact."""
        return self._futures[node.number].state.is_completed()

    def endings(self) -> list[Ended]:
        """How every run of a step ended, in order of submission."""
        return [
            Ended(
                node.step.name,
                node.label,
                node.checkpoint,
                self._ending(node),
                self._futures[node.number].state.message or "",
            )
            for node in self._nodes.values()
        ]

    def follow(self, event: Event) -> None:
        """Remember what was reported to be reused."""
        if event.kind is Kind.reused:
            self._reused.add(event.label)

    def _ending(self, node: Node) -> Ending:
        """Prefect's state alone is not enough.

        It is Cached only where Prefect's own record was found, and not where the artifact was there
        without it, or computed by another run meanwhile.
        """
        state = self._futures[node.number].state
        if state.is_completed():
            found = state.name == "Cached" or node.label in self._reused
            return Ending.reused if found else Ending.computed
        return Ending.failed if state.is_failed() or state.is_crashed() else Ending.missing


@contextmanager
def executing() -> Iterator[Execution]:
    """Run graphs inside a flow run."""
    execution = Execution()
    with listening(execution.follow):
        yield execution


@task(name="release", task_run_name="release {checkpoint.series} {checkpoint.revision}")
def _release(checkpoint: Checkpoint) -> None:
    release_checkpoint(checkpoint)


class _Weights:
    """Which nodes read the weights of which checkpoint on a hub, and when these are released."""

    def __init__(self, graph: Graph, futures: dict[int, Future]) -> None:
        self._futures = futures
        self._readers: dict[tuple[str, str], list[Node]] = {}
        self._order: dict[str, list[Checkpoint]] = {}
        for node in graph.nodes:
            for checkpoint in _hub_checkpoints(node):
                key = checkpoint.series, checkpoint.revision
                if key not in self._readers:
                    self._order.setdefault(checkpoint.series, []).append(checkpoint)
                self._readers.setdefault(key, []).append(node)
        self._windows: dict[str, int] = {}
        self._released: dict[tuple[str, str], Future] = {}

    def before(self, node: Node) -> list[Future]:
        """The releases that a node waits for."""
        waits = []
        for checkpoint in _hub_checkpoints(node):
            series, order = checkpoint.series, self._order[checkpoint.series]
            if series not in self._windows:
                self._windows[series] = num_in_flight(order, node.inputs["runtime"])
            earlier = order.index(checkpoint) - self._windows[series]
            if earlier >= 0:
                waits.append(self._release(order[earlier]))
        return waits

    def release_all(self) -> None:
        """Release every checkpoint once what reads it is over."""
        for order in self._order.values():
            for checkpoint in order:
                self._release(checkpoint)

    def _release(self, checkpoint: Checkpoint) -> Future:
        key = checkpoint.series, checkpoint.revision
        if key not in self._released:
            readers = [self._futures[node.number] for node in self._readers[key]]
            over = [allow_failure(reader) for reader in readers]
            self._released[key] = _release.submit(checkpoint, wait_for=over)
        return self._released[key]


def _hub_checkpoints(node: Node) -> list[Checkpoint]:
    if not node.step.loads_model:
        return []
    checkpoints = [one for one in node.inputs.values() if isinstance(one, Checkpoint)]
    return [one for one in checkpoints if one.pinned is not None]


# ---------------------------------------------------------------- what failed, in one message


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
