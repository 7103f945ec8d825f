"""Checkpoints whose weights are gone: they stay in a series as long as all was measured on them."""

import logging
from dataclasses import replace
from typing import Any

from flows.checkpoints import Pinned, Shared, measure_checkpoints, prepare_series
from flows.series import OpenSeries, finish
from store.artifacts import Checkpoint
from studies.base import NothingYet
from studies.spec import Study
from tasks.left_out import LeftOut
from tasks.local import is_gone
from tasks.plan import current_plan, planning

logger = logging.getLogger("prefect.grokpath")


def prepared(
    study: Study, opened: OpenSeries, pinned: Pinned
) -> tuple[list[Checkpoint], Shared, list[LeftOut]]:
    """The checkpoints of a series that can be had, what all are measured with, and the others.

    Raises
    ------
    NothingYet
        When none can be had.
    """
    checkpoints, left_out = opened.found()
    shared = prepare_series(study, opened, checkpoints, pinned)
    if opened.series.source.kind != "local":
        return checkpoints, shared, _told(left_out)
    gone = [checkpoint for checkpoint in checkpoints if is_gone(checkpoint)]
    lacking = _lacking(study, gone, shared) if gone else {}
    left_out += [
        LeftOut(
            opened.series.name,
            one.revision,
            one.step,
            "its folder was deleted, and what the study asks was never measured on it",
            f" ({', '.join(lacking[one.revision])}); put it back to have it measured",
        )
        for one in gone
        if one.revision in lacking
    ]
    had = [checkpoint for checkpoint in checkpoints if checkpoint.revision not in lacking]
    if not had:
        raise NothingYet(f"series {opened.series.name}: every checkpoint was deleted unmeasured")
    return had, shared, _told(left_out)


def _told(left_out: list[LeftOut]) -> list[LeftOut]:
    """Note for whoever looks: in a plan for the command, else in the run's log."""
    plan = current_plan()
    if plan is not None:
        plan.left_out += left_out
    else:
        for one in left_out:
            logger.warning("%s", one)
    return left_out


def _lacking(study: Study, gone: list[Checkpoint], shared: Shared) -> dict[str, list[str]]:
    """Steps that would have to be run, by checkpoint; found out by planning them alone."""
    finish([shared.probes, shared.instructions])
    made = replace(
        shared,
        probes=_made(shared.probes),
        instructions={name: _made(one) for name, one in shared.instructions.items()},
    )
    with planning() as plan:
        measure_checkpoints(study, gone, made)
    lacking: dict[str, list[str]] = {}
    for entry in plan.entries:
        if entry.checkpoint is not None and entry.artifact is None:
            lacking.setdefault(entry.checkpoint.revision, []).append(entry.step_name)
    return lacking


def _made(future: Any) -> Any:
    """The artifact; where a plan has none, what stands in for it."""
    return future.result() or future
