"""Locks between the processes that share a data root.

A lock is an open, locked file below `<root>/locks`; the system releases it when its holder dies.
They work between machines where the file system has `flock`, as Linux does over NFS 4.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.root import root

GATE = "runs.gate"


class RunInProgress(ValueError):
    """Something was to be deleted while a run is in progress."""


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a named lock; a second holder waits. Its file is deleted with the last holder."""
    path = _path(name)
    file = _acquire(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def is_free(name: str) -> bool:
    """Whether nobody holds a lock."""
    try:
        file = os.open(_path(name), os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(file)


@contextmanager
def run_in_progress() -> Iterator[None]:
    """A run uses the root: nothing is deleted meanwhile. Runs do not exclude each other."""
    with _gate(fcntl.LOCK_SH):
        yield


@contextmanager
def no_run() -> Iterator[None]:
    """Delete things: no run is in progress, and none starts.

    Raises
    ------
    RunInProgress
        At once, when there is one.
    """
    try:
        with _gate(fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield
    except BlockingIOError:
        raise RunInProgress(
            f"a run is in progress in {root()}, so nothing was deleted; try again when it is done"
        ) from None


@contextmanager
def _gate(mode: int) -> Iterator[None]:
    file = _open(_path(GATE))
    try:
        fcntl.flock(file, mode)
        yield
    finally:
        os.close(file)


def _path(name: str) -> Path:
    return root() / "locks" / (name if name == GATE else f"{name.replace('/', '-')}.lock")


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def _acquire(path: Path) -> int:
    """Open and lock the file that is at the path once the lock is ours: holders delete theirs."""
    while True:
        file = _open(path)
        fcntl.flock(file, fcntl.LOCK_EX)
        if _is_at(path, file):
            return file
        os.close(file)


def _is_at(path: Path, file: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(file).st_ino
    except FileNotFoundError:
        return False
