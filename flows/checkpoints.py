"""What happens to every checkpoint of a series: measured, tuned, scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flows.requested import benchmarks, instructions_of, samples_of
from flows.resolve import Pinned, ResolvedSeries
from store.artifacts import Checkpoint
from store.identity import Label
from studies.settings import TuningSpec
from studies.spec import Series, Study
from tasks.benchmarks import score_benchmarks
from tasks.checkpoints import (
    digest_of,
    expected_checkpoints,
    keep_loss_curve,
    make_benchmark_items,
    make_corpus,
    nano_checkpoint,
    pretrain,
)
from tasks.graph import Late, Node
from tasks.measures import measure_routing
from tasks.pathways import measure_pathways
from tasks.probes import collect_probes
from tasks.routing import extract_routing
from tasks.tuning import collect_instructions, tune_checkpoint

AS_REQUESTED = Label("")
"""Scored as the study says, and not at another rank to see what that changes."""

OneCheckpoint = Checkpoint | Late
"""A checkpoint; of a nano series that is yet to be trained, one that is known later."""


@dataclass(frozen=True)
class Training:
    """What it takes to have the checkpoints of a nano series; None of others."""

    corpus: Node | None = None
    items: Node | None = None
    pretraining: Node | None = None
    loss_curve: Node | None = None


@dataclass(frozen=True)
class Identity:
    """What a series is called and which checkpoints it has; lists run along these."""

    name: str
    role: str
    title: str
    variant: str
    control_for: str | None
    source_kind: str
    steps: list[int]
    tokens_seen: list[int | None]
    revisions: list[str]
    digests: list[str | Late | None]
    repositories: list[str | None]


@dataclass(frozen=True)
class MeasuredCheckpoint:
    """What is measured of one checkpoint; scores also at other LoRA ranks."""

    routing: Node
    pathways: Node
    measures: Node
    tuned: dict[str, Node]
    scores: Node | None
    ablation: dict[int, Node | None]


@dataclass(frozen=True)
class MeasuredSeries:
    """What is measured of one series; lists run along its checkpoints.

    With the fields of its identity these are the fields of :class:`store.tables.SeriesArtifacts`,
    which `monitors` and `warehouse` read.
    """

    identity: Identity
    probes: Node
    instructions: list[Node]
    loss_curve: Node | None
    routing: list[Node]
    pathways: list[Node]
    measures: list[Node]
    scores: list[Node]
    tuned: list[dict[str, Node]]
    ablation: dict[str, list[Node | None]]
    memorization: Node
    groups: Node
    drift: Node
    dynamics: Node
    contamination: Node | None
    generalization: Node | None
    pairing: Node | None

    def inputs(self) -> dict[str, Any]:
        """As an input of a step."""
        fields = dict(vars(self))
        return vars(fields.pop("identity")) | fields


@dataclass(frozen=True)
class Shared:
    """What all checkpoints of a series are measured with."""

    label: Label
    pinned: Pinned
    probes: Node
    instructions: dict[str, Node]
    items: Node | None


def training_of(study: Study, series: Series) -> Training:
    """Corpus, benchmark items and pretraining of a nano series."""
    source, runtime, label = series.source, study.runtime, Label(series.name)
    if source.kind != "nano":
        return Training()
    corpus = make_corpus(label=label, corpus=source.corpus, runtime=runtime)
    pretraining = pretrain(
        label=label,
        pretraining=source.pretraining,
        shuffle_answers=source.shuffle_answers,
        corpus=corpus,
        runtime=runtime,
    )
    return Training(
        corpus=corpus,
        items=make_benchmark_items(label=label, corpus=corpus, runtime=runtime),
        pretraining=pretraining,
        loss_curve=keep_loss_curve(label=label, pretraining=pretraining, runtime=runtime),
    )


def checkpoints_of(one: ResolvedSeries, training: Training) -> Sequence[OneCheckpoint]:
    """The checkpoints of a series in order of step."""
    if training.pretraining is None:
        return one.checkpoints
    return [
        Late(training.pretraining, nano_checkpoint, (expected.model_dump(),), expected)
        for expected in expected_checkpoints(one.series)
    ]


def identify(series: Series, checkpoints: Sequence[OneCheckpoint], training: Training) -> Identity:
    """What a series is called and which checkpoints it has."""
    known = [one.until_then if isinstance(one, Late) else one for one in checkpoints]
    return Identity(
        name=series.name,
        role=series.role,
        title=series.title,
        variant=series.variant,
        control_for=series.control_for,
        source_kind=series.source.kind,
        steps=[one.step for one in known],
        tokens_seen=[one.tokens_seen for one in known],
        revisions=[one.revision for one in known],
        digests=[
            one.digest
            if training.pretraining is None
            else Late(training.pretraining, digest_of, (one.revision,))
            for one in known
        ],
        repositories=[one.repository for one in known],
    )


def shared_of(study: Study, one: ResolvedSeries, training: Training, pinned: Pinned) -> Shared:
    """The samples that every checkpoint of the series is measured and tuned on."""
    series, runtime = one.series, study.runtime
    samples = samples_of(study, series)
    probes = collect_probes(
        label=Label(series.name),
        samples=samples,
        max_length=study.routing.max_length,
        corpus=training.corpus,
        shuffle_answers=series.source.kind == "nano" and series.source.shuffle_answers,
        tokenizer=one.tokenizer,
        commits=pinned.samples_of([x for splits in samples.values() for x in splits.values()]),
        runtime=runtime,
    )
    instructions = {
        domain: collect_instructions(
            label=Label(f"{series.name} {domain}"),
            samples=source,
            max_length=study.tuning.max_length,
            tokenizer=one.tokenizer,
            commits=pinned.samples_of([source]),
            runtime=runtime,
        )
        for domain, source in instructions_of(study).items()
        if study.tuning is not None
    }
    return Shared(Label(series.name), pinned, probes, instructions, training.items)


def measure_checkpoint(
    study: Study, checkpoint: OneCheckpoint, shared: Shared
) -> MeasuredCheckpoint:
    """Route the probe samples through one checkpoint, measure the pathways, run the benchmarks."""
    runtime = study.runtime
    routing = extract_routing(
        checkpoint=checkpoint,
        probes=shared.probes,
        routing=study.routing,
        runtime=runtime,
    )
    pathways = measure_pathways(
        checkpoint=checkpoint,
        routing=routing,
        probes=shared.probes,
        domains=[domain.name for domain in study.domains],
        pathways=study.pathways,
        bound=study.bound,
        runtime=runtime,
    )
    measures = measure_routing(
        checkpoint=checkpoint,
        routing=routing,
        probes=shared.probes,
        domains=[domain.name for domain in study.domains],
        pathways=study.pathways,
        bound=study.bound,
        sensitivity=study.sensitivity,
        runtime=runtime,
    )
    tuned, scores = tune_and_score(study, checkpoint, shared, study.tuning)
    ablation = {
        rank: tune_and_score(
            study, checkpoint, shared, _with_rank(study.tuning, rank), Label(f" rank {rank}")
        )
        for rank in study.ablation.tuning_ranks
    }
    ranks = {rank: other_scores for rank, (_, other_scores) in ablation.items()}
    return MeasuredCheckpoint(routing, pathways, measures, tuned, scores, ranks)


def tune_and_score(
    study: Study,
    checkpoint: OneCheckpoint,
    shared: Shared,
    tuning: TuningSpec | None,
    which: Label = AS_REQUESTED,
) -> tuple[dict[str, Node], Node | None]:
    """Adapters by domain and the scores with them; scores of the checkpoint as it is without.

    `which` is added to the names of scorings that are not the study's main one.
    """
    if not any(domain.benchmarks for domain in study.domains):
        return {}, None
    adapters: dict[str, Node] = {}
    if tuning is not None:
        adapters = {
            domain: tune_checkpoint(
                label=Label(f"{domain} rank {tuning.rank}"),
                checkpoint=checkpoint,
                instructions=instructions,
                tuning=tuning,
                runtime=study.runtime,
            )
            for domain, instructions in shared.instructions.items()
        }
    scores = score_benchmarks(
        label=which,
        checkpoint=checkpoint,
        adapters=adapters,
        benchmarks=benchmarks(study),
        definitions=shared.pinned.definitions,
        items=shared.items,
        commits=shared.pinned.benchmark_data,
        evaluation=study.evaluation,
        runtime=study.runtime,
    )
    return adapters, scores


def _with_rank(tuning: TuningSpec | None, rank: int) -> TuningSpec | None:
    """The same tuning at another rank and the same scale; None for rank 0."""
    if tuning is None or not rank:
        return None
    alpha = None if tuning.alpha is None else max(1, round(tuning.alpha * rank / tuning.rank))
    return tuning.model_copy(update={"rank": rank, "alpha": alpha})
