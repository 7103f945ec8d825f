"""Run one command so that nothing of it is left when it ends, or when `grokpath up` does.

A server starts processes of its own, a worker a process per flow run, and those start more. Whoever
ends only the first of them leaves orphans. So a guard adopts whatever its command leaves behind,
watches the process of `grokpath up` (GROKPATH_UP_PID), and on a signal or on the end of either of
the two asks the command to stop, waits, and kills what is left.

    python -m deployments.guard [--as GROUP] [--outlast GROUP] [--children-first] [--pool NAME]
                                [--user USER] [--stop SIGINT] COMMAND...

`--as` and `--outlast` give an order: a guard that outlasts a group stops after all in that group
have. `--children-first` is for workers: their flow runs are stopped before them. `--pool` waits
with the command until the Prefect server has that work pool.
"""

import argparse
import ctypes
import fcntl
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from deployments.answers import answers

UP_PID = "GROKPATH_UP_PID"
ORDER_SECONDS = 14.0
"""So long a group is waited for."""
GRACE_SECONDS = 6.0
"""So long the command may take to stop by itself."""
CHILDREN_SECONDS = 6.0
"""And so long its children, where they are to stop before it."""
NOTE_SECONDS = 0.5
"""So long the command may take to note that they have."""
STOPS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main() -> None:
    """Entry point; the exit code is the command's."""
    asked = _arguments()
    process_control(_PR_SET_CHILD_SUBREAPER, 1)
    held = _hold(asked.group) if asked.group else None
    guard = Guard(asked.outlast, STOPS[asked.stop], asked.children_first)
    guard.watch()
    if asked.pool:
        _wait_for_pool(asked.pool)
    guard.run(asked.command, asked.user)
    code = guard.reap()
    guard.kill_all()
    if held is not None:
        os.close(held)
    os._exit(code)


class Guard:
    """The command, and what ends it."""

    def __init__(
        self, outlast: str | None, stop_signal: signal.Signals, children_first: bool
    ) -> None:
        self._outlast, self._stop_signal = outlast, stop_signal
        self._children_first = children_first
        self._child: int | None = None
        self._stopping = threading.Event()

    def watch(self) -> None:
        """Stop on a signal, and with the process of `grokpath up`."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        if UP_PID in os.environ:
            threading.Thread(target=self._end_with_up, daemon=True).start()

    def run(self, command: list[str], user: str | None) -> None:
        """Start the command, in a session of its own: a signal for the guard is not one for it."""
        if command[0] == "python":
            command = [sys.executable, *command[1:]]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
            **as_user(user),
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
        if self._outlast:
            _outlast(self._outlast)
        if self._children_first and self._child:
            _stop_children(self._child)
        try:
            os.kill(self._child or 0, self._stop_signal)
        except ProcessLookupError:
            return
        time.sleep(GRACE_SECONDS)
        self.kill_all()


def as_user(user: str | None) -> dict[str, Any]:
    """What makes `subprocess` start a process as another user."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def process_control(option: int, value: int) -> None:
    """Linux' prctl; does nothing elsewhere."""
    if sys.platform == "linux":
        _LIBC.prctl(option, value, 0, 0, 0)


def die_with_parent() -> None:
    """Have this process killed when the thread that made it ends; Linux only."""
    process_control(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _hold(group: str) -> int:
    """Be in a group until this process ends."""
    file = os.open(_group_file(group), os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def _outlast(group: str) -> None:
    file = os.open(_group_file(group), os.O_CREAT | os.O_RDWR, 0o600)
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


def _group_file(group: str) -> Path:
    return Path(os.environ["GROKPATH_ROOT"]) / "locks" / f"up-{group}.lock"


def _wait_for_pool(name: str) -> None:
    while not answers(f"{os.environ['PREFECT_API_URL']}/work_pools/{name}"):
        time.sleep(0.3)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deployments.guard")
    parser.add_argument("--as", dest="group")
    parser.add_argument("--outlast")
    parser.add_argument("--pool")
    parser.add_argument("--user")
    parser.add_argument("--children-first", action="store_true")
    parser.add_argument("--stop", choices=STOPS, default="SIGTERM")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args()


if __name__ == "__main__":
    main()
