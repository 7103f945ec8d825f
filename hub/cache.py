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
import json
import logging
import os
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Self

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


def remembered(path: Path, request: Callable[[], Any]) -> Any:
    """What the hub answers, written down; offline its last answer, None without one."""
    if connection.offline():
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    answer = request()
    _write(path, json.dumps(answer))
    return answer


def _write(path: Path, text: str) -> None:
    """Write a small file in one piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


# ---------------------------------------------------------------- locks


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


class Lease:
    """Protects a checkpoint's weights, cached or not yet, until released or its process ends."""

    def __init__(self, repository: str, commit: str) -> None:
        self._file = _lease_file(snapshot(repository, commit)).open("a")
        fcntl.flock(self._file, fcntl.LOCK_SH)
        os.utime(self._file.fileno())

    def release(self) -> None:
        """Admit eviction; may be called twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _lease_file(folder: Path) -> Path:
    """Lock that users of a commit's folder share; its time is that of the last use."""
    return _lock(folder.parent.parent, f"{folder.name}.lease")


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

    Take a :class:`Lease` first and release it after use: weights without one are evicted when
    another checkpoint needs the space.

    Parameters
    ----------
    files
        What :func:`~hub.repositories.resolve` found at this commit.
    budget_bytes
        Most bytes of weights on disk at any time, of all repositories.
    weights
        False leaves out the weights; configuration and tokenizer are small and never evicted.

    Raises
    ------
    ValueError
        When files cannot be had, come damaged, or have no space.
    """
    files = [file for file in files if weights or not file.is_weights]
    with Lease(repository, commit):
        missing = [file for file in files if not is_cached(repository, commit, file)]
        _check_online(repository, commit, missing)
        heavy = [file for file in files if file.is_weights]
        space = _space(repository, commit, heavy, budget_bytes)
        with space if any(file.is_weights for file in missing) else nullcontext():
            done, total = 0, sum(file.size for file in missing)
            for file in sorted(missing, key=lambda file: file.is_weights):

                def follow(num_bytes: int, file: HubFile = file, done: int = done) -> None:
                    on_progress(done + num_bytes, total, file.name)

                fetch(repository, commit, file, follow)
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
    reason = ""
    for _ in range(ATTEMPTS):
        if is_cached(repository, commit, file):
            return path
        _check_online(repository, commit, [file])
        _delete(path)
        try:
            connection.download(repository, commit, file.name, cache_root(), on_bytes)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise ValueError(_full_disk(repository, commit, error)) from error
            if error.errno is not None:
                raise
            reason = str(error).splitlines()[0]
        else:
            reason = "the content has another digest"
    if is_cached(repository, commit, file):
        return path
    _delete(path)
    raise ValueError(
        f"{file.name} of {repository} at {commit} came damaged or in part {ATTEMPTS} times: "
        f"expected {file.size} bytes with digest {file.digest}; last: {reason}. Nothing of it "
        "stays on disk; if it happens again, the file is broken on the hub or on the way"
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
    _write(mark, signature)
    return True


def _delete(path: Path) -> None:
    """Delete a damaged file, its content first."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _check_online(repository: str, commit: str, missing: Sequence[HubFile]) -> None:
    if missing and connection.offline():
        raise ValueError(
            f"offline (HF_HUB_OFFLINE), and {storage(repository)} lacks "
            f"{', '.join(file.name for file in missing)} of {repository} at {commit}; run once "
            "with a network, or copy the files' cache from a machine that has it"
        )


def _full_disk(repository: str, commit: str, error: OSError) -> str:
    return (
        f"the disk of {cache_root()} became full while {repository} at {commit[:12]} was "
        f"downloaded ({error.strerror}); the unfinished file was deleted. Free some space, "
        "lower runtime.disk_budget or choose another folder with --root or GROKPATH_ROOT"
    )


# ---------------------------------------------------------------- budget


@contextmanager
def _space(
    repository: str, commit: str, weights: Sequence[HubFile], budget_bytes: int
) -> Iterator[None]:
    """Hold the right to download a checkpoint's weights, once there is space for them.

    Raises
    ------
    ValueError
        When they would not fit if every other checkpoint were evicted.
    """
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
    """Evict the weights longest unused until these fit; what prevents it, or nothing."""
    _delete_unlinked()
    own = snapshot(repository, commit)
    reason = _lack(repository, commit, weights, budget_bytes)
    for folder in sorted(_weights(), key=_last_used):
        if reason and folder != own and evict(folder):
            reason = _lack(repository, commit, weights, budget_bytes)
    return reason


def _lack(repository: str, commit: str, weights: Sequence[HubFile], budget_bytes: int) -> str:
    """What there is too little of for these weights, or nothing; refused if there never is."""
    what = f"the weights of {repository} at {commit[:12]}"
    sizes = {blob(repository, file): file.size for file in weights}
    on_disk = {path: size for blobs in _weights().values() for path, size in blobs.items()}
    needed, others = sum(sizes.values()), sum(on_disk[path] for path in on_disk.keys() - sizes)
    missing = needed - sum(on_disk.get(path, 0) for path in sizes)
    if needed > budget_bytes:
        raise ValueError(
            f"{what} are {gigabytes(needed)}, more than the disk budget of "
            f"{gigabytes(budget_bytes)} holds; raise runtime.disk_budget"
        )
    free = shutil.disk_usage(cache_root()).free
    if missing > free + others:
        raise ValueError(
            f"{what} need {gigabytes(missing)} more, and {cache_root()} has {gigabytes(free)} "
            f"free and {gigabytes(others)} to evict; free some space or choose another folder "
            "with --root or GROKPATH_ROOT"
        )
    if needed + others > budget_bytes:
        return (
            f"of the disk budget of {gigabytes(budget_bytes)} other checkpoints use "
            f"{gigabytes(others)}"
        )
    if missing > free:
        return f"{gigabytes(free)} are free in {cache_root()}, and other checkpoints are in use"
    return ""


def _weights() -> dict[Path, dict[Path, int]]:
    """Bytes of the blobs of weights on disk, by the commits' folders that link them."""
    found: dict[Path, dict[Path, int]] = defaultdict(dict)
    for link in cache_root().glob(f"models--*/snapshots/*/*{WEIGHTS}"):
        with suppress(FileNotFoundError):
            blobs = link.parent.parent.parent / "blobs"
            found[link.parent][blobs / link.readlink().name] = link.stat().st_size
    return found


def _last_used(folder: Path) -> float:
    lease = _lease_file(folder)
    return lease.stat().st_mtime if lease.is_file() else 0.0


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
    for folder in cache_root().glob("models--*"):
        linked = _linked(folder)
        for path in folder.glob("blobs/*"):
            if path.name in linked:
                continue
            with _if_free(_lock(folder, f"{path.name.split('.')[0]}.lock")) as free:
                if free and path.name not in _linked(folder):  # by now
                    path.unlink(missing_ok=True)


def _linked(folder: Path) -> set[str]:
    """Names of the blobs that a repository's commits link."""
    names = set()
    for link in folder.glob("snapshots/*/*"):
        with suppress(OSError):  # deleted meanwhile
            names.add(link.readlink().name)
    return names


def gigabytes(num_bytes: int) -> str:
    """A size for a reader, such as `13.8 GB`."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes} bytes"
