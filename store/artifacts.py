"""Artifacts: immutable folders, one per step and fingerprint.

    <root>/artifacts/<step>/v<version>-<fingerprint>/
        data files      Parquet, npz, JSON, safetensors, HTML
        record.json     how they were computed and from what, versions; SHA-256 of every file
        result.json     Prefect's own result record, written last

Data, record and cache entry live and die together: delete the folder and the step runs again.
A folder is written under a temporary name beside its place, synced and renamed, so a folder that
exists is complete. It is never edited.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from store import state
from store.identity import canonical_json, file_digest, files_digest
from store.provenance import provenance
from store.root import artifacts_root as artifacts_root
from store.root import check_root as check_root
from store.root import root as root

RECORD = "record.json"
RESULT = "result.json"
SEALED = ("step_name", "version", "fingerprint", "digest", "summary", "inputs", "files")
"""Fields of a record that the record's own digest covers; the others are when and where."""
FOLDER = re.compile(r"^v(?P<version>\d+)-(?P<fingerprint>\w+)$")


class DamagedArtifact(ValueError):
    """An artifact whose files are not what its record says."""


class Artifact(BaseModel):
    """Reference to one artifact: what it is and what is in it, never the data themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step_name: str
    version: int
    fingerprint: str
    digest: str
    summary: dict[str, Any] = {}

    @property
    def path(self) -> Path:
        """Folder of the artifact."""
        return folder_of(self.step_name, self.version, self.fingerprint)

    def identity(self) -> dict[str, Any]:
        """An artifact is its content."""
        return {"artifact": self.step_name, "digest": self.digest}


class Checkpoint(BaseModel):
    """Reference to one checkpoint of a series; `digest` is None while it is only expected.

    Of one that comes from a hub, `digest` is the commit, `pinned` the artifact that says which
    files it has, and the files are there only while they are needed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    series: str
    step: int
    tokens_seen: int | None
    revision: str
    digest: str | None
    location: str
    repository: str | None = None
    pinned: Artifact | None = None

    @property
    def path(self) -> Path:
        """Folder with config, weights and tokenizer."""
        return root() / self.location

    def identity(self) -> dict[str, Any]:
        """A checkpoint is its weights, configuration and tokenizer, whatever it is called."""
        assert self.digest is not None, "an expected checkpoint has no identity yet"
        return {"checkpoint": self.digest}


class Tokenizer(BaseModel):
    """Reference to the tokenizer of a series; `digest` covers its files alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str | None
    location: str
    pinned: Artifact | None = None

    @property
    def path(self) -> Path:
        """Folder with the tokenizer's files."""
        return root() / self.location

    def identity(self) -> dict[str, Any]:
        """A tokenizer is its files, whichever checkpoint they lie beside."""
        assert self.digest is not None, "an expected tokenizer has no identity yet"
        return {"tokenizer": self.digest}


def sweep() -> None:
    """Remove the records of failed tasks that Prefect leaves beside the artifacts' folders."""
    if artifacts_root().is_dir():
        for path in artifacts_root().iterdir():
            if path.is_file():
                path.unlink(missing_ok=True)


def name_of(step_name: str, version: int, fingerprint: str) -> str:
    """Name of an artifact relative to the artifacts' root."""
    return f"{step_name}/v{version}-{fingerprint}"


def folder_of(step_name: str, version: int, fingerprint: str) -> Path:
    """Folder of an artifact, whether it exists or not."""
    return artifacts_root() / name_of(step_name, version, fingerprint)


def find(step_name: str, version: int, fingerprint: str) -> Artifact | None:
    """The artifact, when it is there and every file is what the record says.

    Files whose sizes, times and inodes are those of the last verification are not hashed again.

    Raises
    ------
    DamagedArtifact
        When the folder is there but a file is missing, changed or unreadable.
    """
    folder = folder_of(step_name, version, fingerprint)
    if not folder.is_dir():
        return None
    name, stamp = name_of(step_name, version, fingerprint), stamp_of(folder)
    if stamp != state.verified_stamp(name):
        refuse_damaged(folder)
        state.set_verified(name, stamp)
    return load(folder)


def refuse_damaged(folder: Path) -> None:
    """Hash every file of an artifact.

    Raises
    ------
    DamagedArtifact
        When a file is missing, changed or unreadable.
    """
    problems = verify(folder)
    if problems:
        raise DamagedArtifact(f"{folder}: {'; '.join(problems)}")


def stamp_of(folder: Path) -> str:
    """Digest of the sizes, times and inodes of an artifact's files; a changed file changes it."""
    files = [file for file in [*_data_files(folder), folder / RECORD] if file.exists()]
    stats = [(file, file.stat()) for file in files]
    found = [[_relative(f, folder), s.st_size, s.st_mtime_ns, s.st_ino] for f, s in stats]
    return hashlib.sha256(canonical_json(found).encode()).hexdigest()


def touch(folder: Path) -> None:
    """Note that an artifact is in use: a folder's own time is that of its last use."""
    with suppress(OSError):  # deleted meanwhile, or a root that may only be read
        os.utime(folder)


def load(folder: Path) -> Artifact:
    """Reference to the artifact in a folder, its files unverified."""
    return reference(read_record(folder))


def reference(record: dict[str, Any]) -> Artifact:
    """Reference to the artifact of a record."""
    return Artifact(**{name: record[name] for name in Artifact.model_fields})


def read_record(folder: Path) -> dict[str, Any]:
    """The record of an artifact."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record


def verify(folder: Path, place: Path | None = None) -> list[str]:
    """What is wrong with an artifact; an empty list when every byte is as recorded.

    One that is on its way lies elsewhere than at its `place`.
    """
    try:
        record = read_record(folder)
        expected: dict[str, str] = record["files"]
        sealed = record["seal"] == _seal(record) and record["digest"] == files_digest(expected)
        named = (place or folder) == folder_of(
            *(record[k] for k in ("step_name", "version", "fingerprint"))
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{RECORD} is missing or unreadable ({type(error).__name__})"]
    found = {_relative(file, folder) for file in _data_files(folder)}
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found)]
    problems += [f"{name} does not belong here" for name in sorted(found - expected.keys())]
    problems += [
        f"{name} has changed"
        for name in sorted(expected.keys() & found)
        if file_digest(folder / name) != expected[name]
    ]
    if not sealed:
        problems.append(f"{RECORD} contradicts itself")
    if not named:
        problems.append(f"{RECORD} belongs to another artifact")
    return problems


def agreeing_result(artifact: Artifact) -> bool:
    """Whether Prefect's record beside the data names this artifact, at this place.

    Prefect hands out what its record says, so a record that was copied, edited or moved here would
    put another artifact's numbers in this one's place.
    """
    path = artifact.path / RESULT
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        stored_as = json.loads(stored["result"])["data"]
        return stored["metadata"]["storage_key"] == str(path) and Artifact(**stored_as) == artifact
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _seal(record: dict[str, Any]) -> str:
    text = canonical_json({name: record[name] for name in SEALED})
    return hashlib.sha256(text.encode()).hexdigest()


def discard(folder: Path) -> None:
    """Take an artifact out of use at once, then delete it."""
    grave = folder.with_name(f".discarded-{folder.name}-{time.time_ns()}")
    try:
        folder.rename(grave)
    except FileNotFoundError:  # another run was quicker
        return
    shutil.rmtree(grave, ignore_errors=True)


@contextmanager
def draft(step_name: str, version: int, fingerprint: str, *, resumable: bool) -> Iterator[Path]:
    """A folder to write into; on failure it is deleted, unless the step can resume from it.

    Hold :func:`store.locks.locked` around it: the draft has one fixed name, by which a later
    attempt finds what an earlier one left.
    """
    final = folder_of(step_name, version, fingerprint)
    folder = final.with_name(f".draft-{final.name}")
    if folder.exists() and not resumable:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except BaseException:
        if not resumable:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def commit(
    folder: Path,
    *,
    step_name: str,
    version: int,
    fingerprint: str,
    inputs: dict[str, Any],
    summary: dict[str, Any],
    started_at: datetime,
    device: str,
) -> Artifact:
    """Turn a draft into an artifact: digest, record, sync, rename."""
    files = {_relative(file, folder): file_digest(file) for file in _data_files(folder)}
    identity: dict[str, Any] = {
        "step_name": step_name,
        "version": version,
        "fingerprint": fingerprint,
    }
    artifact = Artifact(**identity, digest=files_digest(files), summary=summary)
    ended_at = datetime.now(UTC)
    record: dict[str, Any] = {**artifact.model_dump(), "inputs": inputs, "files": files}
    record |= {
        "seal": _seal(record),
        "num_bytes": sum((folder / name).stat().st_size for name in files),
        "started_at": started_at.isoformat(),
        "ended_at": ended_at.isoformat(),
        "seconds": round((ended_at - started_at).total_seconds(), 3),
        "device": device,
        **provenance(),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    settle(folder, artifact.path)
    return artifact


def settle(folder: Path, final: Path) -> None:
    """Put a complete draft in its place, so that it survives a crash from then on."""
    for file in [*_data_files(folder), folder / RECORD]:
        _sync(file)
    _sync(folder)
    if final.exists():  # damaged and found so after the cache was looked up
        discard(final)
    folder.rename(final)
    _sync(final.parent)
    state.set_verified(f"{final.parent.name}/{final.name}", stamp_of(final))


def all_artifacts() -> Iterator[Path]:
    """Folders of all artifacts, in a fixed order."""
    if artifacts_root().is_dir():
        for step in sorted(artifacts_root().iterdir()):
            if step.is_dir() and not step.is_symlink():
                yield from sorted(f for f in step.iterdir() if FOLDER.match(f.name))


def _data_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and _relative(file, folder) not in (RECORD, RESULT)
    )


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
