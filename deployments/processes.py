"""Processes that live and end together, and none of which outlives `grokpath up`.

`grokpath up` is two processes: one in the terminal that waits, and a child that starts everything.
The child notices by a pipe when the first is gone, however it was ended, and both adopt orphans
(Linux), so that whichever is left finds every process that was started below them, and ends it.
"""

import ctypes
import math
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

CHECKOUT = Path(__file__).parents[1]
LOG_BYTES, NUM_LAST_LINES = 10_000_000, 15
GRACE_SECONDS = 6.0
"""So long a process may take to end by itself."""
NOTE_SECONDS = 0.5
"""So long a worker may take to report that its flow runs have ended."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SUBREAPER = 36


class Stopped(BaseException):
    """A signal, or the end of the process in the terminal."""


def in_child(body: Callable[[], int]) -> int:
    """Run a body in a child that SIGTERM stops; returns its exit code once nothing is left."""
    _adopt_orphans()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.setsid()  # Ctrl-C is for the parent alone
        _adopt_orphans()
        signal.signal(signal.SIGTERM, _raise_stopped)
        threading.Thread(target=_stop_at_end_of, args=(reading,), daemon=True).start()
        code = 1
        try:
            code = body()
        except Stopped:
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            _end(psutil.Process().children(recursive=True), seconds=0)
            sys.stdout.flush()
            os._exit(code)
    os.close(reading)
    for number in SIGNALS:
        signal.signal(number, lambda *_: os.kill(child, signal.SIGTERM))
    _, status = os.waitpid(child, 0)
    os.close(writing)
    _end(psutil.Process().children(recursive=True), seconds=0)
    return abs(os.waitstatus_to_exitcode(status))


class Processes:
    """Processes with a log file each, and one end."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, psutil.Popen] = {}

    def start(self, name: str, words: Sequence[str], env: Mapping[str, str]) -> None:
        """Start a module of Python's, in a session of its own."""
        log = self._log(name)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".old.log"))
        with log.open("ab") as file:
            self._running[name] = psutil.Popen(
                [sys.executable, "-m", *words],
                cwd=CHECKOUT,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def wait(self, until: Callable[[], bool], otherwise: str, seconds: float = math.inf) -> None:
        """Wait until something is true.

        Raises
        ------
        RuntimeError
            When one of the processes ends before, with its last lines, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while not until():
            for name, process in self._running.items():
                if (code := process.poll()) is not None:
                    lines = self._log(name).read_text(errors="replace").splitlines()
                    last = "\n".join(lines[-NUM_LAST_LINES:])
                    raise RuntimeError(
                        f"{name} ended by itself (exit code {code}); its last lines:\n{last}"
                    )
            if time.monotonic() > deadline:
                raise RuntimeError(f"{otherwise} after {seconds:.0f} seconds")
            time.sleep(0.2)

    def stop(self) -> None:
        """End all: first the flow runs, as their workers report how they ended, servers last."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        workers = [p for name, p in self._running.items() if name not in ("prefect", "mlflow")]
        runs: list[psutil.Process] = []
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                runs += worker.children()
        if runs:
            _end(runs)
            time.sleep(NOTE_SECONDS)
        _end(workers)
        _end(list(self._running.values()))

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def _end(processes: Sequence[psutil.Process], seconds: float = GRACE_SECONDS) -> None:
    """Ask processes to end, and kill those that did not in time."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate() if seconds else process.kill()
    for process in psutil.wait_procs(processes, timeout=seconds or GRACE_SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def _raise_stopped(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise Stopped


def _stop_at_end_of(pipe: int) -> None:
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)
