"""Pretrain the nano models of a study: the checkpoints of the embedded default.

The study flow calls :func:`open_series` for every series first, so that all models train side by
side; this flow does only that and leaves the measuring to another day.
"""

from dataclasses import dataclass
from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from store.artifacts import Checkpoint
from store.identity import Label
from studies.spec import Runtime, Series, Study
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

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints in order of step; waits for the training."""
        if self.series.source.kind == "nano":
            return nano_checkpoints(self.series, self.pretraining.result())
        return find_checkpoints(self.series)


@flow(name="pretrain", task_runner=ThreadPoolTaskRunner(max_workers=NUM_DECIDING_THREADS))
def pretrain_flow(study: Study) -> list[list[Checkpoint]]:
    """Pretrain every nano series of a study; what is trained already is reused."""
    opened = [open_series(series, study.runtime) for series in study.series]
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
