"""Watch a training run: the same study, again, whenever there is something it has not measured.

Nothing is remembered between two watches but what a study has anyway: a watch plans the study
(:mod:`tasks.plan`) and ends at once when every artifact is there and delivered. So a watch that was
killed, a checkpoint that is new, a study file that changed and an artifact that was damaged are all
the same case: something is missing, and it is computed.
"""

from prefect import State, flow
from prefect.states import Completed

from flows.run import Changes, StudyChoice, requested_study, run_name, run_study
from flows.runner import task_runner
from flows.study import plan_study
from studies.base import NothingYet
from studies.spec import Study
from tasks.events import announce
from tasks.plan import Plan
from tasks.publish import is_delivered

NOTHING_NEW = "nothing new"
MIN_CHECKPOINTS = 2
"""A series that is just one checkpoint has no course that could be judged."""


@flow(
    name="watch",
    flow_run_name=run_name,
    task_runner=task_runner(),
)
def watch_flow(
    study: StudyChoice = "nano",
    overlays: tuple[str, ...] = (),
    changes: Changes = {},  # noqa: B006 (the form's default; never changed)
) -> State:
    """Bring a study up to date with the checkpoints that are there by now; end at once if it is.

    Args:
        study: Name of a study that ships with grokpath, or the path of a study file on the
            worker's machine, whose source of checkpoints a training run adds to.
        overlays: YAML files, or names of overlays that ship with grokpath (pilot, tiny, all),
            applied to the study one after the other.
        changes: Fields of the study to change for this run, such as
            {"pathways": {"threshold": 0.6}}.
    """
    spec = requested_study(study, overlays, changes)
    try:
        news = has_news(spec)
    except NothingYet as nothing:
        return Completed(name="NothingYet", message=str(nothing))
    if not news:
        announce(spec)  # what a killed watch had no time for
        return Completed(name="NothingNew", message=f"{spec.name}: {NOTHING_NEW}")
    try:
        paths = run_study(spec, min_checkpoints=MIN_CHECKPOINTS)
    except NothingYet as nothing:  # of one series; the others are measured
        return Completed(name="NothingYet", message=str(nothing))
    return Completed(message=f"{spec.name}: up to date", data=paths)


def has_news(spec: Study) -> bool:
    """Whether something of the study is missing, or computed but not delivered.

    Raises
    ------
    NothingYet
        When a series has fewer checkpoints than can be judged.
    """
    return news_of(spec, plan_study(spec, min_checkpoints=MIN_CHECKPOINTS))


def news_of(spec: Study, plan: Plan) -> bool:
    """The same, for a given plan."""
    if any(entry.artifact is None for entry in plan.entries):
        return True
    if plan.unresolved is not None:
        raise plan.unresolved
    found = {entry.step_name: entry.artifact for entry in plan.entries}
    return not is_delivered(spec, found)
