"""Pretrain the nano models of a study: the checkpoints of the embedded default.

The study flow opens every series first, so that all models train side by side; this flow does only
that and leaves the measuring to another day.
"""

from prefect import flow
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.series import NUM_DECIDING_THREADS, open_series
from store.artifacts import Checkpoint
from studies.load import load_study
from studies.spec import Study


def run_name() -> str:
    """Name of a flow run: the study's, or the file it is asked by."""
    asked = flow_run.parameters["study"]
    if isinstance(asked, str):
        return asked
    return str(asked["name"] if isinstance(asked, dict) else asked.name)


@flow(
    name="pretrain",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=NUM_DECIDING_THREADS),
)
def pretrain_flow(study: Study | str) -> list[list[Checkpoint]]:
    """Pretrain every nano series of a study or study file; what is trained already is reused."""
    spec = load_study(study) if isinstance(study, str) else study
    opened = [open_series(series, spec.runtime) for series in spec.series]
    return [one.checkpoints() for one in opened]
