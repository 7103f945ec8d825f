"""The main path: a study from its checkpoints to the report.

    checkpoints --> routing + losses --> memorization, pathways, measures --\\
        |                                     (pairing)                       >-- monitors
        \\--> benchmark scores --> contamination, generalization ------------/       |
                                                        warehouse --> report, tracking

Every call of `submit` is one Prefect task that reads artifacts and writes one; what is passed on
are references. Whatever was made before, by any run, is reused (:mod:`tasks.step`).
"""

from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows.pretrain import NUM_DECIDING_THREADS, OpenSeries, finish, open_series, run_name
from store.artifacts import Checkpoint
from store.identity import Label
from studies.load import load_study
from studies.spec import Benchmark, Series, Study
from tasks.analysis import find_generalization, find_memorization, judge_monitors
from tasks.benchmarks import score_benchmarks
from tasks.contamination import find_contamination
from tasks.dynamics import measure_drift, measure_dynamics
from tasks.frozen_router import run_frozen_routers
from tasks.measures import measure_routing
from tasks.pairing import pair_groups_by_text
from tasks.pathways import measure_groups, measure_pathways
from tasks.plan import Plan, planning
from tasks.probes import collect_probes
from tasks.publish import (
    build_warehouse,
    deliver,
    describe,
    export_tracking,
    tracking_destination,
)
from tasks.report import write_report
from tasks.routing import extract_routing
from tasks.sensitivity import try_settings


@flow(
    name="study",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=NUM_DECIDING_THREADS),
)
def study_flow(study: Study | str) -> dict[str, str]:
    """Run a study, or a study file, to its report; returns where the results are."""
    spec = load_study(study) if isinstance(study, str) else study
    made = lay_out(spec)
    finish(made)
    return deliver(spec, {name: made[name].result() for name in ("warehouse", "report")})


def plan_study(study: Study) -> Plan:
    """What the study would do and what it would reuse; nothing runs."""
    with planning() as plan:
        lay_out(study)
    return plan


def lay_out(study: Study) -> dict[str, Any]:
    """The whole study, submitted; futures by name."""
    opened = [open_series(series, study.runtime) for series in study.series]
    measured = [measure_series(study, one) for one in opened]
    domains, runtime = list(study.domains), study.runtime
    monitors = judge_monitors.submit(
        series=measured,
        accuracy=accuracy(study),
        analysis=study.analysis,
        online=study.online,
        runtime=runtime,
    )
    judged = [monitors, *judge_further(study, measured, monitors)]
    warehouse = build_warehouse.submit(
        study=describe(study), series=measured, domains=domains, judged=judged, runtime=runtime
    )
    report = write_report.submit(warehouse=warehouse, runtime=runtime)
    tracking = export_tracking.submit(
        study_name=study.name,
        warehouse=warehouse,
        report=report,
        destination=tracking_destination(),
        runtime=runtime,
    )
    return {
        "opened": [one.futures() for one in opened],
        "series": measured,
        "judged": judged,
        "warehouse": warehouse,
        "report": report,
        "tracking": tracking,
    }


def measure_series(study: Study, opened: OpenSeries) -> dict[str, Any]:
    """Measure and score a series; what comes out is what `monitors` and `warehouse` read."""
    series, runtime = opened.series, study.runtime
    label = Label(series.name)
    checkpoints = opened.checkpoints()
    steps = [checkpoint.step for checkpoint in checkpoints]
    probes = collect_probes.submit(
        label=label,
        samples=samples_of(study, series),
        max_length=study.routing.max_length,
        corpus=opened.corpus,
        shuffle_answers=series.source.kind == "nano" and series.source.shuffle_answers,
        tokenizer=None if series.source.kind == "nano" else checkpoints[0],
        runtime=runtime,
    )
    measured = [measure_checkpoint(study, opened, probes, checkpoint) for checkpoint in checkpoints]
    routing = [one["routing"] for one in measured]
    scores = [one["scores"] for one in measured if one["scores"] is not None]
    domains = [domain.name for domain in study.domains]
    memorization = find_memorization.submit(
        label=label,
        steps=steps,
        routing=routing,
        domains=domains,
        settings=study.memorization,
        sensitivity=study.sensitivity,
        runtime=runtime,
    )
    groups = measure_groups.submit(
        label=label,
        steps=steps,
        routing=routing,
        memorization=memorization,
        settings=study.memorization,
        pathways=study.pathways,
        runtime=runtime,
    )
    drift = measure_drift.submit(
        label=label, steps=steps, routing=routing, domains=domains, runtime=runtime
    )
    dynamics = measure_dynamics.submit(label=label, checkpoints=checkpoints, runtime=runtime)
    return {
        **identify(series, checkpoints),
        "probes": probes,
        "loss_curve": opened.loss_curve,
        "routing": routing,
        "pathways": [one["pathways"] for one in measured],
        "measures": [one["measures"] for one in measured],
        "scores": scores,
        "memorization": memorization,
        "groups": groups,
        "drift": drift,
        "dynamics": dynamics,
        **generalize(study, opened, checkpoints, probes, memorization, scores),
    }


def generalize(
    study: Study,
    opened: OpenSeries,
    checkpoints: list[Checkpoint],
    probes: Any,
    memorization: Any,
    scores: list[Any],
) -> dict[str, Any]:
    """What the benchmarks' documents tell of a series; nothing where none was scored."""
    if not scores:
        return {"contamination": None, "generalization": None, "pairing": None}
    label, runtime = Label(opened.series.name), study.runtime
    contamination = find_contamination.submit(
        label=label,
        last=checkpoints[-1],
        benchmarks=benchmarks(study),
        items=opened.items,
        evaluation=study.evaluation,
        contamination=study.contamination,
        runtime=runtime,
    )
    generalization = find_generalization.submit(
        label=label,
        steps=[checkpoint.step for checkpoint in checkpoints],
        scores=scores,
        contamination=contamination,
        settings=study.generalization,
        runtime=runtime,
    )
    pairing = pair_groups_by_text.submit(
        label=label,
        probes=probes,
        memorization=memorization,
        generalization=generalization,
        contamination=contamination,
        accuracy=accuracy(study),
        pairing=study.pairing,
        runtime=runtime,
    )
    return {
        "contamination": contamination,
        "generalization": generalization,
        "pairing": pairing,
    }


def judge_further(study: Study, measured: list[dict[str, Any]], monitors: Any) -> list[Any]:
    """What is asked beside the monitors: other settings, and the experiment of App. C.4."""
    further = []
    if study.sensitivity is not None:
        further.append(
            try_settings.submit(
                series=measured,
                monitors=monitors,
                accuracy=accuracy(study),
                pathways=study.pathways,
                analysis=study.analysis,
                sensitivity=study.sensitivity,
                runtime=study.runtime,
            )
        )
    if study.frozen_router is not None:
        further.append(run_frozen_routers.submit(spec=study.frozen_router, runtime=study.runtime))
    return further


def measure_checkpoint(
    study: Study, opened: OpenSeries, probes: Any, checkpoint: Checkpoint
) -> dict[str, Any]:
    """Route the probe samples through one checkpoint, measure the pathways, run the benchmarks."""
    runtime = study.runtime
    routing = extract_routing.submit(
        checkpoint=checkpoint, probes=probes, routing=study.routing, runtime=runtime
    )
    pathways = measure_pathways.submit(
        checkpoint=checkpoint,
        routing=routing,
        probes=probes,
        domains=[domain.name for domain in study.domains],
        pathways=study.pathways,
        bound=study.bound,
        runtime=runtime,
    )
    measures = measure_routing.submit(
        checkpoint=checkpoint,
        routing=routing,
        probes=probes,
        domains=[domain.name for domain in study.domains],
        pathways=study.pathways,
        bound=study.bound,
        sensitivity=study.sensitivity,
        runtime=runtime,
    )
    scores = None
    if any(domain.benchmarks for domain in study.domains):
        scores = score_benchmarks.submit(
            checkpoint=checkpoint,
            benchmarks=benchmarks(study),
            items=opened.items,
            evaluation=study.evaluation,
            runtime=runtime,
        )
    return {"routing": routing, "pathways": pathways, "measures": measures, "scores": scores}


def identify(series: Series, checkpoints: list[Checkpoint]) -> dict[str, Any]:
    """What a series is called and which checkpoints it has."""
    return {
        "name": series.name,
        "role": series.role,
        "title": series.title,
        "variant": series.variant,
        "control_for": series.control_for,
        "source_kind": series.source.kind,
        "steps": [checkpoint.step for checkpoint in checkpoints],
        "tokens_seen": [checkpoint.tokens_seen for checkpoint in checkpoints],
        "revisions": [checkpoint.revision for checkpoint in checkpoints],
        "digests": [checkpoint.digest for checkpoint in checkpoints],
    }


def samples_of(study: Study, series: Series) -> dict[str, dict[str, Any]]:
    """Sources of the samples by domain and split, the series' own where it has its own."""
    samples = {}
    for domain in study.domains:
        samples[domain.name] = {"probe": series.probes.get(domain.name, domain.probes)}
        if domain.validation is not None:
            samples[domain.name]["validation"] = domain.validation
    return samples


def benchmarks(study: Study) -> dict[str, list[Benchmark]]:
    """Benchmarks by domain."""
    return {domain.name: list(domain.benchmarks) for domain in study.domains}


def accuracy(study: Study) -> dict[str, str | None]:
    """Name of the benchmark that is read as accuracy, by domain."""
    return {
        domain.name: domain.benchmarks[0].name if domain.benchmarks else None
        for domain in study.domains
    }
