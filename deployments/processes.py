"""Honcho's process manager, with what it leaves open: log files, and an end that is always an end.

Honcho prints the lines of all processes with a prefix, and ends all when one ends. Added here: a
log file per process, the last lines of the one that ended by itself, SIGHUP, and no process of
Honcho's own that outlives a killed manager.
"""

import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from threading import Thread
from types import FrameType

from honcho import manager as honcho
from honcho.printer import Message, Printer
from rich.console import Console

from deployments.guard import GRACE_SECONDS, ORDER_SECONDS, die_with_parent

LOG_BYTES, NUM_OLD_LOGS = 10_000_000, 3
NUM_LAST_LINES = 15

# So many seconds after it ended them Honcho kills its processes; guards do that themselves.
honcho.KILL_WAIT = ORDER_SECONDS + 2 * GRACE_SECONDS


class LoggingPrinter(Printer):
    """Prints lines, and writes them to a file per process."""

    def __init__(self, folder: Path) -> None:
        super().__init__(sys.stdout)
        self._folder = folder
        self._logs: dict[str, logging.Handler] = {}
        self._last: dict[str, deque[str]] = {}

    def write(self, message: Message) -> None:
        """Print and write to the file."""
        super().write(message)
        data = message.data
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        for line in text.splitlines():
            self._last.setdefault(message.name, deque(maxlen=NUM_LAST_LINES)).append(line)
            record = logging.makeLogRecord({"msg": "%s", "args": (line,), "name": message.name})
            self._log(message.name).emit(record)

    def last(self, name: str) -> str:
        """The last lines of a process."""
        return "\n".join(self._last.get(name, ()))

    def _log(self, name: str) -> logging.Handler:
        if name not in self._logs:
            handler = RotatingFileHandler(
                self._folder / f"{name}.log", maxBytes=LOG_BYTES, backupCount=NUM_OLD_LOGS
            )
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
            self._logs[name] = handler
        return self._logs[name]


class Processes(honcho.Manager):
    """Processes that live and end together."""

    def __init__(self, logs: Path, out: Console) -> None:
        self._logs = LoggingPrinter(logs)
        super().__init__(self._logs)
        self._out = out
        self._stop_requested = False
        self._failure: str | None = None
        self._once_started: Callable[[], None] | None = None

    def announce(self, text: str) -> None:
        """Print something of our own, unless they are stopping."""
        if not self._terminating:
            self._out.print(text, markup=False, soft_wrap=True)

    def run(self, once_started: Callable[[], None]) -> None:
        """Until a signal comes (returns) or one of them ends by itself (raises).

        Parameters
        ----------
        once_started
            Called in a thread when the processes were started; what it raises ends all of them.

        Raises
        ------
        RuntimeError
            Naming the one that ended, with its last lines.
        """
        self._once_started = once_started
        os.register_at_fork(after_in_child=die_with_parent)
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
        try:
            self.loop()
        except BaseException as error:
            # Honcho's processes would be waited for by Python's exit, and they for this process.
            self._out.print(f"failed: {error!r}", markup=False, soft_wrap=True)
            os._exit(1)
        if self._failure is not None:
            raise RuntimeError(self._failure)

    def terminate(self) -> None:
        """Stop all."""
        if any(p.get("pid") is None for p in self._processes.values()):
            os._exit(0)  # requested while they start: the guards see this process end
        super().terminate()

    def _start(self) -> None:
        super()._start()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        Thread(target=self._follow_start, daemon=True).start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._stop_requested:
            self._stop_requested = True
            self._system_print("stopping\n")
            self.terminate()

    def _follow_start(self) -> None:
        assert self._once_started is not None
        try:
            self._once_started()
        except Exception as error:
            if not self._terminating:
                self._failure = str(error)
                self.terminate()

    def _any_stopped(self) -> bool:
        stopped = [name for name, p in self._processes.items() if "returncode" in p]
        if stopped and not self._terminating and self._failure is None:
            name = stopped[0]
            self._failure = (
                f"{name} ended by itself (exit code {self._processes[name]['returncode']}); "
                f"its last lines:\n{self._logs.last(name)}"
            )
        return bool(stopped)

    def _system_print(self, data: str) -> None:
        self._printer.write(
            Message("line", data, self._clock.now(), honcho.SYSTEM_PRINTER_NAME, None)
        )
