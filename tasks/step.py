"""The one decorator that makes a function a cached Prefect task.

A *step* is a body `body(out, **inputs) -> summary` that reads the artifacts among its inputs and
writes files into `out`. The decorator does everything else:

* The Prefect cache key is the step's fingerprint (:mod:`store.identity`), so a new run, a retry
  from the Prefect UI and a run after a crash all repeat exactly what is missing. Prefect's own
  policies would not do: the default one includes the run id, and the others fall back to pickled
  bytes that differ between processes.
* Before a key is handed to Prefect, the artifact it names is verified. A damaged one is discarded
  together with Prefect's result record, so that Prefect finds nothing and runs the body.
* The body runs in a worker process and writes into a draft folder; the folder becomes the artifact
  only when it is whole (:mod:`store.artifacts`).
* Two runs that want the same artifact at once: the second waits, then finds it.

What a step returns is an :class:`~store.artifacts.Artifact`: a reference with a small summary.
"""

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from prefect import allow_failure, task
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.tasks import Task

from store import artifacts, journal, shared, uses
from store.artifacts import Artifact
from store.identity import fingerprint, identities
from studies.settings import Runtime
from tasks import cluster, workers
from tasks.devices import cards, on_a_card
from tasks.downloads import inputs_here
from tasks.graph import Node, settled
from tasks.local import unchanged
from tasks.progress import Bar
from tasks.said import BY_DOMAIN, silence_endings, tell_made

_IN_STEP = "in the step: "

Body = Callable[..., dict[str, Any]]
Check = Callable[[Artifact, dict[str, Any]], bool]


def failed_step(error: BaseException) -> str | None:
    """Which run of a step raised this: its speaking name; None when it was no step."""
    notes: list[str] = getattr(error, "__notes__", [])
    named = (note.removeprefix(_IN_STEP) for note in notes if note.startswith(_IN_STEP))
    return next(named, None)


@dataclass
class FingerprintPolicy(CachePolicy):
    """Prefect cache policy: the key is the place of the artifact's result record."""

    step: "Step | None" = None
    root: str | None = None
    """The artifact root, for a task that travels to another process."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **_: Any,
    ) -> str | None:
        """Key of a task run; a damaged artifact is discarded first, so that the body runs."""
        assert self.step is not None
        if self.root is not None:
            cluster.enter(self.root)
        inputs = settled(inputs)
        key = fingerprint(self.step.name, self.step.version, inputs)
        name = artifacts.name_of(self.step.name, self.step.version, key)
        if task_ctx.task_run.flow_run_id is not None:
            uses.used(str(task_ctx.task_run.flow_run_id), name)
        if self.step.reusable(key, inputs) is not None:
            self.step.tell_reused(inputs)
        return f"{name}/{artifacts.RESULT}"


class Step:
    """A cached Prefect task made from a body; submit it inside a flow."""

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
        self.__doc__ = body.__doc__
        silence_endings(name)
        self.task: Task[..., Artifact] = task(
            self._visible(),
            name=name,
            description=inspect.getdoc(body),
            task_run_name=self._named,
            cache_policy=FingerprintPolicy(step=self),
            persist_result=True,
            result_serializer="json",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels by name: a task on its way to another process has its step inside."""
        return _step_named, (self.body.__module__, self.body.__name__)

    def __call__(self, **inputs: Any) -> Node:
        """One run of the step in a graph; nothing is done yet."""
        return Node(self, inputs)

    def submit(self, *, after: Sequence[Any] = (), **inputs: Any) -> "PrefectFuture[Artifact]":
        """Hand the step to Prefect; futures among the inputs are waited for and resolved.

        So are those in `after`, whether they succeed or fail.
        """
        storing = self.task.with_options(
            cache_policy=FingerprintPolicy(step=self, root=str(artifacts.root())),
            result_storage=artifacts.artifacts_root(),
        )
        return storing.submit(**inputs, wait_for=[allow_failure(future) for future in after])

    def run(self, **inputs: Any) -> Artifact:
        """Make the artifact, or find it made; what the Prefect task does when it has no result."""
        key = fingerprint(self.name, self.version, inputs)
        identity = (self.name, self.version, key)
        with artifacts.locked(*identity):
            made = self._found(key, inputs)
            if made is not None:  # another run made it while this one waited
                return made
            with shared.locked(*identity):
                made = self._found(key, inputs)
                return made if made is not None else self._make(key, inputs)

    def _found(self, key: str, inputs: dict[str, Any]) -> Artifact | None:
        """The artifact, if it is here or in the shared store; then it is in both."""
        made = self.reusable(key, inputs)
        if made is None and shared.fetch(self.name, self.version, key):
            made = self.reusable(key, inputs)
        if made is None:
            return None
        if shared.lacks(made):  # an earlier run could not reach the store
            shared.upload(made)
        self.tell_reused(inputs)
        return made

    def _make(self, key: str, inputs: dict[str, Any]) -> Artifact:
        identity = (self.name, self.version, key)
        with (
            self._noted(artifacts.name_of(*identity), inputs) as attempt,
            artifacts.draft(*identity, resumable=self.resumable) as out,
        ):
            summary, started_at = self._compute(out, inputs)
            attempt["computing_since"] = started_at
            by_domain = summary.pop(BY_DOMAIN, {})
            artifact = artifacts.commit(
                out,
                step_name=self.name,
                version=self.version,
                fingerprint=key,
                inputs=identities(inputs),
                summary=summary,
                started_at=started_at,
                device=summary.pop("device", "cpu"),
            )
        shared.upload(artifact)
        seconds = (datetime.now(UTC) - started_at).total_seconds()
        tell_made(self.label(inputs), summary, by_domain, seconds)
        return artifact

    def reusable(self, key: str, inputs: dict[str, Any]) -> Artifact | None:
        """The whole, verified artifact; one that is damaged or no longer holds is discarded."""
        try:
            artifact = artifacts.find(self.name, self.version, key)
            if artifact is None or self.still_holds is None or self.still_holds(artifact, inputs):
                told = artifact is not None and artifacts.agreeing_result(artifact)
                if artifact is not None and (not told or shared.lacks(artifact)):
                    (artifact.path / artifacts.RESULT).unlink(missing_ok=True)
                return artifact
            reason = f"{artifact.path}: what it stands for is gone"
        except artifacts.DamagedArtifact as error:
            reason = str(error)
        logging.getLogger("prefect.grokpath").warning("made again: %s", reason)
        artifacts.discard(artifacts.folder_of(self.name, self.version, key))
        return None

    @contextmanager
    def _noted(self, name: str, inputs: dict[str, Any]) -> Iterator[dict[str, datetime]]:
        """The attempt, written into the journal: that it began, and how it ended.

        Its seconds are those of computing, from the moment that a worker was free for it.
        """
        context = TaskRunContext.get()
        about = {
            "step": self.name,
            "run": self.label(inputs),
            "artifact": name,
            "flow_run": None if context is None else context.task_run.flow_run_id,
        }
        journal.note("began", **about)
        attempt = {"computing_since": datetime.now(UTC)}

        def seconds() -> float:
            return round((datetime.now(UTC) - attempt["computing_since"]).total_seconds(), 3)

        try:
            yield attempt
        except BaseException as error:
            error.add_note(f"{_IN_STEP}{self.label(inputs)}")
            began: datetime = getattr(error, workers.STARTED_AT, attempt["computing_since"])
            attempt["computing_since"] = began
            told = f"{type(error).__name__}: {error}"
            journal.note("failed", **about, seconds=seconds(), error=told)
            raise
        journal.note("made", **about, seconds=seconds())

    def tell_reused(self, inputs: dict[str, Any]) -> None:
        """Let whoever watches know that nothing needs to be computed."""
        label = self.label(inputs)
        workers.tell(workers.Progress(self.name, label, 1, 1, finished=True, reused=True))

    def label(self, inputs: dict[str, Any]) -> str:
        """Speaking name of one run of the step."""
        return self.run_name.format(**inputs)

    def _named(self, parameters: dict[str, Any]) -> str:
        """Name of the task run, for Prefect."""
        return self.label(settled(parameters))

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
        with (
            inputs_here(inputs, runtime, weights=self.loads_model),
            unchanged(inputs if self.loads_model else {}),
            on_a_card(inputs) if self.loads_model else nullcontext(inputs) as placed,
            Bar(job.label),
        ):
            num_workers = runtime.workers + (0 if runtime.device == "cpu" else len(cards()))
            return workers.run(job, num_workers, {"out": out, **placed})

    def _visible(self) -> Callable[..., Artifact]:
        """What Prefect sees: the body's signature without `out`."""

        def visible(**inputs: Any) -> Artifact:
            return self.run(**settled(inputs))

        signature = inspect.signature(self.body)
        parameters = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in signature.parameters.items()
            if name != "out"
        ]
        visible.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=parameters, return_annotation=Artifact
        )
        visible.__name__ = self.body.__name__
        visible.__module__ = self.body.__module__
        return visible


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
        Format of a run's name from the inputs, e.g. `"{checkpoint.series} {checkpoint.revision}"`.
    resumable
        Keep what a killed attempt left and hand it to the next one; the body must cope with it.
    still_holds
        For a step with an effect outside its artifact: whether the effect is still there.
    loads_model
        The weights of its checkpoint are brought from the hub, if that is where it comes from
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
