"""What a revision is made of, known before any of its weights are downloaded."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hub import connection
from hub.cache import HubFile, remembered, storage, write
from hub.download import fetch
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

    Two requests: the list of files with their digests, and config.json. Offline the answer is the
    one of last time.

    Raises
    ------
    Incomplete
        When files are missing.
    ValueError
        When the revision is unknown, or has no weights as safetensors.
    """
    folder = storage(repository)
    listed = remembered(
        folder / "listings" / f"{hashlib.sha256(revision.encode()).hexdigest()}.json",
        lambda: _listing(repository, revision),
    )
    if listed is None:
        raise ValueError(
            f"offline (HF_HUB_OFFLINE), and revision {revision} of {repository} was never resolved "
            f"on this machine (looked in {folder}); run once with a network"
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


def _listing(repository: str, revision: str) -> dict[str, Any]:
    found = connection.listing(repository, revision)
    if revision != found.commit:
        write(storage(repository) / "refs" / revision, found.commit)
    return {"commit": found.commit, "files": [vars(file) for file in found.files]}


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


def refuse_twins(revisions: Sequence[RevisionFiles]) -> None:
    """Refuse revisions whose weights are the same, byte for byte.

    Raises
    ------
    ValueError
        Naming them all.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for files in revisions:
        alike[files.weights_digest].append(f"{files.repository}@{files.revision}")
    twins = [" = ".join(names) for names in alike.values() if len(names) > 1]
    if twins:
        raise ValueError(
            f"revisions with the same weights, byte for byte: {'; '.join(twins)}. A curve over "
            "them would show a checkpoint twice; leave one out, or set allow_identical: true"
        )


def resolve_dataset(repository: str, revision: str = "main") -> str:
    """Commit that a branch or tag of a data set points at now; offline, where it pointed last."""
    path = storage(repository, "dataset") / "listings" / f"{revision.replace('/', '--')}.json"
    commit = remembered(path, lambda: connection.dataset_commit(repository, revision))
    if commit is None:
        raise ValueError(
            f"offline (HF_HUB_OFFLINE), and revision {revision} of data set {repository} was never "
            "resolved on this machine; run once with a network"
        )
    return str(commit)
