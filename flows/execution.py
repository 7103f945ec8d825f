"""Submit graphs to Prefect, wait for them, and report what failed.

Weights that come from a hub are too large to keep. At most so many checkpoints of a series as fit
into the disk budget are read at a time: what reads a later one starts when an earlier one is
released, and that is when everything that reads its weights is done or has failed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from prefect import allow_failure
from prefect.futures import PrefectFuture, wait

from flows.failures import raise_failures
from store.artifacts import Artifact, Checkpoint
from tasks.downloads import num_in_flight, release_checkpoint
from tasks.graph import Graph, Node, replaced
from tasks.submitted import Submission
from tasks.workers import Progress, unwatch, watch

Future: TypeAlias = "PrefectFuture[Any]"


class Execution:
    """What one flow run has submitted.

    Attributes
    ----------
    submissions
        Every step in order, with how it ended.
    """

    looking = False

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self._futures: dict[int, Future] = {}
        self._reused: set[str] = set()
        self._listed: set[tuple[str, str]] = set()

    def submit(self, graph: Graph) -> None:
        """Hand every node to Prefect that was not handed over before."""
        weights = _Weights(graph, self._futures)
        for node in graph.nodes:
            if node.number not in self._futures:
                inputs = replaced(node.inputs, lambda one: self._futures[one.number])
                future = node.step.submit(after=weights.before(node), **inputs)
                self._futures[node.number] = future
                self._note(node, future)
        weights.release_all()

    def _note(self, node: Node, future: Future) -> None:
        """List a step, once also where a study is laid out again without some checkpoints."""
        key = node.step.name, node.label
        if key not in self._listed:
            self._listed.add(key)
            self.submissions.append(Submission(*key, node.checkpoint, future, self._reused))

    def finish(self) -> None:
        """Wait for everything, so that a failure costs only what depends on it.

        Raises
        ------
        flows.failures.StepsFailed
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

    def has_made(self, node: Node) -> bool:
        """Whether a node that is finished has its artifact."""
        return self._futures[node.number].state.is_completed()

    def follow(self, report: Progress) -> None:
        """Remember what was reported to be reused."""
        if report.reused:
            self._reused.add(report.label)


@contextmanager
def executing() -> Iterator[Execution]:
    """Run graphs inside a flow run."""
    execution = Execution()
    watch(execution.follow)
    try:
        yield execution
    finally:
        unwatch(execution.follow)


class _Weights:
    """Which nodes read the weights of which checkpoint on a hub, and when these are released."""

    def __init__(self, graph: Graph, futures: dict[int, Future]) -> None:
        self._futures = futures
        self._readers: dict[tuple[str, str], list[Node]] = {}
        by_series: dict[str, list[Checkpoint]] = {}
        for node in graph.nodes:
            for checkpoint in _hub_checkpoints(node):
                key = checkpoint.series, checkpoint.revision
                if key not in self._readers:
                    by_series.setdefault(checkpoint.series, []).append(checkpoint)
                self._readers.setdefault(key, []).append(node)
        self._order = by_series
        self._places = {
            (series, one.revision): place
            for series, order in by_series.items()
            for place, one in enumerate(order)
        }
        self._windows: dict[str, int] = {}
        self._released: dict[tuple[str, str], Future] = {}

    def before(self, node: Node) -> list[Future]:
        """The releases that a node waits for."""
        waits = []
        for checkpoint in _hub_checkpoints(node):
            series, order = checkpoint.series, self._order[checkpoint.series]
            if series not in self._windows:
                self._windows[series] = num_in_flight(order, node.inputs["runtime"])
            earlier = self._places[series, checkpoint.revision] - self._windows[series]
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
            self._released[key] = release_checkpoint.submit(checkpoint, wait_for=over)
        return self._released[key]


def _hub_checkpoints(node: Node) -> list[Checkpoint]:
    if not node.step.loads_model:
        return []
    checkpoints = [one for one in node.inputs.values() if isinstance(one, Checkpoint)]
    return [one for one in checkpoints if one.pinned is not None]
