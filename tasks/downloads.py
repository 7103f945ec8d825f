"""Bring what a step needs from a hub, just before it computes, and let it go when all are done.

Weights are too large to keep. A step that has to compute brings its checkpoint; a step whose
artifact is there brings nothing. The flow lets a checkpoint's steps start when an earlier one is
released (:func:`num_in_flight`), so what is in use fits into `runtime.disk_budget`, and the next
download runs while this checkpoint is measured.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prefect import task

from store.artifacts import Artifact, Checkpoint, Tokenizer
from studies.settings import Runtime
from tasks import cluster
from tasks.listeners import Event, Kind, emit

if TYPE_CHECKING:
    from hub.repositories import RevisionFiles

PINNED = "revision.json"
"""File of a pinned revision's artifact with its commit and files."""

_held: dict[tuple[str, str], Any] = {}  # leases, by series and commit
_lock = threading.Lock()


def bring_inputs(inputs: dict[str, Any], runtime: Runtime, *, weights: bool) -> None:
    """Have the files of every tokenizer among a step's inputs here, and with `weights` checkpoints.

    These stay held by this process until :func:`release_checkpoint`, which is to run in it too.

    Raises
    ------
    ValueError
        When they cannot be had, or there is no room.
    """
    for value in inputs.values():
        wanted = (isinstance(value, Checkpoint) and weights) or isinstance(value, Tokenizer)
        if wanted and value.pinned is not None:
            _bring(value, runtime)


@contextmanager
def inputs_here(inputs: dict[str, Any], runtime: Runtime, *, weights: bool) -> Iterator[None]:
    """Have what a body reads from a hub here while it computes.

    In a process of the flow's own, weights stay until all that reads them is done. The workers of a
    cluster hold theirs while they compute only, because the release may run in another of them:
    between two bodies weights may go, when others need the room, and are brought again.
    """
    bring_inputs(inputs, runtime, weights=weights)
    try:
        yield
    finally:
        if cluster.worker() is not None:  # computes one body at a time: all leases are this one's
            with _lock:
                leases = [_held.pop(key) for key in list(_held)]
            for lease in leases:
                lease.release()


def _bring(reference: Checkpoint | Tokenizer, runtime: Runtime) -> None:
    from hub.cache import Lease, download

    assert reference.pinned is not None
    found = pinned_files(reference.pinned)
    weights = isinstance(reference, Checkpoint)
    label = f"download {found.repository} {found.revision}"
    if weights:
        assert isinstance(reference, Checkpoint)
        with _lock:
            if (reference.series, found.commit) not in _held:
                _held[reference.series, found.commit] = Lease(found.repository, found.commit)

    def follow(done: int, total: int, name: str) -> None:
        megabytes = done // 10**6, max(1, total // 10**6)
        emit(Event("download", label, Kind.progress, *megabytes, f"MB, {name}"))

    download(
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


@task(name="release", task_run_name="release {checkpoint.series} {checkpoint.revision}")
def release_checkpoint(checkpoint: Checkpoint) -> None:
    """Let a checkpoint's weights go when the disk budget asks for room; deletes nothing itself."""
    _let_go(checkpoint)


def _let_go(checkpoint: Checkpoint) -> None:
    with _lock:  # named from here only, as a task that travels takes along what it names
        lease = _held.pop((checkpoint.series, str(checkpoint.digest)), None)
    if lease is not None:
        lease.release()
