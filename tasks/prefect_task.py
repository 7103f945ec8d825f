"""A step as a Prefect task.

The task's cache key is the place of the artifact's result record, `<artifact>/result.json` below
the artifacts' root. Prefect's own policies would not do: the default one includes the run id, and
the others fall back to pickled bytes that differ between processes. Before Prefect looks for the
record, the artifact is verified; a damaged one is discarded with its record, so that Prefect finds
nothing and runs the body.
"""

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from prefect import allow_failure, task
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.tasks import Task

from store import artifacts, shared
from store.artifacts import Artifact
from tasks import workers
from tasks.graph import settled
from tasks.step import Step
from tasks.task_page import on_its_page


@dataclass
class FingerprintPolicy(CachePolicy):
    """Prefect cache policy: the key is the place of the artifact's result record."""

    step: Step | None = None
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
            workers.enter_dask_worker(self.root)
        inputs = settled(inputs)
        artifact = self.step.reusable(inputs)
        if artifact is not None:
            if not artifacts.agreeing_result(artifact) or shared.lacks(artifact):
                (artifact.path / artifacts.RESULT).unlink(missing_ok=True)
            self.step.report_reused(inputs)
        return f"{self.step.name_of(inputs)}/{artifacts.RESULT}"


def submit(step: Step, inputs: dict[str, Any], after: Sequence[Any] = ()) -> PrefectFuture[Any]:
    """Hand a step to Prefect; futures among the inputs are waited for and resolved.

    So are those in `after`, whether they succeed or fail.
    """
    waits = [allow_failure(future) for future in after]
    return task_of(step).submit(**inputs, wait_for=waits)


def task_of(step: Step) -> Task[..., Artifact]:
    """The Prefect task of a step, with the artifacts' root of this process."""
    return _task(step).with_options(
        cache_policy=FingerprintPolicy(step=step, root=str(artifacts.root())),
        result_storage=artifacts.artifacts_root(),
    )


@cache
def _task(step: Step) -> Task[..., Artifact]:
    _quiet.add(step.name)
    return task(
        _visible(step),
        name=step.name,
        description=step.__doc__,
        task_run_name=lambda parameters: step.label(settled(parameters)),
        persist_result=True,
        result_serializer="json",
    )


def _visible(step: Step) -> Callable[..., Artifact]:
    """What Prefect sees: the body's signature without `out`."""

    def visible(**inputs: Any) -> Artifact:
        inputs = settled(inputs)
        context = TaskRunContext.get()
        flow_run = None if context is None else context.task_run.flow_run_id
        with on_its_page(step.label(inputs)):
            return step.run(None if flow_run is None else str(flow_run), **inputs)

    signature = inspect.signature(step.body)
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        if name != "out"
    ]
    visible.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=Artifact
    )
    visible.__name__ = step.body.__name__
    visible.__module__ = step.body.__module__
    return visible


_quiet: set[str] = set()


def _is_news(record: logging.LogRecord) -> bool:
    """Not Prefect's own 'Finished in state Completed()' of a step, which has a line of its own."""
    ours = getattr(record, "task_name", None) in _quiet
    ended = record.levelno == logging.INFO and str(record.msg).startswith("Finished in state")
    return not (ours and ended)


logging.getLogger("prefect.task_runs").addFilter(_is_news)
