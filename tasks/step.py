"""The one decorator that makes a function a cached step.

A *step* is a body `body(out, **inputs) -> summary` that reads the artifacts among its inputs and
writes files into `out`. The decorator does everything else:

* A run of a step is identified by its fingerprint (:mod:`store.identity`), so a new run, a retry
  from the Prefect UI and a run after a crash all repeat exactly what is missing.
* The body runs in a worker process and writes into a draft folder; the folder becomes the artifact
  only when it is complete (:mod:`store.artifacts`). Its inputs are verified first.
* Two runs that want the same artifact at once: the second waits, then finds it.

What a step returns is an :class:`~store.artifacts.Artifact`: a reference with a small summary.
Prefect is not imported here: :mod:`tasks.prefect_task` makes a step a task.
"""

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from store import artifacts, shared, state
from store.artifacts import Artifact
from store.identity import fingerprint, identities
from store.locks import locked
from studies.settings import Runtime
from tasks import workers
from tasks.devices import cards, on_a_card
from tasks.downloads import inputs_here
from tasks.graph import Node
from tasks.listeners import Event, Kind, emit
from tasks.local import unchanged

BY_DOMAIN = "by_domain"
"""Numbers for logs and pages that a body may return beside its summary; its files hold them all."""
_IN_STEP = "in the step: "

logger = logging.getLogger("prefect.grokpath")

Body = Callable[..., dict[str, Any]]
Check = Callable[[Artifact, dict[str, Any]], bool]


def failed_step(error: BaseException) -> str | None:
    """Label of the run of a step that raised this; None when it was no step."""
    notes: list[str] = getattr(error, "__notes__", [])
    named = (note.removeprefix(_IN_STEP) for note in notes if note.startswith(_IN_STEP))
    return next(named, None)


class Step:
    """A cached step around a body; calling it makes a node of a graph."""

    def __init__(
        self,
        body: Body,
        *,
        name: str,
        version: int,
        run_name: str,
        resumable: bool,
        still_holds: Check | None,
        loads_model: bool,
    ) -> None:
        self.body = body
        self.name = name
        self.version = version
        self.run_name = run_name
        self.resumable = resumable
        self.still_holds = still_holds
        self.loads_model = loads_model
        self.__doc__ = inspect.getdoc(body)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels by name: a task on its way to another process has its step inside."""
        return _step_named, (self.body.__module__, self.body.__name__)

    def __call__(self, **inputs: Any) -> Node:
        """One run of the step in a graph; nothing is done yet."""
        return Node(self, inputs)

    def label(self, inputs: dict[str, Any]) -> str:
        """Name of one run of the step, for a reader."""
        return self.run_name.format(**inputs)

    def name_of(self, inputs: dict[str, Any]) -> str:
        """Name of the artifact, relative to the artifacts' root."""
        return artifacts.name_of(self.name, self.version, self._key(inputs))

    def run(self, flow_run: str | None = None, /, **inputs: Any) -> Artifact:
        """The artifact: as it is here or in the shared store, else computed."""
        try:
            with locked(self.name_of(inputs)):
                found = self._found(inputs)  # another run may have computed it meanwhile
                return self._computed(inputs, flow_run) if found is None else found
        except BaseException as error:
            error.add_note(f"{_IN_STEP}{self.label(inputs)}")
            raise

    def reusable(self, inputs: dict[str, Any]) -> Artifact | None:
        """The verified artifact; one that is damaged or no longer holds is discarded."""
        identity = (self.name, self.version, self._key(inputs))
        folder = artifacts.folder_of(*identity)
        stamp = artifacts.stamp_of(folder)
        try:
            artifact = artifacts.find(*identity)
            if artifact is None:
                return None
            if self.still_holds is None or self.still_holds(artifact, inputs):
                artifacts.touch(artifact.path)
                return artifact
            reason = f"{artifact.path}: what it stands for is gone"
        except artifacts.DamagedArtifact as error:
            reason = str(error)
        logger.warning("computed again: %s", reason)
        if artifacts.stamp_of(folder) == stamp:  # and not what another run computed meanwhile
            artifacts.discard(folder)
        return None

    def report_reused(self, inputs: dict[str, Any]) -> None:
        """Let listeners know that nothing needs to be computed."""
        emit(Event(self.name, self.label(inputs), Kind.reused, 1))

    def _key(self, inputs: dict[str, Any]) -> str:
        return fingerprint(self.name, self.version, inputs)

    def _found(self, inputs: dict[str, Any]) -> Artifact | None:
        """The artifact, if it is here or in the shared store; then it is in both."""
        artifact = self.reusable(inputs)
        if artifact is None and shared.fetch(self.name, self.version, self._key(inputs)):
            artifact = self.reusable(inputs)
        if artifact is None:
            return None
        if shared.lacks(artifact):  # an earlier run could not reach the store
            shared.upload(artifact)
        self.report_reused(inputs)
        return artifact

    def _computed(self, inputs: dict[str, Any], flow_run: str | None) -> Artifact:
        identity = (self.name, self.version, self._key(inputs))
        label = self.label(inputs)
        with (
            self._recorded(inputs, flow_run) as attempt,
            artifacts.draft(*identity, resumable=self.resumable) as out,
        ):
            summary, started_at = self._compute(out, inputs)
            attempt.began = started_at
            by_domain = summary.pop(BY_DOMAIN, {})
            artifact = artifacts.commit(
                out,
                step_name=self.name,
                version=self.version,
                fingerprint=identity[2],
                inputs=identities(inputs),
                summary=summary,
                started_at=started_at,
                device=summary.pop("device", "cpu"),
            )
        shared.upload(artifact)
        seconds = attempt.seconds()
        emit(Event(self.name, label, Kind.computed, 1, 1, "", summary, by_domain, seconds))
        return artifact

    @contextmanager
    def _recorded(self, inputs: dict[str, Any], flow_run: str | None) -> "Iterator[_Attempt]":
        """Record the attempt: that it began, and how it ended."""
        label, attempt = self.label(inputs), _Attempt()
        number = state.attempt_began(self.name_of(inputs), self.name, label, flow_run)
        try:
            yield attempt
        except BaseException as error:
            attempt.began = getattr(error, workers.STARTED_AT, attempt.began)
            _record_end(number, attempt.seconds(), f"{type(error).__name__}: {error}")
            raise
        _record_end(number, attempt.seconds())

    def _compute(self, out: Path, inputs: dict[str, Any]) -> workers.Answer:
        runtime = next((v for v in inputs.values() if isinstance(v, Runtime)), Runtime())
        job = workers.Job(
            self.body.__module__,
            self.body.__name__,
            self.name,
            self.label(inputs),
            str(artifacts.root()),
            self.loads_model,
        )
        verify_inputs(inputs)
        with (
            inputs_here(inputs, runtime, weights=self.loads_model),
            unchanged(inputs if self.loads_model else {}),
            on_a_card(inputs) if self.loads_model else nullcontext(inputs) as placed,
        ):
            num_workers = runtime.workers + (0 if runtime.device == "cpu" else len(cards()))
            return workers.run(job, num_workers, {"out": out, **placed})


def _record_end(number: int, seconds: float, error: str | None = None) -> None:
    """Record how an attempt ended; that it cannot be recorded changes nothing about that."""
    try:
        state.attempt_ended(number, seconds, error)
    except ValueError as failure:
        logger.warning("%s", failure)


class _Attempt:
    """When a worker began to compute: waiting for one is no work."""

    def __init__(self) -> None:
        self.began = datetime.now(UTC)

    def seconds(self) -> float:
        return round((datetime.now(UTC) - self.began).total_seconds(), 3)


def verify_inputs(inputs: dict[str, Any]) -> None:
    """Hash every artifact that a body is about to read.

    Raises
    ------
    store.artifacts.DamagedArtifact
        When one is damaged; the next run computes it again.
    """
    for artifact in {one.path: one for one in _artifacts_in(inputs)}.values():
        try:
            artifacts.refuse_damaged(artifact.path)
        except artifacts.DamagedArtifact as error:
            state.forget_verified(f"{artifact.path.parent.name}/{artifact.path.name}")
            raise artifacts.DamagedArtifact(
                f"{error}; run again: it is then computed again, and this step after it"
            ) from None


def _artifacts_in(value: Any) -> Iterator[Artifact]:
    if isinstance(value, Artifact):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _artifacts_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _artifacts_in(item)


def _step_named(module: str, name: str) -> Step:
    found: Step = getattr(import_module(module), name)
    return found


def step(
    name: str,
    *,
    version: int,
    run_name: str,
    resumable: bool = False,
    still_holds: Check | None = None,
    loads_model: bool = False,
) -> Callable[[Body], Step]:
    """Make a body a :class:`Step`.

    Parameters
    ----------
    name
        Name of the step and of its folder below `artifacts/`.
    version
        Raise it when the meaning of the output changes; every artifact of the step is then new.
    run_name
        Format of a run's label from the inputs, e.g. `"{checkpoint.series} {checkpoint.revision}"`.
    resumable
        Leave what a killed attempt wrote to the next one; the body must be able to continue it.
    still_holds
        For a step with an effect outside its artifact: whether the effect is still there; only a
        run asks.
    loads_model
        The weights of its checkpoint are downloaded, if they come from a hub
        (:mod:`tasks.downloads`), and it computes on a graphics card where there is one, alone on it
        (:mod:`tasks.devices`).
    """
    return lambda body: Step(
        body,
        name=name,
        version=version,
        run_name=run_name,
        resumable=resumable,
        still_holds=still_holds,
        loads_model=loads_model,
    )
