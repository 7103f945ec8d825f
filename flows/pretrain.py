"""Pretrain the nano models of a study: the checkpoints of the embedded default.

The study flow opens every series first, so that all models train side by side; this flow does only
that and leaves the measuring to another day.
"""

from prefect import flow

from flows.parameters import Changes, StudyChoice, asked_study, run_name
from flows.runner import task_runner
from flows.series import open_series
from store.artifacts import Checkpoint
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
    with recording(spec):
        opened = [open_series(series, spec.runtime) for series in spec.series]
        return [one.found()[0] for one in opened]
