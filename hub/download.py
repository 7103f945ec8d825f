"""Bringing a checkpoint's files here: whole, checked by digest, once for all processes."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hub import cache, connection
from hub.cache import HubFile
from hub.room import room

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WAIT_SECONDS = 7 * 24 * 3600.0  # for room; another checkpoint's measurements can take days

OnProgress = Callable[[int, int, str], None]
"""Told bytes that are here, bytes in all, and the name of the file that is on its way."""


def bring(
    repository: str,
    commit: str,
    files: Sequence[HubFile],
    *,
    budget_bytes: int | None = None,
    weights: bool = True,
    on_progress: OnProgress | None = None,
    wait_seconds: float = WAIT_SECONDS,
) -> Path:
    """Folder with a checkpoint's files, downloaded as far as they are not here yet.

    Take a lease first (:func:`~hub.cache.hold`) and keep it while the files are in use: weights
    that nobody holds are evicted when another checkpoint needs the room.

    Parameters
    ----------
    files
        What :func:`~hub.repositories.resolve` found at this commit.
    budget_bytes
        Most bytes of weights on disk at any time, of all repositories; None for no limit.
    weights
        False brings the configuration and tokenizer only, which are small and stay.
    on_progress
        Called some hundred times.
    wait_seconds
        Longest wait for room while other checkpoints are in use.

    Raises
    ------
    ValueError
        When files cannot be had, came damaged twice, or have no room; nothing that looks whole is
        left behind.
    """
    wanted = [file for file in files if weights or not file.is_weights]
    all_weights = [file for file in wanted if file.is_weights]
    with cache.hold(repository, commit), _disk_full_explained(repository, commit):
        missing = [file for file in wanted if not cache.adopt(repository, commit, file)]
        if missing:
            _check_online(repository, commit, missing)
            report = _Report(missing, on_progress)
            for file in missing:
                if not file.is_weights:
                    fetch(repository, commit, file, report.told)
            heavy = [file for file in missing if file.is_weights]
            if heavy:
                with room(repository, commit, all_weights, budget_bytes, wait_seconds):
                    for file in heavy:
                        fetch(repository, commit, file, report.told)
    return cache.snapshot(repository, commit)


@contextmanager
def _disk_full_explained(repository: str, commit: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise ValueError(
            f"the disk of {cache.cache_root()} became full while {repository} at {commit[:12]} was "
            f"downloaded ({error.strerror}); the unfinished file was deleted. Free some space, "
            "lower runtime.disk_budget or choose another folder with --root or GROKPATH_ROOT"
        ) from error


def _check_online(repository: str, commit: str, missing: Sequence[HubFile]) -> None:
    if connection.offline():
        raise ValueError(
            f"offline (HF_HUB_OFFLINE), and {cache.storage(repository)} lacks "
            f"{', '.join(file.name for file in missing)} of {repository} at {commit}; run once "
            "with a network, or copy the files' cache from a machine that has it"
        )


class _Report:
    """Adds the files up for `on_progress`, and calls it only when it makes a difference."""

    def __init__(self, files: Sequence[HubFile], on_progress: OnProgress | None) -> None:
        self._here = {file.name: 0 for file in files}
        self._total = sum(file.size for file in files)
        self._told = 0
        self._on_progress = on_progress

    def told(self, name: str, num_bytes: int) -> None:
        self._here[name] = num_bytes
        done = sum(self._here.values())
        if self._on_progress is None or done == self._told:
            return
        if done == self._total or abs(done - self._told) >= self._total / 500:
            self._told = done
            self._on_progress(done, self._total, name)


def fetch(
    repository: str,
    commit: str,
    file: HubFile,
    on_bytes: Callable[[str, int], None] = lambda name, num_bytes: None,
) -> Path:
    """One file of a commit, checked; downloaded unless its content is here.

    A download that broke off goes on where it ended. A file that comes damaged is fetched once
    more from the start.

    Raises
    ------
    ValueError
        When it came damaged twice, or the hub refuses it.
    """
    place = cache.partial(repository, file)
    place.parent.mkdir(parents=True, exist_ok=True)
    with cache.locked_blob(cache.storage(repository), file.digest):
        if not cache.adopt_locked(repository, commit, file):
            _check_online(repository, commit, [file])
            found = _download(repository, commit, file, on_bytes)
            if found != file.digest:
                found = _download(repository, commit, file, on_bytes)
            if found != file.digest:
                raise ValueError(
                    f"{file.name} of {repository} at {commit} came damaged twice: expected "
                    f"{file.size} bytes with digest {file.digest}, found {found}. Nothing of it "
                    "is kept; if it happens again, the file is broken on the hub or on the way"
                )
            cache.settle(repository, commit, file)
    on_bytes(file.name, file.size)
    return cache.snapshot(repository, commit) / file.name


def _download(
    repository: str, commit: str, file: HubFile, on_bytes: Callable[[str, int], None]
) -> str:
    """Digest of what came, which lies in the partial file if it is the right one."""
    place = cache.partial(repository, file)
    try:
        with place.open("a+b") as out:
            connection.download(
                repository,
                commit,
                file.name,
                size=file.size,
                out=out,
                on_bytes=lambda num_bytes: on_bytes(file.name, num_bytes),
            )
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        if error.errno in DISK_FULL:
            place.unlink(missing_ok=True)
        raise
    found = file.digest_of(place)
    if found != file.digest:
        place.unlink()
    return found
