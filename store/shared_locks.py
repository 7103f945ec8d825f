"""Locks between machines that share nothing but a store of objects.

A lock is a folder of numbered objects; who created the one with the highest number holds it. To
create one only if it is not there is the single thing asked of the store, and of all who try for a
number one succeeds. The holder rewrites its object again and again. Who waits and sees no change
for EXPIRY_SECONDS by its own clock takes the holder for dead and tries for the next number; so
clocks of different machines are never compared.

Should a holder that was taken for dead go on after all, two make the same artifact; each is whole,
and the later record counts.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import Any
from uuid import uuid4

EXPIRY_SECONDS = 120.0
RENEWALS_PER_EXPIRY = 6
POLL_SECONDS = 2.0

logger = logging.getLogger("prefect.grokpath")


@contextmanager
def held(files: Any, folder: str, name: str) -> Iterator[None]:
    """Hold a lock while inside.

    Parameters
    ----------
    files
        An fsspec file system.
    folder
        Folder of the lock on it.
    name
        What is locked, for whoever waits.
    """
    number = _acquire(files, folder, name)
    over = threading.Event()
    renewing = threading.Thread(target=_renew, args=(files, folder, number, over), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()
        _release(files, folder, number)


def _acquire(files: Any, folder: str, name: str) -> int:
    seen: tuple[int, bytes] | None = None
    since, said = time.monotonic(), False
    while True:
        newest = _newest(files, folder)
        if newest != seen:
            seen, since = newest, time.monotonic()
        number = 1 if newest is None else newest[0] + 1
        expired = time.monotonic() - since > EXPIRY_SECONDS
        if (newest is None or expired) and _create(files, _object(folder, number)):
            return number
        if not said and newest is not None:
            logger.info("waiting for %s: %s", name, newest[1].decode(errors="replace")[:200])
            said = True
        time.sleep(POLL_SECONDS)


def _newest(files: Any, folder: str) -> tuple[int, bytes] | None:
    """Highest number and what its object says; None when the lock is free."""
    try:
        paths = files.ls(folder, detail=False, refresh=True)
    except FileNotFoundError:
        return None
    numbers = [int(stem) for path in paths if (stem := PurePosixPath(path).stem).isdigit()]
    if not numbers:
        return None
    try:
        return max(numbers), files.cat_file(_object(folder, max(numbers)))
    except FileNotFoundError:  # released just now
        return _newest(files, folder)


def _create(files: Any, path: str) -> bool:
    """Create an object unless it is there; of several at once one succeeds."""
    with suppress(FileExistsError):
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
    try:
        with files.open(path, "xb") as file:
            file.write(_content(0))
    except (FileExistsError, FileNotFoundError):  # or its folder went with another's release
        return False
    except OSError as error:
        if "PreconditionFailed" in str(error) or "ConditionalRequestConflict" in str(error):
            return False
        raise
    return True


def _renew(files: Any, folder: str, number: int, over: threading.Event) -> None:
    count = 0
    while not over.wait(EXPIRY_SECONDS / RENEWALS_PER_EXPIRY):
        count += 1
        try:
            files.pipe_file(_object(folder, number), _content(count))
        except Exception as error:  # whatever the library raises; the next renewal may succeed
            logger.warning("a lock in the shared store was not renewed: %s", error)


def _release(files: Any, folder: str, number: int) -> None:
    """Remove our object and older ones, ours last; what is left expires."""
    try:
        paths = files.ls(folder, detail=False, refresh=True)
        stems = [PurePosixPath(path).stem for path in paths]
        for older in sorted(int(stem) for stem in stems if stem.isdigit() and int(stem) <= number):
            with suppress(FileNotFoundError):
                files.rm_file(_object(folder, older))
    except Exception as error:  # an artifact was made: that is not undone for the sake of a lock
        logger.warning("a lock in the shared store stays until it expires: %s", error)


def _object(folder: str, number: int) -> str:
    return f"{folder}/{number:06d}.json"


def _content(count: int) -> bytes:
    about = {"host": socket.gethostname(), "pid": os.getpid(), "renewed": count, "id": uuid4().hex}
    return json.dumps(about).encode()
