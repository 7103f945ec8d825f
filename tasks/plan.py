"""What a study would do, found out without doing any of it.

Inside :func:`planning` a step is looked up instead of submitted. A step can be reused when every
artifact it reads is there and its own artifact is there and whole. What reads something that is yet
to be made counts as to be run; it may still turn out reusable, when the input is rebuilt with the
same content.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from store import artifacts, shared
from store.artifacts import Artifact, Checkpoint, Tokenizer
from store.identity import fingerprint
from tasks.left_out import LeftOut

if TYPE_CHECKING:
    from tasks.step import Check, Step


@dataclass(frozen=True)
class Planned:
    """One step of a plan: the artifact that is there, or None when it would be made."""

    step_name: str
    label: str
    checkpoint: Checkpoint | None
    artifact: Artifact | None
    inputs: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What it would be given: artifacts that are here, or what is planned in their place."""
    is_here: bool = True
    """Whether the artifact, if there is one, is on this machine: it may be in the shared store."""

    def result(self) -> Artifact | None:
        """The artifact, when it is there; stands in for a future's result."""
        return self.artifact


@dataclass
class Plan:
    """Every step of a study in order."""

    entries: list[Planned] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    """Checkpoints that are there and are not in their series."""

    def look_up(self, step: "Step", inputs: dict[str, Any]) -> Planned:
        """Note one step."""
        resolved = _resolve(inputs)
        artifact, is_here = None, True
        if not _has_missing(resolved):
            key = fingerprint(step.name, step.version, resolved)
            try:
                artifact = artifacts.find(step.name, step.version, key)
            except artifacts.DamagedArtifact:
                artifact = None  # it will be made again
            if artifact is None and step.still_holds is None:
                artifact, is_here = shared.known(step.name, step.version, key), False
        if artifact and step.still_holds and not _holds(step.still_holds, artifact, resolved):
            artifact = None
        checkpoint = inputs.get("checkpoint")
        given = _resolve(inputs, only_here=True)
        planned = Planned(step.name, step.label(inputs), checkpoint, artifact, given, is_here)
        self.entries.append(planned)
        return planned

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


_current: ContextVar[Plan | None] = ContextVar("plan", default=None)


def current_plan() -> Plan | None:
    """The plan being made, if any."""
    return _current.get()


@contextmanager
def planning() -> Iterator[Plan]:
    """Look steps up instead of submitting them; nothing runs, nothing is written."""
    plan = Plan()
    token = _current.set(plan)
    try:
        yield plan
    finally:
        _current.reset(token)


def _holds(check: "Check", artifact: Artifact, inputs: dict[str, Any]) -> bool:
    try:
        return check(artifact, inputs)
    except (ConnectionError, ValueError):
        return False  # what cannot be asked counts as to be run; the run says what is wrong


def _resolve(value: Any, *, only_here: bool = False) -> Any:
    if isinstance(value, Planned):
        return value if only_here and not value.is_here else value.artifact or value
    if isinstance(value, dict):
        return {key: _resolve(item, only_here=only_here) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolve(item, only_here=only_here) for item in value]
    return value


def _has_missing(value: Any) -> bool:
    if isinstance(value, Checkpoint | Tokenizer):
        return value.digest is None
    if isinstance(value, dict):
        return any(_has_missing(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_missing(item) for item in value)
    return isinstance(value, Planned)
