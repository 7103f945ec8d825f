"""Pretrain the nano models of a study: the checkpoints of the embedded default.

The study flow does the same and measures the checkpoints; this one leaves that to another day.
"""

from prefect import flow

from flows.checkpoints import training_of
from flows.execution import executing
from flows.parameters import Changes, StudyChoice, asked_study, run_name
from flows.resolve import resolve_series
from flows.runner import task_runner
from store.artifacts import Checkpoint
from tasks.checkpoints import expected_checkpoints, nano_checkpoint
from tasks.graph import Graph
from tasks.uses import recording


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
        overlays: YAML files, or names of overlays that ship with grokpath, laid over the study.
        changes: Fields of the study to change for this run.
    """
    spec = asked_study(study, overlays, changes)
    with recording(spec), executing() as execution:
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
