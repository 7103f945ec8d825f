"""What killed processes leave in the data root: drafts, folders half deleted, locks, records.

Nothing here is an artifact, and nothing here is needed by one. A draft may be continued by the
next attempt: one whose lock is held is not listed, and one that was written to lately is for the
caller to leave.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from store.artifacts import artifacts_root, root

LOCK = re.compile(r"^(?P<step>.+)-(?P<folder>v\d+-\w+)\.lock$")
PASSING = re.compile(r"^\.(draft-|discarded-)v\d+-\w+")


@dataclass(frozen=True)
class Leftover:
    """One thing that was left.

    Attributes
    ----------
    kind
        `draft`, `discarded` (an artifact half deleted), `lock` or `record` (Prefect's, of a task
        that failed).
    last_at
        When something in it was last written, in seconds since the epoch.
    """

    path: Path
    kind: str
    num_bytes: int
    last_at: float


def leftovers() -> list[Leftover]:
    """Everything that was left and that nobody is at work on."""
    return [*_passing(), *_records(), *_locks()]


def remove(found: Leftover) -> None:
    """Delete it; what is gone already is no error."""
    if found.path.is_dir() and not found.path.is_symlink():
        shutil.rmtree(found.path, ignore_errors=True)
    else:
        found.path.unlink(missing_ok=True)


def size_and_time(path: Path) -> tuple[int, float]:
    """Bytes of the files at or below a path, and when the youngest was written; follows no link."""
    num_bytes, last_at = 0, path.lstat().st_mtime
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                stat = Path(folder, name).lstat()
            except FileNotFoundError:  # gone meanwhile
                continue
            num_bytes, last_at = num_bytes + stat.st_size, max(last_at, stat.st_mtime)
    return num_bytes or path.lstat().st_size * path.is_file(), last_at


def contained(path: Path) -> bool:
    """Whether a path is no link and really lies inside the root, whatever its parents are."""
    return not path.is_symlink() and path.resolve().is_relative_to(root().resolve())


def step_folders() -> Iterator[Path]:
    """Folders of the steps that really lie inside the root."""
    if artifacts_root().is_dir() and contained(artifacts_root()):
        yield from (f for f in sorted(artifacts_root().iterdir()) if f.is_dir() and contained(f))


def _passing() -> Iterator[Leftover]:
    for step in step_folders():
        for path in sorted(step.iterdir()):
            matched = PASSING.match(path.name)
            if matched and contained(path):
                kind = matched[1].rstrip("-")
                name = path.name.removeprefix(".draft-")
                if kind == "discarded" or is_free(root() / "locks" / f"{step.name}-{name}.lock"):
                    yield Leftover(path, kind, *size_and_time(path))


def _records() -> Iterator[Leftover]:
    if artifacts_root().is_dir() and contained(artifacts_root()):
        for path in sorted(artifacts_root().iterdir()):
            if path.is_file() and contained(path):
                yield Leftover(path, "record", *size_and_time(path))


def _locks() -> Iterator[Leftover]:
    """Locks of artifacts; a lock may go only while nobody could be waiting for it."""
    folder = root() / "locks"
    if folder.is_dir() and contained(folder):
        for path in sorted(folder.iterdir()):
            if LOCK.match(path.name) and contained(path) and is_free(path):
                yield Leftover(path, "lock", *size_and_time(path))


def is_free(lock: Path) -> bool:
    """Whether nobody on this machine holds a lock."""
    if not lock.exists():
        return True
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
