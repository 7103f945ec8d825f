"""Folders of checkpoints, as a training run writes and deletes them while we look.

* A checkpoint that is not complete (:mod:`models.complete`) is left out, with a warning that says
  why; when the study names its step, that is an error.
* One that was seen before and whose folder is gone stays in the series, known by its digest: a
  training run that keeps its newest checkpoints deletes what was measured. The flow leaves it out
  again where something of it was never measured (:mod:`flows.kept`).
* Unless another training writes into the folder by now: what is new has a step that what is gone
  had reached already. Then what is gone is forgotten, because one curve must not mix two trainings.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from store import seen
from store.artifacts import Checkpoint, Tokenizer
from store.seen import Seen
from studies.base import NothingYet
from studies.sources import LocalSource
from studies.spec import Series
from tasks.plan import current_plan

if TYPE_CHECKING:
    from models.digest import LocalCheckpoint

logger = logging.getLogger("prefect.grokpath")

SETTLED_SECONDS = 2.0
"""A file touched less than this ago may change again without a new time on it."""


def find_checkpoints(series: Series) -> list[Checkpoint]:
    """Look into a folder of checkpoints, as a Prefect task inside a flow, directly in a plan."""
    assert series.source.kind == "local"
    look: Callable[[str, LocalSource], list[Checkpoint]]
    look = discover if current_plan() is not None else discover_checkpoints
    return look(series.name, series.source)


@task(name="discover", task_run_name="discover {series_name}")
def discover_checkpoints(series_name: str, source: LocalSource) -> list[Checkpoint]:
    """Look into a folder of checkpoints; never cached, because a training run adds to it."""
    with seen.looking(source.path):
        return discover(series_name, source)


def discover(series_name: str, source: LocalSource) -> list[Checkpoint]:
    """Complete checkpoints of a folder and those that were, known by the SHA-256 of their files.

    In order of step. A plan writes nothing down.

    Raises
    ------
    NothingYet
        When there is no complete checkpoint.
    ValueError
        When a wanted step is missing or incomplete, one will never be read, two have the same
        weights, or they are not of one model.
    """
    known = seen.recall(source.path)
    there = _listed(source, known)
    found = _complete(there, source, known)
    gone = _gone(known, there, found, source)
    if current_plan() is None:
        kept = {one.name: one for one in known.values() if one.name in {g.name for g in gone}}
        seen.remember(source.path, {**kept, **{one.name: one for one in found}})
    wanted = [one for one in [*found, *gone] if source.steps is None or one.step in source.steps]
    missing = sorted(set(source.steps or ()) - {one.step for one in wanted})
    if missing:
        raise ValueError(
            f"{source.path}: no checkpoint for step {', '.join(map(str, missing))}; found "
            f"steps {', '.join(str(one.step) for one in there)}"
        )
    if not wanted:
        raise NothingYet(f"{source.path} holds no complete checkpoint yet")
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
    return checkpoints


def is_gone(checkpoint: Checkpoint) -> bool:
    """Whether the folder of a local checkpoint was deleted since it was seen."""
    return _is_local(checkpoint) and not checkpoint.path.is_dir()


def local_tokenizer(checkpoints: list[Checkpoint]) -> Tokenizer:
    """The tokenizer of a series: that beside the first weights that are still there."""
    from models.digest import tokenizer_digest

    there = next((one for one in checkpoints if not is_gone(one)), None)
    if there is not None:
        return Tokenizer(digest=tokenizer_digest(there.path), location=there.location)
    first = checkpoints[0]
    digest = seen.recall(first.path.parent)[first.revision].tokenizer_digest
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
    from models.digest import checkpoint_digest, stamps

    known = seen.recall(checkpoint.path.parent).get(checkpoint.revision)
    if known and known.digest == checkpoint.digest and known.stamps == stamps(checkpoint.path):
        return
    if checkpoint_digest(checkpoint.path) != checkpoint.digest:
        raise ValueError(
            f"{checkpoint.path} has changed since the study looked at it, so nothing is kept that "
            "was measured on it; run again"
        )


def _listed(source: LocalSource, known: dict[str, Seen]) -> "list[LocalCheckpoint]":
    from models.digest import list_checkpoints

    try:
        return list_checkpoints(source.path)
    except NothingYet:
        if not known:
            raise
        return []


def _complete(
    there: "list[LocalCheckpoint]", source: LocalSource, known: dict[str, Seen]
) -> list[Seen]:
    """Those that are complete, with their digests; the others are told."""
    from models.complete import refuse_unreadable, why_incomplete

    found = []
    for one in there:
        if source.steps is not None and one.step not in source.steps:
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
        logger.warning("left out until it is complete: %s: %s", one.path, why)
    return found


def _identified(one: "LocalCheckpoint", known: Seen | None) -> Seen | None:
    """A checkpoint with its digest, read only where its files were touched; None if they are now.

    What vanishes meanwhile counts as touched.
    """
    from models.digest import checkpoint_digest, stamps, tokenizer_digest

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
    return Seen(
        name=one.name,
        step=one.step,
        tokens_seen=one.tokens_seen,
        digest=digest,
        tokenizer_digest=tokenizer,
        stamps=before if settled else {},
    )


def _gone(
    known: dict[str, Seen],
    there: "list[LocalCheckpoint]",
    found: list[Seen],
    source: LocalSource,
) -> list[Seen]:
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


def _refuse_strangers(series_name: str, source: LocalSource, found: list[Seen]) -> None:
    """Refuse those that are not the same model as the first; of what is gone nothing is known."""
    from models.series import Member, check_series

    in_order = sorted(found, key=lambda one: one.step)
    members = [Member(one.name, source.path / one.name, one.tokenizer_digest) for one in in_order]
    check_series(series_name, members)
