"""What a person sees while a study runs: bars on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from tasks.listeners import Event, listening
from tasks.plan import Plan

SECONDS_BEFORE_A_BAR = 3.0
"""How long a body runs before it gets a bar of its own."""
SECONDS_BETWEEN_LINES = 30.0
"""How often a long body reports where it is when output is not a terminal."""


def display_for(plan: Plan, console: Console) -> AbstractContextManager[None]:
    """Show what is computed meanwhile: bars on a terminal, lines elsewhere."""
    return bars(plan, console) if console.is_terminal else lines(plan, console)


@contextmanager
def bars(plan: Plan, console: Console) -> Iterator[None]:
    """One bar per kind of step that has something to do, one more for each long body."""
    progress = Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("{task.fields[message]}"),
        console=console,
    )
    with listening(_Bars(plan, progress).follow), progress:
        yield


@contextmanager
def lines(
    plan: Plan, console: Console, seconds_between: float = SECONDS_BETWEEN_LINES
) -> Iterator[None]:
    """A line when the last run of a kind of step is done, from long bodies, and every 30 s."""
    shown, over = _Lines(plan, console, seconds_between), threading.Event()

    def repeat() -> None:
        while not over.wait(min(1.0, seconds_between)):
            shown.break_silence()

    threading.Thread(target=repeat, daemon=True).start()
    try:
        with listening(shown.follow):
            yield
    finally:
        over.set()


class _Bars:
    def __init__(self, plan: Plan, progress: Progress) -> None:
        self._progress, self._done = progress, _Done(plan)
        self._steps = {
            name: progress.add_task(name, total=total, message="")
            for name, total in self._done.totals.items()
        }
        self._bodies: dict[str, TaskID] = {}
        self._since: dict[str, float] = {}

    def follow(self, event: Event) -> None:
        if event.is_last:
            self._since.pop(event.label, None)
            body = self._bodies.pop(event.label, None)
            if body is not None:
                self._progress.remove_task(body)
            if event.step_name in self._steps:
                num_done = self._done.count(event)
                self._progress.update(self._steps[event.step_name], completed=num_done)
        elif event.message and self._is_long(event):
            if event.label not in self._bodies:
                self._bodies[event.label] = self._progress.add_task(
                    f"  {event.label}", total=event.total, message=""
                )
            self._progress.update(
                self._bodies[event.label], completed=event.done, message=event.message
            )

    def _is_long(self, event: Event) -> bool:
        now = time.monotonic()
        return now - self._since.setdefault(event.label, now) >= SECONDS_BEFORE_A_BAR


class _Lines:
    def __init__(self, plan: Plan, console: Console, seconds_between: float) -> None:
        self._console, self._done = console, _Done(plan)
        self._started = self._printed = time.monotonic()
        self._seconds_between = seconds_between
        self._last: dict[str, float] = {}
        self._running: dict[str, Event] = {}
        self._lock = threading.Lock()

    def follow(self, event: Event) -> None:
        with self._lock:
            if event.is_last:
                self._running.pop(event.label, None)
                if event.step_name in self._done.totals:
                    before, total = self._done.num(event.step_name), self._done.totals
                    if before < self._done.count(event) == total[event.step_name]:
                        self._print(f"{event.step_name}: all {total[event.step_name]} done")
                return
            self._running[event.label] = event
            now = time.monotonic()
            since = now - self._last.setdefault(event.label, now)
            if event.message and since >= self._seconds_between:
                self._last[event.label] = now
                self._print(_where(event))

    def break_silence(self) -> None:
        with self._lock:
            if time.monotonic() - self._printed >= self._seconds_between:
                done, total = self._done.together()
                at = "".join(f"; {_where(event)}" for event in list(self._running.values())[-1:])
                self._print(f"{done} of {total} steps done{at}")

    def _print(self, text: str) -> None:
        self._printed = time.monotonic()
        seconds = self._printed - self._started
        self._console.print(f"[{seconds:6.0f} s] {text}", highlight=False, markup=False)


def _where(event: Event) -> str:
    return f"{event.label}: {event.done}/{event.total} {event.message}"


class _Done:
    """Which runs of steps are done, by label: one may be reported more than once."""

    def __init__(self, plan: Plan) -> None:
        waiting = {entry.step_name for entry in plan.entries if entry.artifact is None}
        self.totals = {name: len(found) for name, found in plan.labels().items() if name in waiting}
        self._labels: dict[str, set[str]] = {name: set() for name in self.totals}

    def together(self) -> tuple[int, int]:
        """Runs that are done so far, and all that were to be run."""
        return sum(map(len, self._labels.values())), sum(self.totals.values())

    def num(self, step_name: str) -> int:
        """Runs of a step that are done so far."""
        return len(self._labels[step_name])

    def count(self, event: Event) -> int:
        """Count one that is done; how many of its step are."""
        self._labels[event.step_name].add(event.label)
        return self.num(event.step_name)
