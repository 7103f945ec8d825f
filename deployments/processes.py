"""Honcho's process manager, with what it leaves open: kept logs, and an end that is always an end.

Honcho prints the lines of all processes with a prefix, and ends all when one ends. Added here: a
log file per process, the last lines of the one that ended by itself, SIGHUP, and no process of
Honcho's own that outlives a killed manager.
"""

import logging
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from threading import Event, Thread
from types import FrameType

from honcho import manager as honcho
from honcho.printer import Message, Printer
from rich.console import Console

from deployments.guard import GRACE_SECONDS, ORDER_SECONDS, die_with_parent

LOG_BYTES, NUM_OLD_LOGS = 10_000_000, 3
NUM_LAST_LINES = 15

# So many seconds after it told them to end Honcho kills its processes; guards do that themselves.
honcho.KILL_WAIT = ORDER_SECONDS + 2 * GRACE_SECONDS


class Kept(Printer):
    """Prints lines, and keeps them in a file per process."""

    def __init__(self, folder: Path) -> None:
        super().__init__(sys.stdout)
        self._folder = folder
        self._logs: dict[str, logging.Handler] = {}
        self._last: dict[str, deque[str]] = {}

    def write(self, message: Message) -> None:
        """Print and keep."""
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
        self._kept = Kept(logs)
        super().__init__(self._kept)
        self._out = out
        self._asked_to_stop = False
        self._failure: str | None = None
        self._started = Event()
        self._background: list[Callable[[], None]] = []

    def in_background(self, work: Callable[[], None]) -> None:
        """Do this once the processes were started; what it raises ends all of them."""
        self._background.append(work)

    def say(self, text: str) -> None:
        """Print something of our own, unless they are stopping."""
        if not self._terminating:
            self._out.print(text, markup=False, soft_wrap=True)

    def depend_on(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        """End when this process, which somebody else manages, ends."""

        def watch() -> None:
            process.wait()
            if not self._terminating:
                raise RuntimeError(f"{name} ended by itself; the end of {log}:\n{tail(log)}")

        self.in_background(watch)

    def run(self) -> None:
        """Until a signal comes (returns) or one of them ends by itself (raises).

        Raises
        ------
        RuntimeError
            Saying which, with its last lines.
        """
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
        """Ask all to stop."""
        if any(p.get("pid") is None for p in self._processes.values()):
            os._exit(0)  # asked while they start: the guards see this process end
        super().terminate()

    def _start(self) -> None:
        super()._start()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        for work in self._background:
            Thread(target=self._do, args=(work,), daemon=True).start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._asked_to_stop:
            self._asked_to_stop = True
            self._system_print("stopping\n")
            self.terminate()

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
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
                f"its last lines:\n{self._kept.last(name)}"
            )
        return bool(stopped)

    def _system_print(self, data: str) -> None:
        self._printer.write(
            Message("line", data, self._clock.now(), honcho.SYSTEM_PRINTER_NAME, None)
        )


def tail(log: Path, num_lines: int = 15) -> str:
    """The last lines of a file."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-num_lines:])
