"""What a repository offers and a revision consists of, known before weights are downloaded.

Series publish one branch per checkpoint, named after its step (`step5000-tokens20B`).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from hub import connection
from hub.cache import HubFile, fetch, storage, where_writable
from store.identity import canonical_json
from studies.base import NothingYet, parse_checkpoint_name
from studies.checkpoint_files import (
    CONFIG,
    CONFIGURATION,
    INDEX,
    SHARD,
    SINGLE,
    TOKENIZER,
    belongs,
    refusal,
)
from studies.sources import HubSource


class Incomplete(NothingYet):
    """A revision whose files are not all there: perhaps its branch is still being filled."""


class RevisionFiles(BaseModel):
    """One revision at the commit it was resolved to, with the files that a checkpoint needs.

    `step` and `tokens_seen` are None for a revision that is not named after a step. `remote_code`
    says whether its configuration names Python code of its own: that is never downloaded, so such a
    model loads only if transformers knows its `model_type` itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    repository: str
    revision: str
    commit: str = Field(pattern=r"^[0-9a-f]{40}$")
    step: int | None
    tokens_seen: int | None
    model_type: str | None
    remote_code: bool
    files: tuple[HubFile, ...]

    @property
    def weights(self) -> tuple[HubFile, ...]:
        """The files that hold tensors."""
        return tuple(file for file in self.files if file.is_weights)

    @property
    def num_bytes(self) -> int:
        """Bytes of weights: what counts in the disk budget."""
        return sum({file.digest: file.size for file in self.weights}.values())

    @property
    def weights_digest(self) -> str:
        """One digest of all tensors, whatever the files are called."""
        return _digest(sorted(file.digest for file in self.weights))

    @property
    def tokenizer_digest(self) -> str:
        """One digest of all files of the tokenizer, with their names."""
        return _digest(
            {file.name: file.digest for file in self.files if belongs(file.name, TOKENIZER)}
        )


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def resolve(repository: str, revision: str) -> RevisionFiles:
    """What a branch, tag or commit of a model repository is now.

    Three requests: the list of files with their digests, and two for config.json. Offline it is the
    last answer.

    Raises
    ------
    Incomplete
        When files are missing.
    ValueError
        When the revision is unknown, or has no weights as safetensors.
    """
    name = hashlib.sha256(revision.encode()).hexdigest()
    listed = _remembered(
        repository,
        f"revision {revision}",
        f"{name}.json",
        lambda: connection.listing(repository, revision),
    )
    where = f"{repository} at revision {revision}"
    files = tuple(HubFile(**file) for file in _needed(listed["files"], where))
    config = _config(repository, listed["commit"], files)
    step, tokens_seen = parse_checkpoint_name(revision) or (None, None)
    return RevisionFiles(
        repository=repository,
        revision=revision,
        commit=listed["commit"],
        step=step,
        tokens_seen=tokens_seen,
        model_type=config.get("model_type"),
        remote_code="auto_map" in config,
        files=files,
    )


def resolve_dataset(repository: str, revision: str = "main") -> str:
    """Commit that a branch or tag of a data set points at now; offline, where it pointed last."""
    return str(
        _remembered(
            repository,
            f"revision {revision}",
            f"{revision.replace('/', '--')}.json",
            lambda: connection.dataset_commit(repository, revision),
            kind="dataset",
        )
    )


def _remembered(
    repository: str, what: str, name: str, request: Callable[[], Any], kind: str = "model"
) -> Any:
    """What the hub answers, written down; offline its last answer, refused without one."""
    path = storage(repository, kind) / "listings" / name
    if not connection.offline():
        answer = request()
        with where_writable():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.{uuid4().hex}")
            draft.write_text(json.dumps(answer), encoding="utf-8")
            draft.replace(path)
        return answer
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    raise ValueError(
        f"{repository}: offline (HF_HUB_OFFLINE), and {what} of this {kind} repository was never "
        f"resolved on this machine (expected {path}); run once with a network"
    )


def _needed(files: list[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """Configuration, tokenizer and the weights that transformers would load, in order of name."""
    names = {file["name"] for file in files}
    if CONFIG not in names:
        raise Incomplete(f"{where} has no {CONFIG}, so it is no model that transformers can load")
    weights = {SINGLE} if SINGLE in names else {INDEX, *filter(SHARD.match, names)}
    why = refusal(names)
    if why:
        raise ValueError(f"{where} {why}; or choose another revision")
    if weights == {INDEX}:
        raise Incomplete(
            f"{where} has neither {SINGLE} nor {INDEX} with its shards; found "
            f"{', '.join(sorted(names)[:8])}"
        )
    if SINGLE not in names:
        _check_complete(weights, names, where)
    needed = [
        f for f in files if f["name"] in weights or belongs(f["name"], (*CONFIGURATION, *TOKENIZER))
    ]
    return sorted(needed, key=lambda file: file["name"])


def _check_complete(weights: set[str], names: set[str], where: str) -> None:
    counts = {match["count"] for name in weights if (match := SHARD.match(name))}
    expected = {
        f"model-{number:05d}-of-{count}.safetensors"
        for count in counts
        for number in range(1, int(count) + 1)
    }
    missing = sorted((expected | {INDEX}) - names)
    if missing or len(counts) > 1:
        raise Incomplete(
            f"the weights of {where} are not complete: found {len(weights & names)} files, missing "
            f"{', '.join(missing) or f'agreement on their number ({sorted(counts)})'}; choose "
            "another revision"
        )


def _config(repository: str, commit: str, files: Sequence[HubFile]) -> dict[str, Any]:
    (file,) = (file for file in files if file.name == CONFIG)
    path = fetch(repository, commit, file)
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{CONFIG} of {repository} at {commit} is not JSON: {error}") from error
    return config


# ---------------------------------------------------------------- which revisions


class Revision(NamedTuple):
    """One branch that is a checkpoint; `commit` is where it points now."""

    step: int
    name: str
    commit: str


def list_revisions(repository: str, prefix: str = "") -> tuple[Revision, ...]:
    """Branches of a repository that are checkpoints, in order of step; one request.

    Of branches with a prefix, such as `stage1-step1000`, only those are checkpoints that have it.
    Offline the list is the last one.
    """
    branches = _remembered(
        repository, "the list", "branches.json", lambda: connection.branches(repository)
    )
    return tuple(
        sorted(
            Revision(parsed[0], name, commit)
            for name, commit in branches.items()
            if name.startswith(prefix) and (parsed := parse_checkpoint_name(name[len(prefix) :]))
        )
    )


def choose(revisions: Sequence[Revision], source: HubSource) -> tuple[Revision, ...]:
    """The revisions that a source requests by steps, range or count, one per step, in order.

    Of a range so many as `count`, the nearest to an even grid over the steps; the first and the
    last are always among them.

    Raises
    ------
    NothingYet
        When there are fewer than `count`.
    ValueError
        When a step is unknown.
    """
    by_step = {revision.step: revision for revision in revisions}
    if source.steps is not None:
        return tuple(_of_step(by_step, step) for step in source.steps)
    count, first_step, last_step = source.count, source.first_step, source.last_step
    between = [
        revision
        for step, revision in sorted(by_step.items())
        if (first_step is None or step >= first_step) and (last_step is None or step <= last_step)
    ]
    if not between or len(between) < (count or 1):
        there = f"steps {min(by_step)} to {max(by_step)}" if by_step else "no checkpoint at all"
        raise NothingYet(
            f"found {len(between)} checkpoints between step {first_step or 0} and "
            f"{last_step or 'the end'}, expected {count or 'at least 1'}; the repository has "
            f"{len(by_step)} ({there}) among branches named step<N> or step<N>-tokens<M>"
        )
    return tuple(between) if count is None else _even(between, count)


def _of_step(by_step: dict[int, Revision], step: int) -> Revision:
    if step not in by_step:
        near = sorted(sorted(by_step, key=lambda other: abs(other - step))[:3])
        hint = f"; near it are {', '.join(map(str, near))}" if near else ""
        raise ValueError(f"no checkpoint of step {step} among {len(by_step)}{hint}")
    return by_step[step]


def _even(revisions: Sequence[Revision], count: int) -> tuple[Revision, ...]:
    first, last = revisions[0].step, revisions[-1].step
    chosen: list[int] = []
    for i in range(count):
        target = first + (last - first) * i / max(count - 1, 1)
        # What follows the last one taken, leaving enough for those still to come.
        free = range(chosen[-1] + 1 if chosen else 0, len(revisions) - (count - 1 - i))
        chosen.append(min(free, key=lambda at: abs(revisions[at].step - target)))
    return tuple(revisions[at] for at in chosen)
