"""Series of checkpoints, opened: trained, found in a folder, or resolved on a hub."""

from dataclasses import dataclass, field
from typing import Any

from prefect.futures import PrefectFuture, wait

from flows.failures import raise_failures
from store.artifacts import Checkpoint, Tokenizer
from store.identity import Label
from studies.settings import Runtime
from studies.spec import Series
from tasks.checkpoints import (
    keep_loss_curve,
    make_benchmark_items,
    make_corpus,
    nano_checkpoints,
    pretrain,
)
from tasks.hub import (
    find_revisions,
    hub_checkpoints,
    hub_tokenizer,
    pin_revision,
    tell_moved,
    without_skipped,
)
from tasks.left_out import LeftOut
from tasks.local import find_checkpoints, local_tokenizer


@dataclass(frozen=True)
class OpenSeries:
    """A series whose checkpoints are there or on their way; fields are futures or None."""

    series: Series
    corpus: Any = None
    items: Any = None
    pretraining: Any = None
    loss_curve: Any = None
    pins: dict[str, Any] = field(default_factory=dict)
    revisions: dict[str, str | None] = field(default_factory=dict)
    skipped: list[LeftOut] = field(default_factory=list)

    def futures(self) -> list[Any]:
        """What was submitted for the series."""
        return [self.corpus, self.items, self.pretraining, self.loss_curve, self.pins]

    def found(self) -> tuple[list[Checkpoint], list[LeftOut]]:
        """The checkpoints in order of step, and those left out; waits for training or hub."""
        finish(self.futures())
        if self.series.source.kind == "nano":
            return nano_checkpoints(self.series, self.pretraining.result()), []
        if self.series.source.kind == "hub":
            pins = {name: pin.result() for name, pin in self.pins.items()}
            tell_moved(self.series.source, self.revisions, pins)
            return hub_checkpoints(self.series, pins), self.skipped
        return find_checkpoints(self.series)

    def tokenizer(self, checkpoints: list[Checkpoint]) -> Tokenizer | None:
        """The tokenizer of the series, the first checkpoint's; the nano corpus brings its own."""
        if self.series.source.kind == "nano":
            return None
        if self.series.source.kind == "hub":
            return hub_tokenizer(checkpoints[0])
        return local_tokenizer(checkpoints)


def open_series(series: Series, runtime: Runtime) -> OpenSeries:
    """Submit whatever it takes to have the checkpoints of a series."""
    source = series.source
    if source.kind == "local":
        return OpenSeries(series)
    if source.kind == "hub":
        revisions, skipped = without_skipped(series.name, source, find_revisions(source))
        pins = {
            revision: pin_revision.submit(
                label=Label(series.name),
                repository=source.repository,
                revision=revision,
                runtime=runtime,
            )
            for revision in revisions
        }
        return OpenSeries(series, pins=pins, revisions=revisions, skipped=skipped)
    corpus = make_corpus.submit(label=Label(series.name), corpus=source.corpus, runtime=runtime)
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
        items=make_benchmark_items.submit(label=Label(series.name), corpus=corpus, runtime=runtime),
        pretraining=pretraining,
        loss_curve=keep_loss_curve.submit(
            label=Label(series.name), pretraining=pretraining, runtime=runtime
        ),
    )


def finish(made: Any) -> None:
    """Wait for every future among values, so that a failure costs only what hangs on it; raise it.

    What hangs on a failed task never starts, so its own state says nothing: the failure itself is
    what is raised (:mod:`flows.failures`).
    """
    futures = list(_futures(made))
    wait(futures)
    raise_failures(futures)


def _futures(value: Any) -> list[PrefectFuture[Any]]:
    if isinstance(value, PrefectFuture):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [future for item in value for future in _futures(item)]
    return []
