"""Folders of checkpoints, as a training run writes and deletes them while we look.

* A checkpoint that is not complete (:mod:`models.checkpoints`), or whose step the study skips, is
  left out, and every command says which and why (:class:`tasks.plan.LeftOut`); when the study
  names the step of an incomplete one, that is an error.
* One that was found before and whose folder is gone stays in the series, known by its digest: a
  training run that keeps its newest checkpoints deletes what was measured. The flow leaves it out
  again where something of it was never measured (:mod:`flows.study`).
* Unless another training writes into the folder by now: what is new has a step that what is gone
  had reached already. Then what is gone is forgotten, because one curve must not mix two trainings.
"""

import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.artifacts import Checkpoint, Tokenizer
from store.locks import locked
from store.state import KnownCheckpoint, known_checkpoints, set_known_checkpoints
from studies.base import NothingYet
from studies.sources import LocalSource
from tasks.plan import STALE_SECONDS, LeftOut

if TYPE_CHECKING:
    from models.checkpoints import LocalCheckpoint

logger = logging.getLogger("prefect.grokpath")

SETTLED_SECONDS = 2.0
"""A file touched less than this ago may change again without a new time on it."""


Found = tuple[list[Checkpoint], list[LeftOut]]
"""Checkpoints of a series in order of step, and those that are left out."""


def find_checkpoints(series_name: str, source: LocalSource, looking: bool) -> Found:
    """Look into a folder of checkpoints; never cached, because a training run adds to it."""
    if looking:
        return discover(series_name, source, looking=True)
    with locked(f"folder-{hashlib.sha256(str(source.path).encode()).hexdigest()[:20]}"):
        return discover(series_name, source)


def discover(series_name: str, source: LocalSource, *, looking: bool = False) -> Found:
    """Complete checkpoints of a folder and those that were, known by the SHA-256 of their files.

    In order of step. Who only looks writes nothing down.

    Raises
    ------
    NothingYet
        When there is no complete checkpoint.
    ValueError
        When a wanted step is missing or incomplete, one will never be read, two have the same
        weights, or they are not of one model.
    """
    known = known_checkpoints(source.path)
    there = _listed(source, known)
    found, left_out = _complete(series_name, there, source, known)
    gone = _gone(known, there, found, source)
    if not looking:
        # What was complete and is damaged now is not new when it is repaired.
        names = {*(one.name for one in gone), *(one.revision for one in left_out)}
        remembered = {one.name: one for one in known.values() if one.name in names}
        remembered |= {one.name: one for one in found}
        set_known_checkpoints(source.path, list(remembered.values()))
    wanted = [one for one in [*found, *gone] if _is_wanted(one.step, source)]
    missing = sorted(set(source.steps or ()) - {one.step for one in wanted} - {*source.skip_steps})
    if missing:
        raise ValueError(
            f"{source.path}: no checkpoint for step {', '.join(map(str, missing))}; found "
            f"steps {', '.join(str(one.step) for one in there)}"
        )
    if not wanted:
        lines = "".join(f"\n{one}" for one in left_out)
        raise NothingYet(f"{source.path} holds no complete checkpoint yet{lines}")
    checkpoints = [
        Checkpoint(
            series=series_name,
            step=one.step,
            tokens_seen=one.tokens_seen,
            revision=one.name,
            digest=one.digest,
            location=str(source.path / one.name),
        )
        for one in sorted(wanted, key=lambda one: one.step)
    ]
    _refuse_twins(checkpoints)
    _refuse_strangers(series_name, source, found)
    return checkpoints, left_out


def is_gone(checkpoint: Checkpoint) -> bool:
    """Whether the folder of a local checkpoint was deleted since it was seen."""
    return _is_local(checkpoint) and not checkpoint.path.is_dir()


def local_tokenizer(checkpoints: list[Checkpoint]) -> Tokenizer:
    """The tokenizer of a series: that beside the first weights that are still there."""
    from models.checkpoints import tokenizer_digest

    there = next((one for one in checkpoints if not is_gone(one)), None)
    if there is not None:
        return Tokenizer(digest=tokenizer_digest(there.path), location=there.location)
    first = checkpoints[0]
    digest = known_checkpoints(first.path.parent)[first.revision].tokenizer_digest
    return Tokenizer(digest=digest, location=first.location)


@contextmanager
def unchanged(inputs: dict[str, Any]) -> Iterator[None]:
    """Refuse what was computed from local checkpoints that are not, or no longer, what was seen.

    Costs a look at each file's size and times, unless they changed. A folder that is deleted
    meanwhile is no change: what was read of it is what it was.

    Raises
    ------
    ValueError
        Naming the checkpoint.
    """
    local = [one for one in inputs.values() if isinstance(one, Checkpoint) and _is_local(one)]
    for checkpoint in local:
        if is_gone(checkpoint):
            raise ValueError(
                f"{checkpoint.path} was deleted before this was measured on it; the next run goes "
                "on without it"
            )
        _refuse_changed(checkpoint)
    yield
    for checkpoint in local:
        if not is_gone(checkpoint):
            _refuse_changed(checkpoint)


def _is_local(checkpoint: Checkpoint) -> bool:
    return checkpoint.pinned is None and Path(checkpoint.location).is_absolute()


def _refuse_changed(checkpoint: Checkpoint) -> None:
    from models.checkpoints import checkpoint_digest, stamps

    known = known_checkpoints(checkpoint.path.parent).get(checkpoint.revision)
    if known and known.digest == checkpoint.digest and known.stamps == stamps(checkpoint.path):
        return
    if checkpoint_digest(checkpoint.path) != checkpoint.digest:
        raise ValueError(
            f"{checkpoint.path} has changed since the study looked at it, so nothing is saved that "
            "was measured on it; run again"
        )


def _listed(source: LocalSource, known: dict[str, KnownCheckpoint]) -> "list[LocalCheckpoint]":
    from models.checkpoints import list_checkpoints

    try:
        return list_checkpoints(source.path)
    except NothingYet:
        if not known:
            raise
        return []


def _is_wanted(step: int, source: LocalSource) -> bool:
    return step not in source.skip_steps and (source.steps is None or step in source.steps)


def _complete(
    series_name: str,
    there: "list[LocalCheckpoint]",
    source: LocalSource,
    known: dict[str, KnownCheckpoint],
) -> tuple[list[KnownCheckpoint], list[LeftOut]]:
    """Those that are complete, with their digests, and the others with the reason."""
    from models.checkpoints import refuse_unreadable, why_incomplete

    found, left_out = [], []
    for one in there:
        if one.step in source.skip_steps:
            left_out.append(LeftOut(series_name, one.name, one.step, "the study skips its step"))
        if not _is_wanted(one.step, source):
            continue
        refuse_unreadable(one.path, source.complete_marker)
        why = why_incomplete(one.path, source.complete_marker)
        identified = None if why else _identified(one, known.get(one.name))
        if identified is not None:
            found.append(identified)
            continue
        why = why or "its files change while they are read"
        if source.steps is not None:
            raise ValueError(
                f"{one.path} is not complete: {why}. The study names its step; wait until it is "
                "written, or leave it out"
            )
        left_out.append(_incomplete(series_name, one, why, one.name in known))
    return found, left_out


def _incomplete(series_name: str, one: "LocalCheckpoint", why: str, was_complete: bool) -> LeftOut:
    reason, _, numbers = why.partition(" (")
    numbers = f" ({numbers}" if numbers else ""
    if was_complete:
        reason = f"it was complete before, and now {reason}"
        advice = f"{numbers}; restore its files, or name its step in skip_steps"
        return LeftOut(series_name, one.name, one.step, reason, advice)
    advice = (
        f"{numbers}; it is measured once it is complete. If nobody writes it any more, complete "
        "it, delete it, or name its step in skip_steps"
    )
    return LeftOut(series_name, one.name, one.step, reason, advice, _is_stale(one.path))


def _is_stale(folder: Path) -> bool:
    """Whether nobody has touched a folder or its files for a while."""
    try:
        newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:
        return False
    return time.time() - newest > STALE_SECONDS


def _identified(one: "LocalCheckpoint", known: KnownCheckpoint | None) -> KnownCheckpoint | None:
    """A checkpoint with its digest, read only where its files were touched; None if they are now.

    What vanishes meanwhile counts as touched.
    """
    from models.checkpoints import checkpoint_digest, stamps, tokenizer_digest

    try:
        before = stamps(one.path)
        if known is not None and known.stamps == before:
            return known
        newest = max(max(stamp[1], stamp[2]) for stamp in before.values()) / 1e9
        settled = time.time() - newest > SETTLED_SECONDS
        digest, tokenizer = checkpoint_digest(one.path), tokenizer_digest(one.path)
        if stamps(one.path) != before:
            return None
    except (FileNotFoundError, ValueError):
        return None
    return KnownCheckpoint(
        name=one.name,
        step=one.step,
        tokens_seen=one.tokens_seen,
        digest=digest,
        tokenizer_digest=tokenizer,
        stamps=before if settled else {},
    )


def _gone(
    known: dict[str, KnownCheckpoint],
    there: "list[LocalCheckpoint]",
    found: list[KnownCheckpoint],
    source: LocalSource,
) -> list[KnownCheckpoint]:
    """Those whose folders were deleted since, unless they were another training's."""
    names, steps = {one.name for one in there}, {one.step for one in there}
    digests = {one.digest for one in found}
    gone = [
        one
        for one in known.values()
        if one.name not in names and one.step not in steps and one.digest not in digests
    ]
    new = [one for one in found if one.name not in known or known[one.name].digest != one.digest]
    last = max((one.step for one in gone), default=-1)
    again = [one.step for one in new if one.step <= last]
    if again:
        logger.warning(
            "%s: step %d is new although step %d was there before and is gone, so another training "
            "writes here by now; the %d deleted checkpoints are left out of the series",
            source.path, min(again), last, len(gone),
        )  # fmt: skip
        return []
    return gone


def _refuse_twins(checkpoints: list[Checkpoint]) -> None:
    twins: dict[str | None, str] = {}
    for checkpoint in checkpoints:
        twin = twins.setdefault(checkpoint.digest, checkpoint.revision)
        if twin != checkpoint.revision:
            raise ValueError(
                f"checkpoints {twin} and {checkpoint.revision} are identical, byte for byte; one "
                "of them is mislabelled. Remove one, or choose steps in the study"
            )


def _refuse_strangers(series_name: str, source: LocalSource, found: list[KnownCheckpoint]) -> None:
    """Refuse those that are not the same model as the first; of what is gone nothing is known."""
    from models.series import Member, check_series

    in_order = sorted(found, key=lambda one: one.step)
    members = [Member(one.name, source.path / one.name, one.tokenizer_digest) for one in in_order]
    check_series(series_name, members)
