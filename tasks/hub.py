"""What a hub holds: revisions and data sets, resolved to commits once.

A branch can move. So each name is resolved once, by a step whose artifact has the commit and the
digest of every file; whoever comes later, from whichever run, gets that commit. To resolve a branch
anew, delete the artifact.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from store import artifacts
from store.artifacts import Artifact, Checkpoint, Tokenizer
from store.identity import Label, fingerprint
from studies.base import NothingYet, parse_checkpoint_name
from studies.settings import Runtime
from studies.sources import HubSource
from studies.spec import Series
from tasks.downloads import PINNED, pinned_files
from tasks.graph import Node
from tasks.plan import LeftOut
from tasks.step import step

WIDE_GAP = 2.0  # times the median distance

logger = logging.getLogger("prefect.grokpath")


def find_revisions(source: HubSource, looking: bool) -> dict[str, str | None]:
    """Revisions of a source in order of step, each with the commit it points at now, if known.

    Those that the study lists need no request. A plan that cannot reach the hub knows the steps at
    best.
    """
    if source.revisions is not None:
        return dict.fromkeys(source.revisions)
    try:
        return choose_revisions(source)
    except ValueError as error:
        if not looking or source.steps is None:
            raise
        logger.warning("%s", error)
        return {f"{source.prefix}step{training_step}": None for training_step in source.steps}


def choose_revisions(source: HubSource) -> dict[str, str | None]:
    """Choose among the branches that a repository has now; offline, those it had last time.

    Never cached, because a training run adds to them. A branch can exist before its files do: where
    the study names no steps, a revision that is not complete is left out, with a warning that gives
    the reason.

    Raises
    ------
    NothingYet
        When there are too few checkpoints.
    ValueError
        When the hub is out of reach, or lacks what is wanted.
    """
    from hub.repositories import choose, list_revisions

    chosen = choose(list_revisions(source.repository, source.prefix), source)
    found: dict[str, str | None] = {
        revision.name: revision.commit
        for revision in chosen
        if source.steps is not None or _is_complete(source, revision.name)
    }
    if not found:
        raise NothingYet(f"{source.repository} has no complete checkpoint yet")
    return found


def _is_complete(source: HubSource, revision: str) -> bool:
    """Whether a revision can be resolved; one that was resolved before needs no request."""
    from hub.repositories import Incomplete, resolve

    inputs = {"repository": source.repository, "revision": revision}
    key = fingerprint(pin_revision.name, pin_revision.version, inputs)
    if artifacts.folder_of(pin_revision.name, pin_revision.version, key).is_dir():
        return True
    try:
        resolve(source.repository, revision)
    except Incomplete as error:
        logger.warning("left out until it is complete: %s", error)
        return False
    return True


def warn_of_moved(source: HubSource, now: dict[str, str | None], pins: dict[str, Any]) -> None:
    """Name the branches that have moved since they were resolved; the study stays with those."""
    for revision, pinned in pins.items():
        commit = pinned.summary["commit"] if pinned is not None else None
        if now[revision] not in (None, commit) and commit is not None:
            logger.warning(
                "%s of %s has moved to %s since it was resolved; the study stays with %s. To take "
                "the new commit, delete %s",
                revision, source.repository, now[revision], commit, pinned.path,
            )  # fmt: skip


@step("revision", version=1, run_name="revision {label} {revision}")
def pin_revision(
    out: Path, *, label: Label, repository: str, revision: str, runtime: Runtime
) -> dict[str, Any]:
    """Resolve a revision to its commit and the digests of its files, once and for all.

    Writes revision.json. Three requests to the hub; nothing large is downloaded.
    """
    from hub.repositories import resolve
    from models.families.registry import family_of

    found = resolve(repository, revision)
    family_of(found.model_type or "")  # what no family reads need not be downloaded
    (out / PINNED).write_text(found.model_dump_json(indent=1), encoding="utf-8")
    return {
        "commit": found.commit,
        "model_type": found.model_type,
        "num_bytes": found.num_bytes,
        "weights_digest": found.weights_digest,
        "tokenizer_digest": found.tokenizer_digest,
    }


@step("data-set", version=1, run_name="data set {repository} {revision}")
def pin_data_set(out: Path, *, repository: str, revision: str, runtime: Runtime) -> dict[str, Any]:
    """Resolve a data set's branch to its commit, once and for all. One request."""
    from hub.repositories import resolve_dataset

    return {"commit": resolve_dataset(repository, revision)}


def without_skipped(
    series_name: str, source: HubSource, revisions: dict[str, str | None]
) -> tuple[dict[str, str | None], list[LeftOut]]:
    """Revisions without those whose step the study skips, and these."""
    steps = {
        name: parsed[0]
        for name in revisions
        if (parsed := parse_checkpoint_name(name.removeprefix(source.prefix))) is not None
    }
    skipped = [name for name, step in steps.items() if step in source.skip_steps]
    left_out = [LeftOut(series_name, n, steps[n], "the study skips its step") for n in skipped]
    return {name: revisions[name] for name in revisions if name not in skipped}, left_out


def hub_checkpoints(
    series: Series, pins: dict[str, Artifact | None], *, looking: bool
) -> list[Checkpoint]:
    """Checkpoints of a hub series by step; without digests as long as they are not resolved.

    Raises
    ------
    ValueError
        When a revision is not named after a step, two are the same, or they are not of one model.
    """
    from hub.cache import snapshot

    source = series.source
    assert source.kind == "hub"
    checkpoints = []
    for revision, pinned in pins.items():
        parsed = parse_checkpoint_name(revision.removeprefix(source.prefix))
        if parsed is None:
            raise ValueError(
                f"revision {revision!r} of {source.repository} is not named "
                f"{source.prefix}step<N> or {source.prefix}step<N>-tokens<M>, so its step is not "
                "known; set `prefix` to what stands before"
            )
        commit = pinned.summary["commit"] if pinned else None
        folder = snapshot(source.repository, commit).relative_to(artifacts.root()) if commit else ""
        checkpoints.append(
            Checkpoint(
                series=series.name,
                step=parsed[0],
                tokens_seen=parsed[1],
                revision=revision,
                digest=commit,
                location=str(folder),
                repository=source.repository,
                pinned=pinned,
            )
        )
    if not source.allow_identical:
        _refuse_twins(checkpoints)
    checkpoints.sort(key=lambda checkpoint: checkpoint.step)
    for one, other in pairwise(checkpoints):
        if one.step == other.step:
            raise ValueError(
                f"revisions {one.revision} and {other.revision} of {source.repository} are the "
                "same step; take one of them"
            )
    for gap in gaps(checkpoints):
        logger.warning("%s: %s", source.repository, gap)
    _refuse_strangers(series.name, checkpoints, looking=looking)
    return checkpoints


def hub_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer beside the weights of a revision; they need not be here for it."""
    pinned = checkpoint.pinned
    return Tokenizer(
        digest=pinned.summary["tokenizer_digest"] if pinned else None,
        location=checkpoint.location,
        pinned=pinned,
    )


def commits_of(nodes: dict[str, Node], pinned: list[Artifact | None]) -> dict[str, Any]:
    """Commits by data set; the node that would find it out where it is not known yet."""
    return {
        name: node if found is None else found.summary["commit"]
        for (name, node), found in zip(nodes.items(), pinned, strict=True)
    }


def gaps(checkpoints: Sequence[Checkpoint]) -> list[str]:
    """Sentences on the places where the steps lie far apart: more than twice the median."""
    pairs = list(pairwise(checkpoints))
    usual = median(after.step - before.step for before, after in pairs) if pairs else 0
    return [
        f"{after.step - before.step} steps lie between {before.revision} and {after.revision}, "
        f"where {usual:g} are usual: what happens in between is not measured"
        for before, after in pairs
        if after.step - before.step > WIDE_GAP * usual
    ]


def _refuse_strangers(series_name: str, checkpoints: list[Checkpoint], *, looking: bool) -> None:
    """Refuse revisions that are not the same model as the first.

    Configurations came with the commits; tokenizers, which are small, are downloaded where their
    digests differ, but not for a plan.
    """
    from hub.cache import download
    from models.series import Member, check_series

    tokenizers: dict[str, Artifact] = {}
    members = []
    for checkpoint in checkpoints:
        if checkpoint.pinned is None:
            continue
        digest = checkpoint.pinned.summary["tokenizer_digest"]
        tokenizers.setdefault(digest, checkpoint.pinned)
        members.append(Member(checkpoint.revision, checkpoint.path, digest))
    if len(tokenizers) > 1:
        if looking:
            return
        for pinned in tokenizers.values():
            found = pinned_files(pinned)
            download(found.repository, found.commit, found.files, weights=False)
    check_series(series_name, members)


def _refuse_twins(checkpoints: list[Checkpoint]) -> None:
    """Refuse revisions whose weights are the same, byte for byte, naming them all."""
    alike: dict[str, list[str]] = defaultdict(list)
    for one in checkpoints:
        if one.pinned is not None:
            alike[one.pinned.summary["weights_digest"]].append(f"{one.repository}@{one.revision}")
    twins = [" = ".join(names) for names in alike.values() if len(names) > 1]
    if twins:
        raise ValueError(
            f"revisions with the same weights, byte for byte: {'; '.join(twins)}. A curve over "
            "them would show a checkpoint twice; leave one out, or set allow_identical: true"
        )
