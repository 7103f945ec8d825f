"""The Prefect flows: a study, its pretraining alone, and the experiment with frozen routers.

Flows share their parameters: a study as a form of its own would have some two hundred fields; a
name and a few changes are what a person types. Prefect takes the descriptions from the flows'
docstrings, in Google's format only.
"""

import logging
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field, WithJsonSchema

from flows.checkpoints import training_of
from flows.execution import Execution, StepsFailed, executing
from flows.resolve import resolve_series
from flows.run_page import showing
from flows.runner import task_runner
from flows.stopping import ending_bodies
from flows.study import LaidOut, prepare
from store.artifacts import Checkpoint
from store.locks import run_in_progress
from studies.frozen_router import FrozenRouterSpec
from studies.load import load_study
from studies.settings import Runtime
from studies.spec import Study
from tasks.checkpoints import expected_checkpoints, nano_checkpoint
from tasks.events import announce
from tasks.frozen_router import run_frozen_routers
from tasks.graph import Graph
from tasks.publish import check_tracking, deliver

logger = logging.getLogger("prefect.grokpath")

StudyChoice = Annotated[Study | str, WithJsonSchema({"type": "string"})]
"""A study's name or file; code may pass the study itself."""

Changes = dict[str, Any]
"""Fields of a study, nested as in its file, that differ for this run."""

DEFAULTS = FrozenRouterSpec()


def requested_study(study: Study | str, overlays: tuple[str, ...], changes: Changes) -> Study:
    """The study that a flow's parameters request.

    Raises
    ------
    studies.load.StudyError
        With one message that names the file, the field, what was found and what is allowed.
    """
    if isinstance(study, Study):
        if overlays or changes:
            raise ValueError("overlays and changes override a study file; give its name")
        return study
    return load_study(study, overlays, changes)


def run_name() -> str:
    """Name of a flow run: the study's, or that of its file, without the folder."""
    requested = flow_run.parameters["study"]
    if isinstance(requested, str):
        return Path(requested).stem if requested.endswith((".yaml", ".yml")) else requested
    return str(requested["name"] if isinstance(requested, dict) else requested.name)


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
        overlays: YAML files, or names of overlays that ship with grokpath (pilot, tiny, all),
            applied to the study one after the other.
        changes: Fields of the study to change for this run, such as
            {"pathways": {"threshold": 0.6}}.
    """
    return run_study(requested_study(study, overlays, changes))


def run_study(spec: Study, *, min_checkpoints: int = 1) -> dict[str, str]:
    """Everything that a study requests, inside a flow run; returns where the results are.

    A finished report is delivered although its export to MLflow fails.

    Raises
    ------
    ValueError
        When steps failed, or a series could not be resolved, after everything that does not depend
        on them; :class:`NothingYet` where a series only has too few checkpoints yet.
    """
    check_tracking()
    with (
        ending_bodies(),
        run_in_progress(),
        executing() as execution,
        showing(spec, execution) as shown,
    ):
        resolved, laid = prepare(spec, execution, min_checkpoints)
        shown.append(laid)
        for line in (*resolved.left_out, *resolved.reasons()):
            logger.warning("%s", line)
        execution.submit(laid.graph)
        try:
            execution.finish()
        except StepsFailed as error:
            if laid.report is None or not execution.has_artifact(laid.report):
                raise
            report = _deliver(spec, laid, execution)["report"]
            raise error.although(f"the report and the warehouse are finished: {report}") from None
        if unresolved := resolved.error():
            raise unresolved
        paths = _deliver(spec, laid, execution)
        announce(spec)
    return paths


def _deliver(spec: Study, laid: LaidOut, execution: Execution) -> dict[str, str]:
    assert laid.warehouse is not None
    assert laid.report is not None
    found = {"warehouse": laid.warehouse, "report": laid.report}
    return deliver(spec, {name: execution.artifact(node) for name, node in found.items()})


@flow(
    name="pretrain",
    flow_run_name=run_name,
    task_runner=task_runner(),
)
def pretrain_flow(
    study: StudyChoice = "nano",
    overlays: tuple[str, ...] = (),
    changes: Changes = {},  # noqa: B006 (the form's default; never changed)
) -> list[list[Checkpoint]]:
    """Pretrain every nano series of a study; what is trained already is reused.

    Args:
        study: Name of a study that ships with grokpath (nano, smoke, nano_variants, ...) or the
            path of a study file on the worker's machine.
        overlays: YAML files, or names of overlays that ship with grokpath, applied to the study.
        changes: Fields of the study to change for this run.
    """
    spec = requested_study(study, overlays, changes)
    with run_in_progress(), executing() as execution:
        resolved = [resolve_series(series, spec.runtime, execution)[0] for series in spec.series]
        trainings = [training_of(spec, one.series) for one in resolved]
        execution.submit(Graph([[one.items, one.loss_curve] for one in trainings]))
        execution.finish()
        return [
            list(one.checkpoints)
            if training.pretraining is None
            else [
                nano_checkpoint(execution.artifact(training.pretraining), expected.model_dump())
                for expected in expected_checkpoints(one.series)
            ]
            for one, training in zip(resolved, trainings, strict=True)
        ]


@flow(name="frozen-router", task_runner=task_runner())
def frozen_router_flow(
    num_routers: Annotated[int, Field(ge=4)] = DEFAULTS.num_routers,
    num_experts: Annotated[int, Field(ge=2)] = DEFAULTS.num_experts,
    num_dimensions: Annotated[int, Field(ge=2)] = DEFAULTS.num_dimensions,
    num_samples: Annotated[int, Field(ge=8)] = DEFAULTS.num_samples,
    expert_width: Annotated[int, Field(ge=1)] = DEFAULTS.expert_width,
    router_scale: Annotated[float, Field(gt=0.0)] = DEFAULTS.router_scale,
    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = DEFAULTS.threshold,
    num_steps: Annotated[int, Field(ge=1)] = DEFAULTS.num_steps,
    ridge: Annotated[float, Field(gt=0.0)] = DEFAULTS.ridge,
    seed: Annotated[int, Field(ge=0, lt=2**32)] = DEFAULTS.seed,
) -> dict[str, Any]:
    """Run the experiment, or find it done; returns where it is and what came out.

    Args:
        num_routers: Random routers per variant, at least 4; ten seconds for 60.
        num_experts: Experts behind each router.
        num_dimensions: Dimensions of an input.
        num_samples: Samples, training and validation together.
        expert_width: Hidden ReLU units of an expert.
        router_scale: Largest standard deviation of the router logits.
        threshold: Cumulative routing weight that a pathway covers, above 0 and at most 1.
        num_steps: Full-batch training steps.
        ridge: lambda of the effective dimension.
        seed: Seed of the data; router r has this + 1 + r.
    """
    spec = FrozenRouterSpec(
        num_routers=num_routers,
        num_experts=num_experts,
        num_dimensions=num_dimensions,
        num_samples=num_samples,
        expert_width=expert_width,
        router_scale=router_scale,
        threshold=threshold,
        num_steps=num_steps,
        ridge=ridge,
        seed=seed,
    )
    with run_in_progress(), executing() as execution:
        (artifact,) = execution.artifacts_of([run_frozen_routers(spec=spec, runtime=Runtime())])
    assert artifact is not None
    return {"path": str(artifact.path), **artifact.summary}
