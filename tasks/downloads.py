"""Download what a step reads from a hub just before it computes, and release it when all are done.

Weights are too large to store. A step that has to compute downloads its checkpoint; a step whose
artifact exists downloads nothing. The flow starts a checkpoint's steps when an earlier one is
released (:func:`num_in_flight`), so what is in use fits into `runtime.disk_budget`, and the next
download runs while this checkpoint is measured.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from store.artifacts import Artifact, Checkpoint, Tokenizer
from studies.settings import Runtime
from tasks import workers
from tasks.listeners import Event, Kind, emit

if TYPE_CHECKING:
    from hub.repositories import RevisionFiles

PINNED = "revision.json"
"""File of a pinned revision's artifact with its commit and files."""

_leases: dict[tuple[str, str], TextIO] = {}  # by series and commit
_lock = threading.Lock()


@contextmanager
def inputs_here(inputs: dict[str, Any], runtime: Runtime, *, weights: bool) -> Iterator[None]:
    """Have the files of every tokenizer among a step's inputs here, and with `weights` checkpoints.

    In a process of the flow's own, leases last until :func:`release_checkpoint`. The workers of a
    cluster have theirs while they compute only, because the release may run in another of them:
    between two bodies weights may be evicted, and are downloaded again.

    Raises
    ------
    ValueError
        When files cannot be had, or there is no space.
    """
    try:
        for value in inputs.values():
            wanted = isinstance(value, Tokenizer) or (isinstance(value, Checkpoint) and weights)
            if wanted and value.pinned is not None:
                _download(value, runtime)
        yield
    finally:
        if workers.dask_worker() is not None:  # one body at a time: all leases are this one's
            with _lock:
                closed = [_leases.pop(key) for key in list(_leases)]
            for lease in closed:
                lease.close()


def _download(reference: Checkpoint | Tokenizer, runtime: Runtime) -> None:
    from hub import cache

    assert reference.pinned is not None
    found = pinned_files(reference.pinned)
    weights = isinstance(reference, Checkpoint)
    if isinstance(reference, Checkpoint):
        with _lock:
            key = reference.series, found.commit
            _leases[key] = _leases.get(key) or cache.lease(found.repository, found.commit)
    label = f"download {found.repository} {found.revision}"

    def follow(done: int, total: int, name: str) -> None:
        megabytes = done // 10**6, max(1, total // 10**6)
        emit(Event("download", label, Kind.progress, *megabytes, f"MB, {name}"))

    cache.download(
        found.repository,
        found.commit,
        found.files,
        budget_bytes=int(runtime.disk_budget),
        weights=weights,
        on_progress=follow,
    )
    emit(Event("download", label, Kind.computed, 1))


def pinned_files(pinned: Artifact) -> "RevisionFiles":
    """The commit and files of a revision, as they were when it was pinned."""
    from hub.repositories import RevisionFiles

    text = (pinned.path / PINNED).read_text(encoding="utf-8")
    found: RevisionFiles = RevisionFiles.model_validate_json(text)
    return found


def num_in_flight(checkpoints: list[Checkpoint], runtime: Runtime) -> int:
    """How many checkpoints may be in use at once: as many of the largest as the budget holds."""
    sizes = [c.pinned.summary["num_bytes"] for c in checkpoints if c.pinned is not None]
    if not sizes:
        return max(1, len(checkpoints))
    return max(1, int(runtime.disk_budget) // max(1, max(sizes)))


def release_checkpoint(checkpoint: Checkpoint) -> None:
    """Admit a checkpoint's weights to eviction; deletes nothing itself."""
    with _lock:
        lease = _leases.pop((checkpoint.series, str(checkpoint.digest)), None)
    if lease is not None:
        lease.close()
