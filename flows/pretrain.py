"""Pretrain the nano models of a study: the checkpoints of the embedded default.

The study flow calls :func:`open_series` for every series first, so that all models train side by
side; this flow does only that and leaves the measuring to another day.
"""

from dataclasses import dataclass
from typing import Any

from prefect import flow
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from store.artifacts import Checkpoint
from store.identity import Label
from studies.load import load_study
from studies.settings import Runtime
from studies.spec import Series, Study
from tasks.checkpoints import (
    find_checkpoints,
    keep_loss_curve,
    make_benchmark_items,
    make_corpus,
    nano_checkpoints,
    pretrain,
)

NUM_DECIDING_THREADS = 8


@dataclass(frozen=True)
class OpenSeries:
    """A series whose checkpoints are there or on their way; fields are futures or None."""

    series: Series
    corpus: Any = None
    items: Any = None
    pretraining: Any = None
    loss_curve: Any = None

    def futures(self) -> list[Any]:
        """What was submitted for the series."""
        return [self.corpus, self.items, self.pretraining, self.loss_curve]

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints in order of step; waits for the training."""
        finish(self.futures())
        if self.series.source.kind == "nano":
            return nano_checkpoints(self.series, self.pretraining.result())
        return find_checkpoints(self.series)


def run_name() -> str:
    """Name of a flow run: the study's, or the file it is asked by."""
    asked = flow_run.parameters["study"]
    if isinstance(asked, str):
        return asked
    return str(asked["name"] if isinstance(asked, dict) else asked.name)


@flow(
    name="pretrain",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=NUM_DECIDING_THREADS),
)
def pretrain_flow(study: Study | str) -> list[list[Checkpoint]]:
    """Pretrain every nano series of a study or study file; what is trained already is reused."""
    spec = load_study(study) if isinstance(study, str) else study
    opened = [open_series(series, spec.runtime) for series in spec.series]
    return [one.checkpoints() for one in opened]


def open_series(series: Series, runtime: Runtime) -> OpenSeries:
    """Submit whatever it takes to have the checkpoints of a series."""
    source = series.source
    if source.kind != "nano":
        return OpenSeries(series)
    corpus = make_corpus.submit(corpus=source.corpus, runtime=runtime)
    pretraining = pretrain.submit(
        label=Label(series.name),
        pretraining=source.pretraining,
        shuffle_answers=source.shuffle_answers,
        corpus=corpus,
        runtime=runtime,
    )
    return OpenSeries(
        series,
        corpus=corpus,
        items=make_benchmark_items.submit(corpus=corpus, runtime=runtime),
        pretraining=pretraining,
        loss_curve=keep_loss_curve.submit(
            label=Label(series.name), pretraining=pretraining, runtime=runtime
        ),
    )


def finish(made: Any) -> None:
    """Wait for every future among values, so that a failure costs only what hangs on it; raise it.

    What hangs on a failed task never starts, so its own state says nothing: the failure itself is
    what is raised.
    """
    futures = list(_futures(made))
    wait(futures)
    for future in futures:
        if future.state.is_failed() or future.state.is_crashed():
            future.result()


def _futures(value: Any) -> list[PrefectFuture[Any]]:
    if isinstance(value, PrefectFuture):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [future for item in value for future in _futures(item)]
    return []
