"""What a task run shows on its page in Prefect: a progress bar, a line in the log, and a table.

A body that has been reporting progress for some seconds gets a progress artifact, which a thread of
its own updates, so that neither the body nor other reports ever wait for the server. The table, by
domain, is attached to the task run alone: on the page of a run with hundreds of tasks nobody would
find anything else. A server that does not answer costs the page only.
"""

import json
import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import SyncClientContext, TaskRunContext
from prefect.logging import get_run_logger

from tasks.listeners import Event, Kind, listening

SECONDS_BEFORE = 5.0
"""How long a body reports before it gets a bar: most are done by then."""
SECONDS_BETWEEN = 3.0
"""How often a bar is updated."""
SECONDS_TO_END = 10.0
"""How long the last update may take; the task run waits for it."""
MAX_ERROR = 300
"""Characters of an error beside a bar; the log has all of it."""

logger = logging.getLogger("prefect.grokpath")


@contextmanager
def on_its_page(label: str) -> Iterator[None]:
    """Show events of the run of a step on the page of its task run, if there is one."""
    context = TaskRunContext.get()
    if context is None:
        yield
        return
    bar = _Bar(label, context.task_run.id)

    def follow(event: Event) -> None:
        if event.label != label:
            return
        if event.kind is Kind.progress:
            bar.follow(event)
        elif event.kind is Kind.computed:
            get_run_logger().info("%s", in_words(event))
            if event.by_domain:
                _attach_table(context, event)

    error: BaseException | None = None
    with listening(follow):
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            bar.end(error)


def create_artifact(*, data: Any, **fields: Any) -> None:
    """Attach an artifact to a run, through the client that the run already has.

    Prefect's own `create_..._artifact` make a client for every call, which costs more than the
    call.
    """
    with SyncClientContext.get_or_create() as here:
        here.client.create_artifact(ArtifactCreate(data=data, **fields))


def in_words(event: Event) -> str:
    """A line for a step that was computed, with what its summary counts, and one per domain.

    Examples
    --------
    >>> math = {"math": {"samples": 512, "loss": 0.1234}}
    >>> event = Event("routing", "routing main step100", by_domain=math, seconds=3.1)
    >>> print(in_words(event))
    routing main step100: 512 samples, 1 domain, 3.1 s
        math: samples 512, loss 0.1234
    """
    counts = {
        name.removeprefix("num_").replace("_", " "): value
        for name, value in event.summary.items()
        if name.startswith("num_") and isinstance(value, int)
    }
    samples = [n["samples"] for n in event.by_domain.values() if "samples" in n]
    if samples:
        counts["samples"] = sum(samples)
    parts = [f"{number(value)} {name}" for name, value in counts.items()]
    if event.by_domain:
        parts.append(f"{len(event.by_domain)} domain{'s' * (len(event.by_domain) > 1)}")
    lines = [f"{event.label}: {', '.join([*parts, f'{event.seconds:.1f} s'])}"]
    for domain, numbers in event.by_domain.items():
        listed = ", ".join(f"{name} {number(value)}" for name, value in numbers.items())
        lines.append(f"    {domain}: {listed}")
    return "\n".join(lines)


def number(value: float | int | str | None) -> str:
    """A number for reading."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def _attach_table(context: TaskRunContext, event: Event) -> None:
    domains: Mapping[str, Mapping[str, Any]] = event.by_domain
    rows = [
        {"domain": domain, **{name: number(value) for name, value in numbers.items()}}
        for domain, numbers in domains.items()
    ]
    try:
        create_artifact(
            task_run_id=context.task_run.id,
            description=event.label,
            type="table",
            data=json.dumps(rows),
        )
    except Exception as error:  # the numbers are in the log and in the artifact's files
        get_run_logger().debug("no table on this page: %s", error)


class _Bar:
    """A progress artifact, once a body has been reporting for some seconds."""

    def __init__(self, label: str, task_run: UUID) -> None:
        # A thread begins without Prefect's settings; without the server's address among them,
        # asking for a client would start a server.
        self._settings = copy_context()
        self._label, self._task_run = label, task_run
        self._newest: Event | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._began = time.monotonic()

    def follow(self, event: Event) -> None:
        self._newest = event
        if self._thread is None:
            self._began = time.monotonic()
            thread = threading.Thread(target=self._settings.run, args=(self._run,), daemon=True)
            thread.start()
            self._thread = thread  # not before: the task's thread joins whatever stands here

    def end(self, error: BaseException | None) -> None:
        self._error = error
        self._over.set()
        if self._thread is not None:
            self._thread.join(SECONDS_TO_END)

    def _run(self) -> None:
        if self._over.wait(SECONDS_BEFORE):
            return
        try:
            self._show(get_client(sync_client=True))
        except Exception as error:
            logger.debug("no progress bar for %s: %s", self._label, error)

    def _show(self, client: SyncPrefectClient) -> None:
        shown = percent, words = self._state()
        created = ArtifactCreate(
            type="progress", description=words, data=percent, task_run_id=self._task_run
        )
        bar = client.create_artifact(created).id
        over = False
        while not over:
            over = self._over.wait(SECONDS_BETWEEN)
            if self._state() != shown:
                shown = percent, words = self._state()
                client.update_artifact(bar, ArtifactUpdate(data=percent, description=words))

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
        what = f"{type(self._error).__name__}: {self._error}"[:MAX_ERROR]
        return percent, f"failed after {seconds:.0f} s at {at}: {what}"
