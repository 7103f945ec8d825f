"""A study's names, resolved before anything is laid out: to commits, digests and steps.

Benchmarks are found first, as nothing is worth training or downloading for one that cannot be
scored. A series that cannot be resolved stops only what depends on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from flows.requested import benchmarks, hub_data_sets
from store.artifacts import Artifact, Checkpoint, Tokenizer
from store.identity import Label
from studies.base import NothingYet
from studies.settings import Runtime
from studies.sources import HubSamples, HubSource, LocalSource
from studies.spec import Series, Study
from tasks.benchmarks import (
    check_sandbox,
    find_benchmarks,
    known_benchmarks,
    look_up_benchmarks,
)
from tasks.graph import Node
from tasks.hub import (
    commits_of,
    find_revisions,
    hub_checkpoints,
    hub_tokenizer,
    pin_data_set,
    pin_revision,
    warn_of_moved,
    without_skipped,
)
from tasks.local import find_checkpoints, local_tokenizer
from tasks.pairing import check_embedder
from tasks.plan import LeftOut, Plan
from tasks.sizes import SHIPPED, SHIPPED_STEPS


class How(Protocol):
    """In a run, or looking only: then nothing is written, and what is not there stays unknown."""

    looking: bool

    def call(self, name: str, of: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function that looks at the world: in a run, as a Prefect task of that name."""
        ...

    def artifacts_of(self, nodes: Sequence[Node]) -> list[Artifact | None]:
        """Artifacts of nodes; None where there is none and nothing runs."""
        ...


class Looking:
    """Resolves for a plan."""

    looking = True

    def __init__(self) -> None:
        self.plan = Plan()

    def call(self, name: str, of: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function."""
        return function(*arguments)

    def artifacts_of(self, nodes: Sequence[Node]) -> list[Artifact | None]:
        """Artifacts of nodes, where they are there."""
        self.plan.look_up(nodes)
        return [self.plan.of(node).artifact for node in nodes]


@dataclass(frozen=True)
class Pinned:
    """What a study's names stood for when it was first run, on this machine.

    Attributes
    ----------
    definitions
        Digest of each benchmark's task file and settings.
    benchmark_data
        Commit of each data set that benchmarks read, by repository.
    sample_data
        Commit of each data set that samples are taken from, by `repository@revision`.
    """

    definitions: dict[str, str]
    benchmark_data: dict[str, Any]
    sample_data: dict[str, Any]

    def samples_of(self, sources: list[Any]) -> dict[str, Any]:
        """Commits of the data sets among some sources of samples."""
        wanted = {name_of(source) for source in sources if isinstance(source, HubSamples)}
        return {name: commit for name, commit in self.sample_data.items() if name in wanted}


@dataclass(frozen=True)
class ResolvedSeries:
    """A series and its checkpoints; those of a nano series are known once it is trained."""

    series: Series
    checkpoints: tuple[Checkpoint, ...] = ()
    tokenizer: Tokenizer | None = None


@dataclass(frozen=True)
class Resolved:
    """A study's names, resolved.

    Attributes
    ----------
    errors
        Why a series could not be resolved, by name.
    """

    pinned: Pinned
    series: tuple[ResolvedSeries, ...]
    left_out: tuple[LeftOut, ...]
    errors: dict[str, ValueError]

    def error(self) -> ValueError | None:
        """What is to be raised for the series that could not be resolved; None where all could.

        It is no failure where they only have no checkpoint yet.
        """
        if not self.errors:
            return None
        yet = all(isinstance(error, NothingYet) for error in self.errors.values())
        return (NothingYet if yet else ValueError)("\n".join(self.reasons()))

    def reasons(self) -> list[str]:
        """Why each of these series has no part in the study, a line each."""
        alone = not self.series and len(self.errors) == 1
        return [
            str(error)
            if alone
            else f"series {name} is left out, and so is what compares series: "
            f"{str(error).removeprefix(f'series {name}: ')}"
            for name, error in self.errors.items()
        ]

    def without(self, lacking: Sequence[LeftOut]) -> "Resolved":
        """Leave some checkpoints out; a series that has none any more is not resolved."""
        out = {(one.series, one.revision) for one in lacking}
        series, errors = [], dict(self.errors)
        for one in self.series:
            name = one.series.name
            left = tuple(c for c in one.checkpoints if (name, c.revision) not in out)
            if one.checkpoints and not left:
                errors[name] = NothingYet(f"series {name}: every checkpoint was deleted unmeasured")
            else:
                series.append(replace(one, checkpoints=left))
        order = [one.series.name for one in self.series]
        left_out = sorted((*self.left_out, *lacking), key=lambda one: order.index(one.series))
        return Resolved(self.pinned, tuple(series), tuple(left_out), errors)


def resolve(study: Study, how: How, *, min_checkpoints: int = 1) -> Resolved:
    """Resolve everything that a study names.

    A series with fewer checkpoints than `min_checkpoints` counts as one that has none yet.

    Raises
    ------
    ValueError
        When a benchmark or a data set cannot be found, or no series can be resolved.
    """
    pinned = pin(study, how)
    series, left_out, errors = [], [], {}
    for one in study.series:
        try:
            found, leaves_out = resolve_series(one, study.runtime, how)
            _refuse_few(found, min_checkpoints)
        except ValueError as error:
            errors[one.name] = error
            continue
        series.append(found)
        left_out += leaves_out
    resolved = Resolved(pinned, tuple(series), tuple(left_out), errors)
    if not series:
        if len(errors) == 1:
            raise next(iter(errors.values()))
        raise resolved.error() or AssertionError("a study has a series")
    return resolved


def _refuse_few(one: ResolvedSeries, least: int) -> None:
    number = len(one.checkpoints)
    if 0 < number < least:
        raise NothingYet(
            f"series {one.series.name} has {number} complete checkpoint by now; {least} are needed"
        )


def name_of(source: HubSamples) -> str:
    """Name of a data set's version."""
    return f"{source.repository}@{source.revision}"


def pin(study: Study, how: How) -> Pinned:
    """Find every benchmark and the commit of every data set on a hub."""
    found = _definitions(study, how)
    names = {name: (name, "main") for name in found["data_sets"]}
    names |= {name_of(s): (s.repository, s.revision) for s in hub_data_sets(study)}
    pins = {
        name: pin_data_set(repository=repository, revision=revision, runtime=study.runtime)
        for name, (repository, revision) in names.items()
    }
    commits = commits_of(pins, how.artifacts_of(list(pins.values())))
    return Pinned(
        definitions=found["definitions"],
        benchmark_data={name: commits[name] for name in found["data_sets"]},
        sample_data={name: commit for name, commit in commits.items() if "@" in name},
    )


def _definitions(study: Study, how: How) -> dict[str, Any]:
    """What defines each benchmark; a plan that has nothing to look it up in finds out itself."""
    wanted = benchmarks(study)
    if not any(wanted.values()):
        return {"definitions": {}, "data_sets": []}
    check_sandbox(wanted)
    check_embedder(study.pairing)
    own_files = any(benchmark.file for chosen in wanted.values() for benchmark in chosen)
    if not own_files:  # what lies beside such a file can change: never from an artifact
        known = look_up_benchmarks(
            benchmarks=wanted,
            evaluation=study.evaluation,
            known=known_benchmarks(),
            runtime=study.runtime,
        )
        (found,) = how.artifacts_of([known])
        if found is not None:
            return found.summary
    return find_benchmarks(wanted, study.evaluation)


def resolve_series(
    series: Series, runtime: Runtime, how: How
) -> tuple[ResolvedSeries, list[LeftOut]]:
    """The checkpoints of a series that are there, and those left out.

    Raises
    ------
    ValueError
        When they cannot be had, or do not fit together; :class:`NothingYet` when there is none.
    """
    source = series.source
    if source.kind == "nano":
        return ResolvedSeries(series), []
    return _on_hub(series, source, runtime, how) if source.kind == "hub" else _local(series, how)


def _local(series: Series, how: How) -> tuple[ResolvedSeries, list[LeftOut]]:
    assert isinstance(series.source, LocalSource)
    checkpoints, left_out = how.call(
        "discover", series.name, find_checkpoints, series.name, series.source, how.looking
    )
    return ResolvedSeries(series, tuple(checkpoints), local_tokenizer(checkpoints)), left_out


def _on_hub(
    series: Series, source: HubSource, runtime: Runtime, how: How
) -> tuple[ResolvedSeries, list[LeftOut]]:
    revisions = _revisions(source, how)
    revisions, skipped = without_skipped(series.name, source, revisions)
    nodes = [
        pin_revision(
            label=Label(series.name),
            repository=source.repository,
            revision=revision,
            runtime=runtime,
        )
        for revision in revisions
    ]
    if not revisions:
        raise ValueError(f"every revision of {source.repository} is skipped; see skip_steps")
    pins = dict(zip(revisions, how.artifacts_of(nodes), strict=True))
    warn_of_moved(source, revisions, pins)
    checkpoints = hub_checkpoints(series, pins, looking=how.looking)
    return ResolvedSeries(series, tuple(checkpoints), hub_tokenizer(checkpoints[0])), skipped


def _revisions(source: HubSource, how: How) -> dict[str, str | None]:
    """The revisions of a source; who only looks and has no hub takes a shipped model's grid."""
    try:
        return how.call(
            "choose revisions", f"of {source.repository}", find_revisions, source, how.looking
        )
    except NothingYet:
        raise
    except ValueError:
        steps = [
            step
            for step in (SHIPPED_STEPS if source.repository in SHIPPED else ())
            if (source.first_step or 0) <= step <= (source.last_step or step)
        ]
        if not how.looking or not source.count or len(steps) < source.count:
            raise
        chosen = (round(i * (len(steps) - 1) / (source.count - 1)) for i in range(source.count))
        return {f"{source.prefix}step{steps[at]}": None for at in chosen}
