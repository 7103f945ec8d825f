"""What is cached of a hub, in huggingface_hub's own layout: verified, and within a disk budget.

    <root>/hub/models--<owner>--<name>/
        blobs/<digest>              content; <digest>.<random>.incomplete while it is downloaded
        snapshots/<commit>/<file>   links into blobs
        listings/                   what the hub answered, for work offline
        verified/<digest>           size, time and inode of a blob whose content was verified
    <root>/hub/.locks/              who downloads a file or weights, who uses a checkpoint

Only weights are large, so only they count in the budget and only they are evicted. One process
downloads weights at a time; therefore the budget holds whoever else runs. The user's own cache is
never touched. All locks are `flock`s: they end with their process.
"""

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, ConfigDict, Field

from hub import connection
from store.artifacts import root
from store.identity import file_digest

WEIGHTS = ".safetensors"
ATTEMPTS = 3
POLL_SECONDS = 0.5
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

OnProgress = Callable[[int, int, str], None]
"""Receives bytes that are here, bytes in all, and the name of the file that is downloaded."""

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
        """What the content is verified against, and the blob's name."""
        return self.sha256 or self.git_sha1

    @property
    def is_weights(self) -> bool:
        """Whether it counts in the budget and may be evicted."""
        return self.name.endswith(WEIGHTS)

    def digest_of(self, path: Path) -> str:
        """Digest of a file's content, of the kind that is known of this one."""
        if self.sha256 is not None:
            return file_digest(path)
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


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


# ---------------------------------------------------------------- downloads


def download(
    repository: str,
    commit: str,
    files: Sequence[HubFile],
    *,
    budget_bytes: int = sys.maxsize,
    weights: bool = True,
    on_progress: OnProgress = lambda done, total, name: None,
) -> Path:
    """Folder with a checkpoint's files, downloaded as far as they are not cached.

    Take a :func:`lease` first and close it after use: weights without one are evicted when another
    checkpoint needs the space. `budget_bytes` is the most that weights of all repositories may take
    on disk. Without `weights` come configuration and tokenizer, which are small and never evicted.

    Raises
    ------
    ValueError
        When files cannot be had, come damaged, or have no space.
    """
    wanted = sorted((f for f in files if weights or not f.is_weights), key=lambda f: f.is_weights)
    with lease(repository, commit):
        missing = [file for file in wanted if not is_cached(repository, commit, file)]
        _check_online(repository, commit, missing)
        done, total = 0, sum(file.size for file in missing)

        def follow(name: str, done: int, num_bytes: int) -> None:
            on_progress(done + num_bytes, total, name)

        heavy = [file for file in wanted if file.is_weights]
        space = _space(repository, commit, heavy, budget_bytes)
        with space if any(file.is_weights for file in missing) else nullcontext():
            for file in missing:
                fetch(repository, commit, file, partial(follow, file.name, done))
                done += file.size
    return snapshot(repository, commit)


def fetch(
    repository: str,
    commit: str,
    file: HubFile,
    on_bytes: Callable[[int], None] = lambda num_bytes: None,
) -> Path:
    """One file of a commit, verified; downloaded unless it is cached.

    Raises
    ------
    ValueError
        When it comes damaged each time, the hub refuses it or the disk is full.
    """
    path = snapshot(repository, commit) / file.name
    reason = "the content has another digest"
    for attempt in range(ATTEMPTS + 1):
        if is_cached(repository, commit, file):
            return path
        _check_online(repository, commit, [file])
        path.resolve().unlink(missing_ok=True)  # damaged
        path.unlink(missing_ok=True)
        if attempt < ATTEMPTS:
            try:
                connection.download(repository, commit, file.name, cache_root(), on_bytes)
            except OSError as error:
                if error.errno in DISK_FULL:
                    raise _disk_full(repository, commit, error) from error
                if error.errno is not None:
                    raise
                reason = str(error).splitlines()[0]
    raise ValueError(
        f"{file.name} of {repository} at {commit} came damaged or in part {ATTEMPTS} times "
        f"({reason}): expected {file.size} bytes with digest {file.digest}. Nothing of it stays "
        "on disk; if it happens again, the file is broken on the hub or on the way"
    )


def is_cached(repository: str, commit: str, file: HubFile) -> bool:
    """Whether a file of a commit is here with its content; read only if it may have changed."""
    path = snapshot(repository, commit) / file.name
    if not path.is_file():
        return False
    stat = path.stat()
    mark = storage(repository) / "verified" / file.digest
    signature = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
    if mark.is_file() and mark.read_text() == signature:
        return True
    if stat.st_size != file.size or file.digest_of(path) != file.digest:
        logger.warning("%s of %s is damaged on disk", file.name, repository)
        return False
    with where_writable():
        mark.parent.mkdir(exist_ok=True)
        mark.write_text(signature)
    return True


@contextmanager
def where_writable() -> Iterator[None]:
    """Write notes that only save time; who looks at a read-only folder goes without them."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise


def _check_online(repository: str, commit: str, missing: Sequence[HubFile]) -> None:
    if missing and connection.offline():
        raise ValueError(
            f"offline (HF_HUB_OFFLINE), and {storage(repository)} lacks "
            f"{', '.join(file.name for file in missing)} of {repository} at {commit}; run once "
            "with a network, or copy the files' cache from a machine that has it"
        )


def _disk_full(repository: str, commit: str, error: OSError) -> ValueError:
    return ValueError(
        f"the disk of {cache_root()} became full while {repository} at {commit[:12]} was "
        f"downloaded ({error.strerror}); the unfinished file was deleted. Free some space, "
        "lower runtime.disk_budget or choose another folder with --root or GROKPATH_ROOT"
    )


# ---------------------------------------------------------------- locks


def lease(repository: str, commit: str) -> TextIO:
    """Protects a checkpoint's weights, cached or not yet, until closed or its process ends."""
    file = _lease_file(snapshot(repository, commit)).open("a")
    fcntl.flock(file, fcntl.LOCK_SH)
    os.utime(file.fileno())
    return file


def _lease_file(folder: Path) -> Path:
    """Lock that users of a commit's folder share; its time is that of the last use."""
    return _lock(folder.parent.parent, f"{folder.name}.lease")


def _lock(folder: Path, name: str) -> Path:
    """Place of a lock of a repository's folder, where huggingface_hub has its own, of blobs."""
    path = cache_root() / ".locks" / folder.name / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def _if_free(lock: Path) -> Iterator[bool]:
    """Hold a lock where nobody else does, and report whether that is so."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


# ---------------------------------------------------------------- budget


@contextmanager
def _space(
    repository: str, commit: str, weights: Sequence[HubFile], budget_bytes: int
) -> Iterator[None]:
    """Hold the right to download a checkpoint's weights, once there is space for them."""
    reported = ""
    while True:
        with _if_free(_lock(cache_root(), "weights.lock")) as free:
            # Released while waiting, so that whoever has a lease can complete its weights.
            reason = "another download of weights is under way"
            if free:
                reason = _make_space(repository, commit, weights, budget_bytes)
            if not reason:
                yield
                return
        if reason != reported:
            logger.warning("the weights of %s at %s wait: %s", repository, commit[:12], reason)
            reported = reason
        time.sleep(POLL_SECONDS)


def _make_space(repository: str, commit: str, weights: Sequence[HubFile], budget_bytes: int) -> str:
    """Evict the weights longest unused until these fit; what prevents it, or nothing.

    Raises
    ------
    ValueError
        When they would not fit if every other checkpoint were evicted.
    """
    _delete_unlinked()
    needed = {blob(repository, file): file.size for file in weights}
    size = sum(needed.values())
    links = cache_root().glob(f"models--*/snapshots/*/*{WEIGHTS}")
    folders = {link.parent for link in links} - {snapshot(repository, commit)}
    evictable = sorted(folders, key=_last_used)
    while True:
        sizes = {path: path.stat().st_size for path in _linked(WEIGHTS)}
        others = sum(num_bytes for path, num_bytes in sizes.items() if path not in needed)
        free = shutil.disk_usage(cache_root()).free
        limit = min(budget_bytes, free + sum(sizes.values()))
        limits = f"the disk budget is {gigabytes(budget_bytes)}, and {gigabytes(free)} are free"
        if size > limit:
            raise ValueError(
                f"the weights of {repository} at {commit[:12]} are {gigabytes(size)}, and at most "
                f"{gigabytes(limit)} fit into {cache_root()}: {limits}; raise runtime.disk_budget, "
                "free some space or choose another folder with --root or GROKPATH_ROOT"
            )
        if size + others <= limit:
            return ""
        evicted = next((folder for folder in evictable if evict(folder)), None)
        if evicted is None:
            return f"other checkpoints in use are {gigabytes(others)}; {limits}"
        evictable.remove(evicted)


def evict(folder: Path) -> bool:
    """Delete the weights of a commit's folder, but what others link; False while in use."""
    with _if_free(_lease_file(folder)) as free:
        if free:
            for link in folder.glob(f"*{WEIGHTS}"):
                link.unlink()
            _delete_unlinked()
    return free


def _delete_unlinked() -> None:
    """Delete content that no commit links and nobody downloads: evicted, or interrupted."""
    for path in set(cache_root().glob("models--*/blobs/*")) - _linked():
        with _if_free(_lock(path.parent.parent, f"{path.name.split('.')[0]}.lock")) as free:
            if free and path not in _linked():  # by now
                path.unlink(missing_ok=True)


def _linked(ending: str = "") -> set[Path]:
    """Blobs on disk that files with an ending are links to."""
    links = cache_root().glob(f"models--*/snapshots/*/*{ending}")
    blobs = {link.parent.parent.parent / "blobs" / link.resolve().name for link in links}
    return {path for path in blobs if path.is_file()}


def _last_used(folder: Path) -> float:
    file = _lease_file(folder)
    return file.stat().st_mtime if file.is_file() else 0.0


def gigabytes(num_bytes: int) -> str:
    """A size for a reader, such as `13.8 GB`."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes} bytes"
