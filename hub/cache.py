"""What is kept of a hub: files by digest, in huggingface_hub's own layout, within a budget.

    <root>/hub/models--<owner>--<name>/
        blobs/<digest>              content; <digest>.incomplete while it is on its way
        snapshots/<commit>/<file>   links into blobs
        refs/<revision>             commit a branch pointed at when it was last resolved
        listings/                   what the hub said, for work offline
        verified/<digest>           size, time and inode of a blob whose content was checked
    <root>/hub/.locks/              who writes a blob, who uses a checkpoint, who downloads weights

The user's own cache is never touched. All locks are `flock`s: they die with their process.
"""

import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from hub import connection
from store.artifacts import root
from store.identity import CHUNK_BYTES, file_digest

WEIGHTS = ".safetensors"
PARTIAL = ".incomplete"

logger = logging.getLogger("grokpath.hub")


class HubFile(BaseModel):
    """One file of a commit. `sha256` is known for large files, `git_sha1` (of the blob) for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[\w-][\w.-]*$")
    size: int
    sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    git_sha1: str = Field(pattern=r"^[0-9a-f]{40}$")

    @property
    def digest(self) -> str:
        """What the content is checked against, and the blob's name."""
        return self.sha256 or self.git_sha1

    @property
    def is_weights(self) -> bool:
        """Whether it counts in the budget and may be evicted."""
        return self.name.endswith(WEIGHTS)

    def digest_of(self, path: Path) -> str:
        """Digest of a file's content, of the kind that is known of this one."""
        if self.sha256 is not None:
            return file_digest(path)
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()


# ---------------------------------------------------------------- places


def cache_root() -> Path:
    """Folder of everything that came from a hub."""
    return root() / "hub"


def storage(repository: str, kind: str = "model") -> Path:
    """Folder of one repository."""
    return cache_root() / f"{kind}s--{repository.replace('/', '--')}"


def snapshot(repository: str, commit: str) -> Path:
    """Folder with the files of one commit under their own names."""
    return storage(repository) / "snapshots" / commit


def blob(repository: str, file: HubFile) -> Path:
    """Place of a file's content."""
    return storage(repository) / "blobs" / file.digest


def partial(repository: str, file: HubFile) -> Path:
    """Place of a file's content while it is on its way; one per content."""
    return blob(repository, file).with_name(file.digest + PARTIAL)


def remembered(path: Path, ask: Callable[[], Any]) -> Any:
    """What the hub says, written down; offline what it said last time, None if it never did."""
    if connection.offline():
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    answer = ask()
    write(path, json.dumps(answer))
    return answer


def write(path: Path, text: str) -> None:
    """Put a small file in place at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    trial = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns()}")
    try:
        trial.write_text(text, encoding="utf-8")
        trial.replace(path)
    finally:
        trial.unlink(missing_ok=True)


# ---------------------------------------------------------------- locks


def lock_file(folder: Path, name: str) -> Path:
    """Place of a lock that belongs to a repository's folder, or to the whole cache."""
    path = cache_root() / ".locks" / folder.name / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked_blob(folder: Path, digest: str) -> Iterator[None]:
    """Hold the right to write one blob of a repository's folder; a second writer waits."""
    with lock_file(folder, f"{digest}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def if_free(path: Path) -> Iterator[bool]:
    """Hold a lock when nobody else does, and say whether that is so."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class Lease:
    """Keeps a checkpoint's weights on disk until it is released, or its process ends."""

    def __init__(self, repository: str, commit: str) -> None:
        self._file = lease_file(storage(repository), commit).open("a")
        fcntl.flock(self._file, fcntl.LOCK_SH)
        os.utime(self._file.fileno())

    def release(self) -> None:
        """Let the weights go when room is needed; may be called twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def hold(repository: str, commit: str) -> Lease:
    """A lease on a checkpoint, here or not yet: take it before bringing, keep it while in use."""
    return Lease(repository, commit)


def lease_file(folder: Path, commit: str) -> Path:
    """Lock that users of a checkpoint share; its time is that of the last use."""
    return lock_file(folder, f"{commit}.lease")


# ---------------------------------------------------------------- content


def adopt(repository: str, commit: str, file: HubFile) -> bool:
    """Whether a file's whole content is here; if so it is linked into the commit's folder.

    Waits for another process that is just writing it.
    """
    folder = storage(repository)
    if _is_linked(folder, commit, file) and _is_marked(folder, file):
        return True
    with locked_blob(folder, file.digest):
        return adopt_locked(repository, commit, file)


def adopt_locked(repository: str, commit: str, file: HubFile) -> bool:
    """The same for the holder of the blob's lock; content that has changed is deleted."""
    folder, path = storage(repository), blob(repository, file)
    if not path.is_file():
        return False
    if not _is_marked(folder, file):
        if path.stat().st_size != file.size or file.digest_of(path) != file.digest:
            logger.warning("%s of %s was changed here; deleted", file.name, repository)
            path.unlink()
            return False
        _mark(folder, file)
    _link(folder, commit, file)
    return True


def settle(repository: str, commit: str, file: HubFile) -> None:
    """Turn a partial file, found whole by its digest, into the content it is."""
    folder = storage(repository)
    partial(repository, file).replace(blob(repository, file))
    _mark(folder, file)
    _link(folder, commit, file)


def links(folder: Path) -> Iterator[tuple[str, str]]:
    """What a repository's commits link: name of the file, digest."""
    for link in folder.glob("snapshots/*/*"):
        with suppress(OSError):  # gone meanwhile
            yield link.name, link.readlink().name


def _signature(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"


def _is_marked(folder: Path, file: HubFile) -> bool:
    mark, path = folder / "verified" / file.digest, folder / "blobs" / file.digest
    return mark.is_file() and path.is_file() and mark.read_text() == _signature(path)


def _mark(folder: Path, file: HubFile) -> None:
    write(folder / "verified" / file.digest, _signature(folder / "blobs" / file.digest))


def _is_linked(folder: Path, commit: str, file: HubFile) -> bool:
    link = folder / "snapshots" / commit / file.name
    return link.is_symlink() and link.readlink().name == file.digest


def _link(folder: Path, commit: str, file: HubFile) -> None:
    if _is_linked(folder, commit, file):
        return
    link = folder / "snapshots" / commit / file.name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(Path("..") / ".." / "blobs" / file.digest)
