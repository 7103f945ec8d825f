"""The main path: a study from its checkpoints to the report.

    checkpoints --> routing + losses --> memorization, pathways, measures --\\
        |                                     (pairing)                       >-- monitors
        \\--> (tuning) --> scores --> contamination, generalization --------/       |
                                                        warehouse --> report, tracking

First the study's names are resolved (:mod:`flows.resolve`), then it is laid out as a graph whose
nodes are steps; a run (:mod:`flows.run`) submits them, a plan looks them up. Whatever was computed
before, by any run, is reused (:mod:`tasks.step`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flows.checkpoints import (
    MeasuredSeries,
    OneCheckpoint,
    Shared,
    Training,
    checkpoints_of,
    identify,
    measure_checkpoint,
    shared_of,
    training_of,
)
from flows.requested import accuracy, benchmarks, tuning_ranks
from flows.resolve import How, Looking, Pinned, Resolved, ResolvedSeries, resolve
from store.identity import Label
from studies.spec import Study
from tasks.analysis import find_generalization, find_memorization, judge_monitors
from tasks.contamination import find_contamination
from tasks.dynamics import measure_drift, measure_dynamics
from tasks.frozen_router import run_frozen_routers
from tasks.graph import Graph, Node
from tasks.local import is_gone
from tasks.pairing import pair_groups_by_text
from tasks.pathways import measure_groups
from tasks.plan import LeftOut, Plan
from tasks.publish import (
    build_warehouse,
    describe,
    export_tracking,
    tracking_destination,
    write_report,
)
from tasks.sensitivity import try_settings


@dataclass(frozen=True)
class LaidOut:
    """A study as a graph, and the nodes that a run ends in; None while a series is unresolved."""

    graph: Graph
    warehouse: Node | None = None
    report: Node | None = None
    tracking: Node | None = None


def plan_study(study: Study, *, min_checkpoints: int = 1) -> Plan:
    """What the study would do and what it would reuse; nothing runs.

    Raises
    ------
    ValueError
        When no series can be resolved; `unresolved` is the error of a plan that lacks some.
    """
    looking = Looking()
    resolved, laid = prepare(study, looking, min_checkpoints)
    if not resolved.series:
        raise resolved.error() or AssertionError("a study has a series")
    looking.plan.look_up(laid.graph.nodes)
    looking.plan.left_out += resolved.left_out
    looking.plan.unresolved = resolved.error()
    return looking.plan


def prepare(study: Study, how: How, min_checkpoints: int = 1) -> tuple[Resolved, LaidOut]:
    """Resolve a study and lay it out, without checkpoints that were deleted unmeasured."""
    resolved = resolve(study, how, min_checkpoints=min_checkpoints)
    laid = lay_out(study, resolved)
    lacking = _unmeasured(resolved, laid.graph, how)
    if lacking:
        resolved = resolved.without(lacking)
        laid = lay_out(study, resolved)
    return resolved, laid


def _unmeasured(resolved: Resolved, graph: Graph, how: How) -> list[LeftOut]:
    """Checkpoints whose weights are gone and on which something was never measured."""
    gone = [c for one in resolved.series for c in one.checkpoints if is_gone(c)]
    if not gone:
        return []
    nodes = graph.of_checkpoints(gone)
    if not how.looking:  # what they share must be there, to know what was measured with it
        try:
            how.artifacts_of([r for node in nodes for r in node.reads() if r.checkpoint is None])
        except ValueError:  # a step failed
            return []  # not known; the run says what failed, and does the rest
    plan = Plan()
    plan.look_up(Graph(nodes).nodes)
    lacking: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        checkpoint = node.checkpoint
        if checkpoint is not None and plan.of(node).artifact is None:
            key = checkpoint.series, checkpoint.revision
            lacking.setdefault(key, []).append(node.step.name)
    return [
        LeftOut(
            one.series,
            one.revision,
            one.step,
            "its folder was deleted, and what the study requests was never measured on it",
            f" ({', '.join(lacking[one.series, one.revision])}); put it back to have it measured",
        )
        for one in gone
        if (one.series, one.revision) in lacking
    ]


def lay_out(study: Study, resolved: Resolved) -> LaidOut:
    """The study as a graph; as far as it goes where a series is not resolved."""
    trainings = [training_of(study, one.series) for one in resolved.series]
    measured = [
        measure_series(study, one, training, resolved.pinned)
        for one, training in zip(resolved.series, trainings, strict=True)
    ]
    series = [one.inputs() for one in measured]
    if resolved.errors:
        return LaidOut(Graph(series))
    domains, runtime = list(study.domains), study.runtime
    monitors = judge_monitors(
        series=series,
        accuracy=accuracy(study),
        analysis=study.analysis,
        online=study.online,
        runtime=runtime,
    )
    warehouse = build_warehouse(
        study=describe(study),
        series=series,
        domains=domains,
        judged=[monitors, *judge_further(study, series, monitors)],
        left_out=[one.row() for one in resolved.left_out if one.settled],
        runtime=runtime,
    )
    report = write_report(warehouse=warehouse, runtime=runtime)
    tracking = export_tracking(
        study_name=study.name,
        warehouse=warehouse,
        report=report,
        destination=tracking_destination(),
        runtime=runtime,
    )
    return LaidOut(Graph(tracking), warehouse, report, tracking)


def measure_series(
    study: Study, one: ResolvedSeries, training: Training, pinned: Pinned
) -> MeasuredSeries:
    """Measure and score a series; what comes out is what `monitors` and `warehouse` read."""
    series, runtime = one.series, study.runtime
    label = Label(series.name)
    checkpoints = checkpoints_of(one, training)
    shared = shared_of(study, one, training, pinned)
    identity = identify(series, checkpoints, training)
    steps = identity.steps
    measured = [measure_checkpoint(study, checkpoint, shared) for checkpoint in checkpoints]
    routing = [found.routing for found in measured]
    scores = [found.scores for found in measured if found.scores is not None]
    domains = [domain.name for domain in study.domains]
    memorization = find_memorization(
        label=label,
        steps=steps,
        routing=routing,
        domains=domains,
        settings=study.memorization,
        sensitivity=study.sensitivity,
        runtime=runtime,
    )
    groups = measure_groups(
        label=label,
        steps=steps,
        routing=routing,
        memorization=memorization,
        settings=study.memorization,
        pathways=study.pathways,
        runtime=runtime,
    )
    drift = measure_drift(
        label=label, steps=steps, routing=routing, domains=domains, runtime=runtime
    )
    dynamics = measure_dynamics(label=label, steps=steps, routing=routing, runtime=runtime)
    contamination, generalization, pairing = generalize(
        study, shared, checkpoints, steps, memorization, scores
    )
    return MeasuredSeries(
        identity=identity,
        probes=shared.probes,
        instructions=list(shared.instructions.values()),
        loss_curve=training.loss_curve,
        routing=routing,
        pathways=[found.pathways for found in measured],
        measures=[found.measures for found in measured],
        scores=scores,
        tuned=[found.tuned for found in measured],
        ablation={
            str(rank): [found.ablation[rank] for found in measured]
            for rank in study.ablation.tuning_ranks
        },
        memorization=memorization,
        groups=groups,
        drift=drift,
        dynamics=dynamics,
        contamination=contamination,
        generalization=generalization,
        pairing=pairing,
    )


def generalize(
    study: Study,
    shared: Shared,
    checkpoints: Sequence[OneCheckpoint],
    steps: list[int],
    memorization: Node,
    scores: list[Node],
) -> tuple[Node | None, Node | None, Node | None]:
    """Contamination, generalization and pairing of a series; nothing where none was scored."""
    if not scores:
        return None, None, None
    label, runtime = shared.label, study.runtime
    contamination = find_contamination(
        label=label,
        last=checkpoints[-1],
        benchmarks=benchmarks(study),
        definitions=shared.pinned.definitions,
        items=shared.items,
        commits=shared.pinned.benchmark_data,
        evaluation=study.evaluation,
        contamination=study.contamination,
        runtime=runtime,
    )
    generalization = find_generalization(
        label=label,
        steps=steps,
        scores=scores,
        contamination=contamination,
        settings=study.generalization,
        runtime=runtime,
    )
    pairing = pair_groups_by_text(
        label=label,
        probes=shared.probes,
        memorization=memorization,
        generalization=generalization,
        contamination=contamination,
        accuracy=accuracy(study),
        pairing=study.pairing,
        runtime=runtime,
    )
    return contamination, generalization, pairing


def judge_further(study: Study, series: list[dict[str, Any]], monitors: Node) -> list[Node]:
    """What is requested beside the monitors: other settings, and the experiment of App. C.4."""
    further = []
    if study.sensitivity is not None:
        further.append(
            try_settings(
                series=series,
                monitors=monitors,
                accuracy=accuracy(study),
                pathways=study.pathways,
                analysis=study.analysis,
                sensitivity=study.sensitivity,
                tuning_ranks=tuning_ranks(study),
                runtime=study.runtime,
            )
        )
    if study.frozen_router is not None:
        further.append(run_frozen_routers(spec=study.frozen_router, runtime=study.runtime))
    return further
