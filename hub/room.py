"""Room for weights: a budget on disk, and what goes when it is used up.

Only weights are large, so only they count and only they are evicted. One process downloads weights
at a time; therefore the budget holds whoever else runs.
"""

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hub.cache import (
    PARTIAL,
    WEIGHTS,
    HubFile,
    cache_root,
    if_free,
    lease_file,
    links,
    lock_file,
    storage,
)

POLL_SECONDS = 0.5

logger = logging.getLogger("grokpath.hub")


@contextmanager
def room(
    repository: str,
    commit: str,
    weights: Sequence[HubFile],
    budget_bytes: int | None,
    wait_seconds: float,
) -> Iterator[None]:
    """Hold the right to download a checkpoint's weights, with room made for them.

    What nobody holds goes first: leftovers of interrupted downloads, then the weights longest
    unused. When all that is here is held, the room is waited for.

    Raises
    ------
    ValueError
        When there can be no room, or there was none for `wait_seconds`.
    """
    what = f"the weights of {repository} at {commit[:12]}"
    _check_possible(what, repository, weights, budget_bytes)
    path = lock_file(cache_root(), "weights.lock")
    started_at, said = time.monotonic(), ""
    while True:
        with if_free(path) as free:
            # The lock is let go while waiting, so that whoever holds weights can complete them.
            why, level = "another download of weights is under way", logging.INFO
            if free:
                why = _make_room(repository, commit, weights, budget_bytes)
                level = logging.WARNING
            if not why:
                yield
                return
        if time.monotonic() - started_at > wait_seconds:
            raise ValueError(
                f"{what} had to wait for longer than {wait_seconds:.0f} s: {why}. Run again when "
                "other runs are done, or raise runtime.disk_budget"
            )
        if why != said:
            logger.log(level, "%s wait: %s", what, why)
            said = why
        time.sleep(POLL_SECONDS)


def _check_possible(
    what: str, repository: str, weights: Sequence[HubFile], budget_bytes: int | None
) -> None:
    """Refuse what would not fit if everything else were gone."""
    needed, here, others = _bytes(repository, weights)
    if budget_bytes is not None and needed > budget_bytes:
        raise ValueError(
            f"{what} are {gigabytes(needed)}, more than the disk budget of "
            f"{gigabytes(budget_bytes)} holds; raise runtime.disk_budget"
        )
    free = shutil.disk_usage(cache_root()).free
    if needed - here > free + others:
        raise ValueError(
            f"{what} need {gigabytes(needed - here)} more, and {cache_root()} has "
            f"{gigabytes(free)} free and {gigabytes(others)} to evict; free some space or choose "
            "another folder with --root or GROKPATH_ROOT"
        )


def _make_room(
    repository: str, commit: str, weights: Sequence[HubFile], budget_bytes: int | None
) -> str:
    """Evict until the weights fit; what is in the way when that is not enough, or nothing."""
    while why := _lack(repository, weights, budget_bytes):
        if not (_drop_leftover(repository, weights) or _evict_oldest(but=commit)):
            return why
    return ""


def _lack(repository: str, weights: Sequence[HubFile], budget_bytes: int | None) -> str:
    needed, here, others = _bytes(repository, weights)
    if budget_bytes is not None and others + needed > budget_bytes:
        return (
            f"of the disk budget of {gigabytes(budget_bytes)} other checkpoints use "
            f"{gigabytes(others)}"
        )
    free = shutil.disk_usage(cache_root()).free
    if needed - here > free:
        return f"{gigabytes(free)} are free in {cache_root()}, and other checkpoints are in use"
    return ""


def _bytes(repository: str, weights: Sequence[HubFile]) -> tuple[int, int, int]:
    """Bytes of the weights, those of them that are here, and all others that count."""
    sizes = {file.digest: file.size for file in weights}
    blobs = storage(repository) / "blobs"
    here = others = 0
    for path, size in heavy().items():
        if path.parent == blobs and path.name.removesuffix(PARTIAL) in sizes:
            here += size
        else:
            others += size
    return sum(sizes.values()), here, others


def heavy() -> dict[Path, int]:
    """Bytes of all content that counts: weights, partial files, what no commit links."""
    sizes = {}
    for folder in cache_root().glob("models--*"):
        small = {digest for name, digest in links(folder) if not name.endswith(WEIGHTS)}
        for path in folder.glob("blobs/*"):
            if path.name not in small:
                with suppress(FileNotFoundError):
                    sizes[path] = path.stat().st_size
    return sizes


def _drop_leftover(repository: str, weights: Sequence[HubFile]) -> bool:
    """Delete a partial or unlinked file that is not wanted now and that nobody is writing."""
    wanted = {storage(repository) / "blobs" / file.digest for file in weights}
    return any(
        _drop_unlinked(path)
        for path in heavy()
        if path.with_name(path.name.removesuffix(PARTIAL)) not in wanted
    )


def _drop_unlinked(path: Path) -> bool:
    """Delete a blob or partial file unless a commit links it or somebody is writing it."""
    folder, digest = path.parent.parent, path.name.removesuffix(PARTIAL)
    with if_free(lock_file(folder, f"{digest}.lock")) as free:
        linked = any(found == path.name for _, found in links(folder))
        if not free or linked or not path.is_file():
            return False
        path.unlink()
        (folder / "verified" / digest).unlink(missing_ok=True)
    return True


def _evict_oldest(*, but: str) -> bool:
    """Evict, of all checkpoints that nobody holds, the one longest unused."""
    found = {
        (link.parent.parent.parent, link.parent.name)
        for link in cache_root().glob(f"models--*/snapshots/*/*{WEIGHTS}")
    }

    def last_used(checkpoint: tuple[Path, str]) -> tuple[float, str]:
        return lease_file(*checkpoint).stat().st_mtime, checkpoint[1]

    oldest_first = sorted(found, key=last_used)
    return any(_evict(folder, commit) for folder, commit in oldest_first if commit != but)


def evict(repository: str, commit: str) -> bool:
    """Remove a checkpoint's weights from disk; False when somebody holds them."""
    return _evict(storage(repository), commit)


def _evict(folder: Path, commit: str) -> bool:
    with if_free(lease_file(folder, commit)) as free:
        if not free:
            return False
        for link in list((folder / "snapshots" / commit).glob(f"*{WEIGHTS}")):
            content = folder / "blobs" / link.readlink().name
            link.unlink()
            _drop_unlinked(content)
    return True


def sweep() -> int:
    """Delete what interrupted downloads have left, unless somebody is writing it; bytes freed."""
    return sum(size for path, size in heavy().items() if _drop_unlinked(path))


def gigabytes(num_bytes: int) -> str:
    """A size for a reader, such as `13.8 GB`."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes} bytes"
