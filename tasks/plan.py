"""What a study would do, found out without doing any of it.

A step can be reused when every artifact that it reads is there and its own is there, undamaged.
What reads something that is yet to be computed counts as to be run; it may still turn out reusable,
when the input is computed again with the same content. Whether effects outside of artifacts still
hold, such as a run in MLflow, only a run checks.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from store import artifacts, shared
from store.artifacts import Artifact, Checkpoint, Tokenizer
from store.identity import fingerprint
from tasks.graph import AnyStep, Late, Node

STALE_SECONDS = 600.0


@dataclass(frozen=True)
class LeftOut:
    """One checkpoint that is there and is not in its series: which, why, and what to do about it.

    Every command names them. In the report stand those that will stay so: what the study skips,
    what was measured once and is damaged now, what was deleted unmeasured, and what nobody has
    touched for ten minutes. One that a training run is just writing would change the report with
    every look.

    Attributes
    ----------
    series, revision, step
        Which one.
    reason
        Why, without what changes while files are written.
    advice
        The rest of the sentence: how far it is, and what to do.
    settled
        Whether it is to stand in the report.
    """

    series: str
    revision: str
    step: int
    reason: str
    advice: str = ""
    settled: bool = True

    def __str__(self) -> str:
        """The sentence that commands print."""
        return f"left out: {self.revision} of series {self.series}: {self.reason}{self.advice}"

    def row(self) -> dict[str, str | int]:
        """Its row of the table `left_out`."""
        return {
            "series": self.series,
            "revision": self.revision,
            "step": self.step,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Planned:
    """One step of a plan: the artifact that is there, or None when it would be computed."""

    step_name: str
    label: str
    checkpoint: Checkpoint | None
    artifact: Artifact | None
    inputs: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What it would be given: artifacts that are here, or what is planned in their place."""
    is_here: bool = True
    """Whether the artifact, if there is one, is on this machine: it may be in the shared store."""


@dataclass
class Plan:
    """Every step of a study in order."""

    entries: list[Planned] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    """Checkpoints that are there and are not in their series."""
    unresolved: ValueError | None = None
    """Why series have no part in the plan, and nothing that compares series."""
    _by_node: dict[int, Planned] = field(default_factory=dict, repr=False, compare=False)

    def look_up(self, nodes: Iterable[Node]) -> None:
        """Add nodes, each after what it reads."""
        for node in nodes:
            if node.number not in self._by_node:
                planned = self._planned(node)
                self._by_node[node.number] = planned
                self.entries.append(planned)

    def of(self, node: Node) -> Planned:
        """What was found of a node."""
        return self._by_node[node.number]

    def labels(self) -> dict[str, set[str]]:
        """Names of the runs per step name, in order; runs of one name make one artifact."""
        labels: dict[str, set[str]] = {}
        for entry in self.entries:
            labels.setdefault(entry.step_name, set()).add(entry.label)
        return labels

    def counts(self) -> dict[str, tuple[int, int]]:
        """Per step name, in order: how many runs in all, how many of them reused."""
        counts: dict[str, tuple[int, int]] = {}
        for entry in self.entries:
            total, reused = counts.get(entry.step_name, (0, 0))
            counts[entry.step_name] = (total + 1, reused + (entry.artifact is not None))
        return counts

    def _planned(self, node: Node) -> Planned:
        step, resolved = node.step, self._resolve(node.inputs)
        artifact, is_here = None, True
        if not _has_missing(resolved):
            artifact, is_here = _find(step, resolved)
        given = self._resolve(node.inputs, only_here=True)
        checkpoint = resolved.get("checkpoint")
        return Planned(
            step.name,
            node.label,
            checkpoint if isinstance(checkpoint, Checkpoint) else None,
            artifact,
            given,
            is_here,
        )

    def _resolve(self, value: Any, *, only_here: bool = False) -> Any:
        """Artifacts in the place of nodes, or what is planned where there is none."""
        if isinstance(value, Node):
            planned = self.of(value)
            return planned if only_here and not planned.is_here else planned.artifact or planned
        if isinstance(value, Late):
            artifact = self.of(value.node).artifact
            if artifact is None:
                return value.until_then if value.until_then is not None else self.of(value.node)
            return value.read(artifact, *value.arguments)
        if isinstance(value, dict):
            return {key: self._resolve(item, only_here=only_here) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._resolve(item, only_here=only_here) for item in value]
        return value


def _find(step: AnyStep, inputs: dict[str, Any]) -> tuple[Artifact | None, bool]:
    """The artifact of a step on its inputs, and whether it is on this machine."""
    key = fingerprint(step.name, step.version, inputs)
    artifact, is_here = None, True
    with suppress(artifacts.DamagedArtifact):  # it will be computed again
        artifact = artifacts.find(step.name, step.version, key)
    if artifact is None and step.still_holds is None:
        artifact, is_here = shared.known(step.name, step.version, key), False
    return artifact, is_here


def _has_missing(value: Any) -> bool:
    if isinstance(value, Checkpoint | Tokenizer):
        return value.digest is None
    if isinstance(value, dict):
        return any(_has_missing(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_missing(item) for item in value)
    return isinstance(value, Planned)
