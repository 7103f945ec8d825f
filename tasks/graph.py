"""A study as a graph: its steps, and what each of them reads. Plain data; nothing runs here.

Calling a step (:mod:`tasks.step`) makes a :class:`Node`. Its inputs are values, other nodes, and
:class:`Late` values, which are known once another node's artifact is there. Everything else is a
walk over the graph: a run submits its nodes (:mod:`flows.execution`), a plan looks them up
(:mod:`tasks.plan`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from itertools import count
from typing import Any, Protocol

from store.artifacts import Artifact, Checkpoint

_LATE = "late value"
_numbers = count()


class AnyStep(Protocol):
    """What a graph knows of a step."""

    name: str
    version: int
    loads_model: bool
    still_holds: Callable[[Artifact, dict[str, Any]], bool] | None

    def label(self, inputs: dict[str, Any]) -> str:
        """Name of one run of the step, for a reader."""
        ...


@dataclass(frozen=True, eq=False)
class Node:
    """One run of a step: the step, and its inputs by name."""

    step: AnyStep
    inputs: dict[str, Any]
    number: int = field(default_factory=lambda: next(_numbers))
    """Nodes are laid out in the order in which they are to be submitted."""

    @property
    def label(self) -> str:
        """Name of the run, for a reader."""
        return self.step.label(expected(self.inputs))

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint that the step is about, if any."""
        found = expected(self.inputs.get("checkpoint"))
        return found if isinstance(found, Checkpoint) else None

    def reads(self) -> Iterator["Node"]:
        """The nodes among the inputs, however deep."""
        return _nodes(self.inputs)


@dataclass(frozen=True, eq=False)
class Late:
    """A value that is known once a node's artifact is: what `read` makes of it.

    Attributes
    ----------
    node
        Whose artifact.
    read
        A function at the top of a module, called with the artifact and `arguments`.
    until_then
        What stands for the value meanwhile, in names and plans.
    """

    node: Node
    read: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    until_then: Any = None


class Graph:
    """Nodes in the order in which they were laid out, each after what it reads.

    Parameters
    ----------
    sinks
        Nodes, or collections of them; with everything that they read.
    """

    def __init__(self, sinks: Any) -> None:
        found: dict[int, Node] = {}
        waiting = list(_nodes(sinks))
        while waiting:
            node = waiting.pop()
            if node.number not in found:
                found[node.number] = node
                waiting.extend(node.reads())
        self.nodes: list[Node] = [found[number] for number in sorted(found)]

    def of_checkpoints(self, checkpoints: Iterable[Checkpoint]) -> list[Node]:
        """The nodes of some checkpoints."""
        wanted = {(one.series, one.revision) for one in checkpoints}
        return [
            node
            for node in self.nodes
            if (one := node.checkpoint) is not None and (one.series, one.revision) in wanted
        ]


def replaced(value: Any, stand_in: Callable[[Node], Any]) -> Any:
    """The value with something in the place of each node, and of the node inside a late value.

    A late value becomes a plain dictionary, which any task runner carries (:func:`settled`).
    """
    if isinstance(value, Node):
        return stand_in(value)
    if isinstance(value, Late):
        read = f"{value.read.__module__}:{value.read.__qualname__}"
        return {_LATE: read, "of": stand_in(value.node), "arguments": list(value.arguments)}
    if isinstance(value, dict):
        return {key: replaced(item, stand_in) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(replaced(item, stand_in) for item in value)
    return value


def settled(value: Any) -> Any:
    """The value with late ones read, now that the artifacts they wait for are in their place."""
    if isinstance(value, dict):
        if _LATE in value:
            if not isinstance(value["of"], Artifact):
                return value
            module, _, name = value[_LATE].partition(":")
            return getattr(import_module(module), name)(value["of"], *value["arguments"])
        return {key: settled(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(settled(item) for item in value)
    return value


def expected(value: Any) -> Any:
    """The value with what stands for late ones until they are known."""
    if isinstance(value, Late):
        return value.until_then
    if isinstance(value, dict):
        return {key: expected(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [expected(item) for item in value]
    return value


def _nodes(value: Any) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, Late):
        yield value.node
    elif isinstance(value, dict):
        for item in value.values():
            yield from _nodes(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _nodes(item)
