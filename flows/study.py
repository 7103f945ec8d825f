"""The main path: a study from its checkpoints to the report.

    checkpoints --> routing + losses --> memorization, pathways, measures --\\
        |                                     (pairing)                       >-- monitors
        \\--> (tuning) --> scores --> contamination, generalization --------/       |
                                                        warehouse --> report, tracking

Every call of `submit` is one Prefect task that reads artifacts and writes one; what is passed on
are references. Whatever was made before, by any run, is reused (:mod:`tasks.step`).
"""

from typing import Any

from prefect import flow

from flows.asked import accuracy, benchmarks, tuning_ranks
from flows.checkpoints import (
    Pinned,
    Shared,
    measure_checkpoints,
    pin,
    release,
)
from flows.failures import StepsFailed
from flows.kept import prepared
from flows.parameters import Changes, StudyChoice, asked_study, run_name
from flows.runner import task_runner
from flows.series import OpenSeries, finish, open_series
from flows.stopping import ending_bodies
from store.artifacts import Checkpoint
from store.identity import Label
from studies.spec import Series, Study
from tasks.analysis import find_generalization, find_memorization, judge_monitors
from tasks.contamination import find_contamination
from tasks.dynamics import measure_drift, measure_dynamics
from tasks.events import tell_events
from tasks.frozen_router import run_frozen_routers
from tasks.pairing import pair_groups_by_text
from tasks.pathways import measure_groups
from tasks.plan import Plan, planning
from tasks.publish import (
    build_warehouse,
    check_tracking,
    deliver,
    describe,
    export_tracking,
    tracking_destination,
)
from tasks.report import write_report
from tasks.sensitivity import try_settings
from tasks.shown import showing
from tasks.uses import recording


@flow(
    name="study",
    flow_run_name=run_name,
    task_runner=task_runner(),
)
def study_flow(
    study: StudyChoice = "nano",
    overlays: tuple[str, ...] = (),
    changes: Changes = {},  # noqa: B006 (the form's default; never changed)
) -> dict[str, str]:
    """Run a study to its report, reusing whatever is there; returns where the results are.

    Args:
        study: Name of a study that ships with grokpath (nano, smoke, olmoe_1b_7b, ...) or the path
            of a study file on the worker's machine.
        overlays: YAML files, or names of overlays that ship with grokpath (pilot, tiny), laid over
            the study one after the other.
        changes: Fields of the study to change for this run, such as
            {"pathways": {"threshold": 0.6}}.
    """
    return run_study(asked_study(study, overlays, changes))


def run_study(spec: Study) -> dict[str, str]:
    """Everything a study asks, inside a flow run; returns where the results are.

    A finished report is delivered although its export to MLflow fails.
    """
    check_tracking()
    with ending_bodies(), recording(spec) as delivered, showing(spec):
        made = lay_out(spec)
        try:
            finish(made)
        except StepsFailed as error:
            if not made["report"].state.is_completed():
                raise
            report = _deliver(spec, made)["report"]
            raise error.although(f"the report and the warehouse are finished: {report}") from None
        paths = _deliver(spec, made)
        delivered()
        tell_events(spec)
    return paths


def _deliver(spec: Study, made: dict[str, Any]) -> dict[str, str]:
    return deliver(spec, {name: made[name].result() for name in ("warehouse", "report")})


def plan_study(study: Study) -> Plan:
    """What the study would do and what it would reuse; nothing runs."""
    with planning() as plan:
        lay_out(study)
    return plan


def lay_out(study: Study) -> dict[str, Any]:
    """The whole study, submitted; futures by name."""
    pinned = pin(study)
    opened = [open_series(series, study.runtime) for series in study.series]
    measured = [measure_series(study, one, pinned) for one in opened]
    left_out = [row for one in measured for row in one.pop("left_out")]
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
        study=describe(study),
        series=measured,
        domains=domains,
        judged=judged,
        left_out=left_out,
        runtime=runtime,
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


def measure_series(study: Study, opened: OpenSeries, pinned: Pinned) -> dict[str, Any]:
    """Measure and score a series; what comes out is what `monitors` and `warehouse` read."""
    series, runtime = opened.series, study.runtime
    label = Label(series.name)
    checkpoints, shared, left_out = prepared(study, opened, pinned)
    steps = [checkpoint.step for checkpoint in checkpoints]
    measured = measure_checkpoints(study, checkpoints, shared)
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
    dynamics = measure_dynamics.submit(label=label, steps=steps, routing=routing, runtime=runtime)
    generalized = generalize(study, shared, checkpoints, memorization, scores)
    release(checkpoints[-1], [*measured[-1]["readers"], generalized["contamination"]])
    return {
        **identify(series, checkpoints),
        "probes": shared.probes,
        "instructions": list(shared.instructions.values()),
        "loss_curve": opened.loss_curve,
        "routing": routing,
        "pathways": [one["pathways"] for one in measured],
        "measures": [one["measures"] for one in measured],
        "scores": scores,
        "tuned": [one["tuned"] for one in measured],
        "ablation": {
            str(rank): [one["ablation"][rank] for one in measured]
            for rank in study.ablation.tuning_ranks
        },
        "left_out": [one.row() for one in left_out if one.settled],
        "memorization": memorization,
        "groups": groups,
        "drift": drift,
        "dynamics": dynamics,
        **generalized,
    }


def generalize(
    study: Study,
    shared: Shared,
    checkpoints: list[Checkpoint],
    memorization: Any,
    scores: list[Any],
) -> dict[str, Any]:
    """What the benchmarks' documents tell of a series; nothing where none was scored."""
    if not scores:
        return {"contamination": None, "generalization": None, "pairing": None}
    label, runtime = shared.label, study.runtime
    contamination = find_contamination.submit(
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
        probes=shared.probes,
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
                tuning_ranks=tuning_ranks(study),
                runtime=study.runtime,
            )
        )
    if study.frozen_router is not None:
        further.append(run_frozen_routers.submit(spec=study.frozen_router, runtime=study.runtime))
    return further


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
        "repositories": [checkpoint.repository for checkpoint in checkpoints],
    }
