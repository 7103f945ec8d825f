"""Stop within seconds on Ctrl-C, SIGTERM or SIGHUP, and lose nothing.

Every artifact is complete or not there, so ending at once is safe. :func:`stoppable` is for the
command line, which owns its process; :func:`ending_bodies` for a flow that a Prefect worker runs,
where Prefect turns SIGTERM (cancelled, or the machine is shut down) into an exception.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from types import FrameType
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled

from tasks import workers

GRACE_SECONDS = 5.0
"""So long the Prefect server may take to note that the run was cancelled."""


@contextmanager
def stoppable(say: Callable[[], None]) -> Iterator[None]:
    """End the process with exit code 128 + signal on the first signal.

    Unwinding instead would not end at all: Prefect's task runner waits for threads that wait for
    tasks it has cancelled. So the workers are killed and Prefect is notified that the run was
    cancelled.
    """

    def stop(signal_number: int, _: FrameType | None) -> None:
        say()
        workers.abandon()
        context = FlowRunContext.get()
        if context is not None and context.flow_run is not None:
            # in this context, because Prefect's settings, the server's address too, live in it
            cancel = partial(copy_context().run, _cancelled, context.flow_run.id)
            note = threading.Thread(target=cancel, daemon=True)
            note.start()
            note.join(GRACE_SECONDS)
        os._exit(128 + signal_number)

    # The tracker of the workers' semaphores removes them and would also report them as leaked.
    sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ending_bodies() -> Iterator[None]:
    """When Prefect ends the run from outside, kill the bodies first and start no others.

    Prefect waits for its tasks before it notes how the run ended, and a body may take hours. Where
    it still waits when the time is up, the process ends: the Prefect worker sees that, and says so.
    """
    try:
        yield
    except TerminationSignal:
        workers.abandon()
        last_resort = threading.Timer(GRACE_SECONDS, os._exit, (128 + signal.SIGTERM,))
        last_resort.daemon = True
        last_resort.start()
        raise


def _cancelled(flow_run_id: UUID) -> None:
    with suppress(Exception), get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id, Cancelled(message="stopped by a signal"), force=True)
