"""What happens to every checkpoint of a series: measured, tuned, scored, let go."""

from dataclasses import dataclass
from typing import Any

from prefect import allow_failure

from flows.asked import benchmarks, hub_data_sets, instructions_of, samples_of
from flows.series import OpenSeries, finish
from store.artifacts import Checkpoint
from store.identity import Label
from studies.settings import TuningSpec
from studies.sources import HubSamples
from studies.spec import Study
from tasks.benchmarks import (
    check_sandbox,
    find_benchmarks,
    known_benchmarks,
    look_up_benchmarks,
    score_benchmarks,
)
from tasks.downloads import num_in_flight, release_checkpoint
from tasks.hub import commits_of, pin_data_set
from tasks.measures import measure_routing
from tasks.pairing import check_embedder
from tasks.pathways import measure_pathways
from tasks.plan import current_plan
from tasks.probes import collect_probes
from tasks.routing import extract_routing
from tasks.tuning import collect_instructions, tune_checkpoint

AS_ASKED = Label("")
"""Scored as the study says, and not at another rank to see what that changes."""


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
class Shared:
    """What all checkpoints of a series are measured with; futures, or None."""

    label: Label
    pinned: Pinned
    probes: Any
    instructions: dict[str, Any]
    items: Any


def name_of(source: HubSamples) -> str:
    """Name of a data set's version."""
    return f"{source.repository}@{source.revision}"


def pin(study: Study) -> Pinned:
    """Find every benchmark and the commit of every data set on a hub, before anything else."""
    found = find_definitions(study)
    names = {name: (name, "main") for name in found["data_sets"]}
    names |= {name_of(s): (s.repository, s.revision) for s in hub_data_sets(study)}
    pins = {
        name: pin_data_set.submit(repository=repository, revision=revision, runtime=study.runtime)
        for name, (repository, revision) in names.items()
    }
    finish(pins)
    commits = commits_of(pins)
    return Pinned(
        definitions=found["definitions"],
        benchmark_data={name: commits[name] for name in found["data_sets"]},
        sample_data={name: commit for name, commit in commits.items() if "@" in name},
    )


def find_definitions(study: Study) -> dict[str, Any]:
    """What defines each benchmark; a plan that has nothing to look it up in finds out itself."""
    asked = benchmarks(study)
    if not any(asked.values()):
        return {"definitions": {}, "data_sets": []}
    check_sandbox(asked)
    check_embedder(study.pairing)
    own_files = any(benchmark.file for chosen in asked.values() for benchmark in chosen)
    if not own_files:  # what lies beside such a file can change: never from an artifact
        known = look_up_benchmarks.submit(
            benchmarks=asked,
            evaluation=study.evaluation,
            known=known_benchmarks(),
            runtime=study.runtime,
        )
        finish(known)
        made = known.result()
        if made is not None:
            return made.summary
    return find_benchmarks(asked, study.evaluation)


def prepare_series(
    study: Study, opened: OpenSeries, checkpoints: list[Checkpoint], pinned: Pinned
) -> Shared:
    """Collect the samples that every checkpoint of the series is measured and tuned on."""
    series, runtime = opened.series, study.runtime
    tokenizer = opened.tokenizer(checkpoints)
    samples = samples_of(study, series)
    probes = collect_probes.submit(
        label=Label(series.name),
        samples=samples,
        max_length=study.routing.max_length,
        corpus=opened.corpus,
        shuffle_answers=series.source.kind == "nano" and series.source.shuffle_answers,
        tokenizer=tokenizer,
        commits=pinned.samples_of([one for splits in samples.values() for one in splits.values()]),
        runtime=runtime,
    )
    instructions = {
        domain: collect_instructions.submit(
            label=Label(f"{series.name} {domain}"),
            samples=source,
            max_length=study.tuning.max_length,
            tokenizer=tokenizer,
            commits=pinned.samples_of([source]),
            runtime=runtime,
        )
        for domain, source in instructions_of(study).items()
        if study.tuning is not None
    }
    return Shared(Label(series.name), pinned, probes, instructions, opened.items)


def measure_checkpoints(
    study: Study, checkpoints: list[Checkpoint], shared: Shared
) -> list[dict[str, Any]]:
    """Measure and score every checkpoint; of those from a hub, only so many at once as fit.

    All but the last are released when all that reads their weights is done or has failed.
    """
    window = num_in_flight(checkpoints, study.runtime)
    measured: list[dict[str, Any]] = []
    released: list[Any] = []
    for number, checkpoint in enumerate(checkpoints):
        after = released[number - window] if number >= window else []
        measured.append(measure_checkpoint(study, checkpoint, shared, after))
        if number < len(checkpoints) - 1:
            released.append(release(checkpoint, measured[-1]["readers"]))
    return measured


def release(checkpoint: Checkpoint, readers: list[Any]) -> list[Any]:
    """Let a hub checkpoint's weights go once its readers are done or have failed."""
    if checkpoint.pinned is None or current_plan() is not None:
        return []
    over = [allow_failure(reader) for reader in readers]
    return [release_checkpoint.submit(checkpoint, wait_for=over)]


def measure_checkpoint(
    study: Study, checkpoint: Checkpoint, shared: Shared, after: list[Any]
) -> dict[str, Any]:
    """Route the probe samples through one checkpoint, measure the pathways, run the benchmarks."""
    runtime = study.runtime
    routing = extract_routing.submit(
        checkpoint=checkpoint,
        probes=shared.probes,
        routing=study.routing,
        runtime=runtime,
        after=after,
    )
    pathways = measure_pathways.submit(
        checkpoint=checkpoint,
        routing=routing,
        probes=shared.probes,
        domains=[domain.name for domain in study.domains],
        pathways=study.pathways,
        bound=study.bound,
        runtime=runtime,
    )
    measures = measure_routing.submit(
        checkpoint=checkpoint,
        routing=routing,
        probes=shared.probes,
        domains=[domain.name for domain in study.domains],
        pathways=study.pathways,
        bound=study.bound,
        sensitivity=study.sensitivity,
        runtime=runtime,
    )
    tuned, scores = tune_and_score(study, checkpoint, shared, study.tuning, after)
    ablation = {
        rank: tune_and_score(
            study, checkpoint, shared, _with_rank(study.tuning, rank), after, Label(f" rank {rank}")
        )
        for rank in study.ablation.tuning_ranks
    }
    readers = [routing, *tuned.values(), scores]
    for other_tuned, other_scores in ablation.values():
        readers += [*other_tuned.values(), other_scores]
    return {
        "routing": routing,
        "pathways": pathways,
        "measures": measures,
        "tuned": tuned,
        "scores": scores,
        "ablation": {rank: other_scores for rank, (_, other_scores) in ablation.items()},
        "readers": [reader for reader in readers if reader is not None],
    }


def tune_and_score(
    study: Study,
    checkpoint: Checkpoint,
    shared: Shared,
    tuning: TuningSpec | None,
    after: list[Any],
    which: Label = AS_ASKED,
) -> tuple[dict[str, Any], Any]:
    """Adapters by domain and the scores with them; scores of the checkpoint as it is without.

    `which` is added to the names of scorings that are not the study's main one.
    """
    if not any(domain.benchmarks for domain in study.domains):
        return {}, None
    adapters: dict[str, Any] = {}
    if tuning is not None:
        adapters = {
            domain: tune_checkpoint.submit(
                label=Label(f"{domain} rank {tuning.rank}"),
                checkpoint=checkpoint,
                instructions=instructions,
                tuning=tuning,
                runtime=study.runtime,
                after=after,
            )
            for domain, instructions in shared.instructions.items()
        }
    scores = score_benchmarks.submit(
        label=which,
        checkpoint=checkpoint,
        adapters=adapters,
        benchmarks=benchmarks(study),
        definitions=shared.pinned.definitions,
        items=shared.items,
        commits=shared.pinned.benchmark_data,
        evaluation=study.evaluation,
        runtime=study.runtime,
        after=after,
    )
    return adapters, scores


def _with_rank(tuning: TuningSpec | None, rank: int) -> TuningSpec | None:
    """The same tuning at another rank and the same scale; None for rank 0."""
    if tuning is None or not rank:
        return None
    alpha = None if tuning.alpha is None else max(1, round(tuning.alpha * rank / tuning.rank))
    return tuning.model_copy(update={"rank": rank, "alpha": alpha})
