"""What is different inside a worker of a Dask cluster.

A Dask worker under its nanny is a daemonic process, which may have no child processes, so a body
runs in the worker itself: one at a time, with one compute thread, as in a worker process of our own
(:mod:`tasks.workers`); therefore the numbers are the same. Results go through the artifact root,
which must be the same folder, under the same path, for all workers and the flow.
"""

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING
from uuid import UUID

from tasks.listeners import Event, listen

if TYPE_CHECKING:
    from distributed import Worker


def topic(flow_run_id: UUID) -> str:
    """Under which name a cluster passes on the progress of a flow run."""
    return f"grokpath-{flow_run_id}"


def worker() -> "Worker | None":
    """The Dask worker that runs the calling task, or None outside of a cluster."""
    distributed = sys.modules.get("distributed")
    if distributed is None:  # a Dask worker has it
        return None
    try:
        found: Worker = distributed.get_worker()
    except ValueError:
        return None
    return found


def enter(root: str) -> None:
    """Make this Dask worker work on a root, for the task that it is about to run.

    Raises
    ------
    ValueError
        When it runs more than one task at once, or the root is not there.
    """
    here = worker()
    if here is None:
        return
    if here.state.nthreads != 1:
        raise ValueError(
            f"the Dask worker {here.address} runs {here.state.nthreads} tasks at once; bodies need "
            "a process for each: start workers with --nthreads 1, and more of them"
        )
    if not os.path.isdir(root):  # noqa: PTH112 (the text is what travelled)
        raise ValueError(
            f"the Dask worker {here.address} does not see {root}; the artifact root must be on a "
            "file system that the flow and all workers share, under the same path"
        )
    os.environ["GROKPATH_ROOT"] = root
    listen(forward)


def forward(event: Event) -> None:
    """Send an event to the process of the flow whose task this is."""
    from prefect.context import TaskRunContext

    here, context = worker(), TaskRunContext.get()
    if here is not None and context is not None and context.task_run.flow_run_id is not None:
        here.log_event(topic(context.task_run.flow_run_id), {"event": asdict(event)})
