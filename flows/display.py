"""What a person sees while a study runs: bars on a terminal, plain lines elsewhere."""

import threading
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from tasks.plan import Plan
from tasks.workers import Progress as Report
from tasks.workers import unwatch, watch

SECONDS_BEFORE_A_BAR = 3.0
"""How long a body runs before it gets a bar of its own."""
SECONDS_BETWEEN_LINES = 30.0
"""How often a long body says where it is when output is not a terminal."""


class Display(Protocol):
    """Follows a run from the reports of its workers; a context manager."""

    def __enter__(self) -> Self:
        """Start to follow."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        ...


def display_for(plan: Plan, console: Console) -> Display:
    """Bars on a terminal, lines elsewhere."""
    return Bars(plan, console) if console.is_terminal else Lines(plan, console)


class Bars:
    """One bar per kind of step that has something to do, one more for each long body."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[message]}"),
            console=console,
        )
        self._done = _Done(plan)
        self._steps = {
            name: self._progress.add_task(name, total=total, message="")
            for name, total in self._done.totals.items()
        }
        self._bodies: dict[str, TaskID] = {}
        self._since: dict[str, float] = {}

    def __enter__(self) -> Self:
        watch(self._follow)
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        unwatch(self._follow)
        self._progress.stop()

    def _is_long(self, report: Report) -> bool:
        now = time.monotonic()
        return now - self._since.setdefault(report.label, now) >= SECONDS_BEFORE_A_BAR

    def _follow(self, report: Report) -> None:
        if report.finished:
            self._since.pop(report.label, None)
            body = self._bodies.pop(report.label, None)
            if body is not None:
                self._progress.remove_task(body)
            if report.step_name in self._steps:
                num_done = self._done.count(report)
                self._progress.update(self._steps[report.step_name], completed=num_done)
        elif report.message and self._is_long(report):
            if report.label not in self._bodies:
                self._bodies[report.label] = self._progress.add_task(
                    f"  {report.label}", total=report.total, message=""
                )
            self._progress.update(
                self._bodies[report.label], completed=report.done, message=report.message
            )


class Lines:
    """A line when the last run of a kind of step is done, from long bodies, and every 30 s."""

    def __init__(
        self, plan: Plan, console: Console, seconds_between: float = SECONDS_BETWEEN_LINES
    ) -> None:
        self._console = console
        self._done = _Done(plan)
        self._started = self._said = time.monotonic()
        self._seconds_between = seconds_between
        self._last: dict[str, float] = {}
        self._running: dict[str, Report] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        watch(self._follow)
        threading.Thread(target=self._keep_talking, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        unwatch(self._follow)

    def _keep_talking(self) -> None:
        while not self._over.wait(min(1.0, self._seconds_between)):
            with self._lock:
                if time.monotonic() - self._said >= self._seconds_between:
                    done, total = self._done.together()
                    running = list(self._running.values())[-1:]
                    at = "".join(f"; {r.label}: {r.done}/{r.total} {r.message}" for r in running)
                    self._say(f"{done} of {total} steps done{at}")

    def _follow(self, report: Report) -> None:
        with self._lock:
            if not report.finished:
                self._running[report.label] = report
                self._pass_on(report)
                return
            self._running.pop(report.label, None)
            if report.step_name in self._done.totals:
                before = self._done.num(report.step_name)
                total = self._done.totals[report.step_name]
                if before < self._done.count(report) == total:
                    self._say(f"{report.step_name}: all {total} done")

    def _pass_on(self, report: Report) -> None:
        now = time.monotonic()
        since = now - self._last.setdefault(report.label, now)
        if report.message and since >= self._seconds_between:
            self._last[report.label] = now
            self._say(f"{report.label}: {report.done}/{report.total} {report.message}")

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        seconds = self._said - self._started
        self._console.print(f"[{seconds:6.0f} s] {text}", highlight=False, markup=False)


class _Done:
    """Which runs are done, by name: the same artifact may be asked for more than once."""

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

    def count(self, report: Report) -> int:
        """Note one that is done; how many of its step are."""
        self._labels[report.step_name].add(report.label)
        return self.num(report.step_name)
