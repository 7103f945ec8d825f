"""Run one command so that nothing of it is left when it ends, or when `grokpath up` does.

A server starts processes of its own, a worker a process per flow run, and those start more. Whoever
ends only the first of them leaves orphans. So a guard adopts whatever its command leaves behind,
watches the process of `grokpath up` (GROKPATH_UP_PID), and on a signal or on the end of either of
the two asks the command to stop, waits, and kills what is left.

    python -m deployments.guard [--worker POOL | --after-workers] COMMAND...

`--worker`: the command is a worker of that pool. It starts once the Prefect server has the pool,
and its flow runs are stopped before it. `--after-workers`: stops once all workers have.
"""

import argparse
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

from deployments.answers import answers

UP_PID = "GROKPATH_UP_PID"
ORDER_SECONDS = 14.0
"""So long the workers are waited for."""
GRACE_SECONDS = 6.0
"""So long the command may take to stop by itself."""
CHILDREN_SECONDS = 6.0
"""And so long its children, where they are to stop before it."""
NOTE_SECONDS = 0.5
"""So long the command may take to note that they have."""

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> None:
    """Entry point; the exit code is the command's."""
    parser = argparse.ArgumentParser(prog="python -m deployments.guard")
    parser.add_argument("--worker", metavar="POOL")
    parser.add_argument("--after-workers", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    process_control(_PR_SET_CHILD_SUBREAPER, 1)
    if options.worker:
        fcntl.flock(_workers_lock(), fcntl.LOCK_SH)  # until this process ends
    guard = Guard(is_worker=bool(options.worker), after_workers=options.after_workers)
    guard.watch()
    if options.worker:
        _wait_for_pool(options.worker)
    guard.run(options.command)
    code = guard.reap()
    guard.kill_all()
    os._exit(code)


class Guard:
    """The command, and what ends it."""

    def __init__(self, *, is_worker: bool, after_workers: bool) -> None:
        self._is_worker, self._after_workers = is_worker, after_workers
        self._child: int | None = None
        self._stopping = threading.Event()

    def watch(self) -> None:
        """Stop on a signal, and with the process of `grokpath up`."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        if UP_PID in os.environ:
            threading.Thread(target=self._end_with_up, daemon=True).start()

    def run(self, command: list[str]) -> None:
        """Start the command, in a session of its own: a signal for the guard is not one for it."""
        if command[0] == "python":
            command = [sys.executable, *command[1:]]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._child = process.pid

    def reap(self) -> int:
        """Until the command has ended; its exit code. The adopted are reaped on the way."""
        while True:
            pid, status = os.wait()
            if pid == self._child:
                return max(0, os.waitstatus_to_exitcode(status))

    def kill_all(self) -> None:
        """Whatever is left, at once."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._child is None:
            os._exit(0)
        threading.Thread(target=self._stop, daemon=True).start()

    def _end_with_up(self) -> None:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(int(os.environ[UP_PID])).wait()
        if self._child is None:
            os._exit(0)
        self._stop()

    def _stop(self) -> None:
        if self._stopping.is_set():
            return
        self._stopping.set()
        assert self._child is not None
        if self._after_workers:
            _wait_for_workers()
        if self._is_worker:
            _stop_children(self._child)
        try:
            os.kill(self._child, signal.SIGTERM)
        except ProcessLookupError:
            return
        time.sleep(GRACE_SECONDS)
        self.kill_all()


def process_control(option: int, value: int) -> None:
    """Linux' prctl; does nothing elsewhere."""
    if sys.platform == "linux":
        _LIBC.prctl(option, value, 0, 0, 0)


def die_with_parent() -> None:
    """Have this process killed when the thread that made it ends; Linux only."""
    process_control(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _workers_lock() -> int:
    """The file that the guards of all workers hold locked."""
    path = Path(os.environ["GROKPATH_ROOT"]) / "locks" / "up-workers.lock"
    return os.open(path, os.O_CREAT | os.O_RDWR, 0o600)


def _wait_for_workers() -> None:
    file = _workers_lock()
    deadline = time.monotonic() + ORDER_SECONDS
    while time.monotonic() < deadline:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            break
    os.close(file)


def _stop_children(pid: int) -> None:
    """Stop the flow runs of a worker, which notes how they ended while it still lives."""
    try:
        children = psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return
    for process in children:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(children, timeout=CHILDREN_SECONDS)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if children:
        time.sleep(NOTE_SECONDS)


def _wait_for_pool(name: str) -> None:
    while not answers(f"{os.environ['PREFECT_API_URL']}/work_pools/{name}"):
        time.sleep(0.3)


if __name__ == "__main__":
    main()
