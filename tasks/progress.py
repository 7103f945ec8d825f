"""Progress bars on Prefect's pages, for bodies that take long.

A body reports how far it is (:func:`tasks.workers.report`). Once it has been reporting for some
seconds, the task run gets a progress artifact, which is brought up to date now and then from a
thread of its own, so that neither the body nor other reports ever wait for the server. It ends at
100, or says where and why the body failed. A server that does not answer costs the bar only.
"""

import logging
import math
import threading
import time
from contextvars import copy_context
from types import TracebackType
from typing import Self
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import TaskRunContext

from tasks.workers import Progress, unwatch, watch

SECONDS_BEFORE = 5.0
"""How long a body reports before it gets a bar: most are done by then."""
SECONDS_BETWEEN = 3.0
"""How often a bar is brought up to date."""
SECONDS_TO_END = 10.0
"""How long the last word may take; the task run waits for it."""
MAX_ERROR = 300
"""Characters of an error beside a bar; the log has all of it."""

logger = logging.getLogger("prefect.grokpath")


class Bar:
    """Shows the progress of one body on the page of its task run; a context manager.

    Outside of a task run it does nothing.
    """

    def __init__(self, label: str) -> None:
        context = TaskRunContext.get()
        self._task_run: UUID | None = None if context is None else context.task_run.id
        # A thread begins without Prefect's settings; without the server's address among them,
        # asking for a client would start a server.
        self._settings = copy_context()
        self._label = label
        self._newest: Progress | None = None
        self._over = threading.Event()
        self._teller: threading.Thread | None = None
        self._error: BaseException | None = None
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        if self._task_run is not None:
            watch(self._follow)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task_run is None:
            return
        unwatch(self._follow)
        self._error = error
        self._over.set()
        if self._teller is not None:
            self._teller.join(SECONDS_TO_END)

    def _follow(self, report: Progress) -> None:
        if report.label != self._label or report.finished:
            return
        self._newest = report
        if self._teller is None:
            self._began = time.monotonic()
            teller = threading.Thread(target=self._settings.run, args=(self._tell,), daemon=True)
            teller.start()
            self._teller = teller  # not before: the task's thread joins whatever stands here

    def _tell(self) -> None:
        if self._over.wait(SECONDS_BEFORE):
            return
        try:
            self._show(get_client(sync_client=True))
        except Exception as error:
            logger.debug("no progress bar for %s: %s", self._label, error)

    def _show(self, client: SyncPrefectClient) -> None:
        percent, words = self._state()
        created = ArtifactCreate(
            type="progress", description=words, data=percent, task_run_id=self._task_run
        )
        bar = client.create_artifact(created).id
        shown = (percent, words)
        while not self._over.wait(SECONDS_BETWEEN):
            if self._state() != shown:
                shown = self._update(client, bar)
        self._update(client, bar)

    def _update(self, client: SyncPrefectClient, bar: UUID) -> tuple[float, str]:
        percent, words = self._state()
        client.update_artifact(bar, ArtifactUpdate(data=percent, description=words))
        return percent, words

    def _state(self) -> tuple[float, str]:
        """Percent, rounded down, and the words beside it."""
        newest = self._newest
        assert newest is not None
        percent = min(99.0, float(math.floor(100 * newest.done / max(1, newest.total))))
        at = f"{self._label}: {newest.done} of {newest.total} {newest.message}".rstrip()
        if not self._over.is_set():
            return percent, at
        seconds = time.monotonic() - self._began
        if self._error is None:
            return 100.0, f"{self._label}: done after {seconds:.0f} s"
        told = f"{type(self._error).__name__}: {self._error}"[:MAX_ERROR]
        return percent, f"failed after {seconds:.0f} s at {at}: {told}"
