"""A store of artifacts that machines share, in object storage or on a mounted folder.

    GROKPATH_SHARED=s3://bucket/prefix      (anything fsspec knows; file:///mnt/grokpath too)

    <url>/records/<step>/v<version>-<fingerprint>.json    the record; written last: it is the commit
    <url>/data/<step>/v<version>-<fingerprint>/<digest>/  the files, under the digest of all of them

The local root stays the working copy. What is missing there is downloaded, verified and put in
place like a new artifact; what is computed there is uploaded. Data lie under their own digest, so
machines need no lock between them: whatever two of them upload at once, a record names files of one
computation. Where machines mount one and the same root, none of this is needed.

Credentials are those that the file system's library finds (AWS_ACCESS_KEY_ID, AWS_PROFILE, ...).
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from store import artifacts
from store.artifacts import RECORD, Artifact

VARIABLE = "GROKPATH_SHARED"
LISTING_SECONDS = 30.0
"""How long a listing of the store is reused."""

logger = logging.getLogger("prefect.grokpath")


class StoreUnreachable(ConnectionError):
    """The shared store did not do what was requested."""


def store() -> "SharedStore | None":
    """The store that the environment names, if any."""
    url = os.environ.get(VARIABLE)
    return _open(url) if url else None


def fetch(step_name: str, version: int, fingerprint: str) -> bool:
    """Download an artifact to its place, verified; whether it was there, undamaged.

    Hold :func:`store.locks.locked` around it.
    """
    shared = store()
    return shared is not None and shared.fetch(step_name, version, fingerprint)


def known(step_name: str, version: int, fingerprint: str) -> Artifact | None:
    """Reference to an artifact that the shared store has, whether it is here or not."""
    shared = store()
    return None if shared is None else shared.known(step_name, version, fingerprint)


def lacks(artifact: Artifact) -> bool:
    """Whether there is a shared store that does not have this artifact."""
    shared = store()
    return shared is not None and not shared.lists(
        artifact.step_name, artifact.version, artifact.fingerprint
    )


def upload(artifact: Artifact) -> None:
    """Upload an artifact to the shared store, if there is one."""
    shared = store()
    if shared is not None:
        shared.upload(artifact)


class SharedStore:
    """One store; see the module."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._base = _file_system(url)
        self._listed: dict[str, tuple[float, set[str]]] = {}

    def lists(self, step_name: str, version: int, fingerprint: str) -> bool:
        """Whether the artifact is committed there; one request per step name."""
        at, names = self._listed.get(step_name, (0.0, set[str]()))
        if not at or time.monotonic() - at > LISTING_SECONDS:
            names = self._list(step_name)
            self._listed[step_name] = time.monotonic(), names
        return artifacts.name_of(step_name, version, fingerprint) in names

    def known(self, step_name: str, version: int, fingerprint: str) -> Artifact | None:
        """Reference from the record, one small request, if it is listed."""
        if not self.lists(step_name, version, fingerprint):
            return None
        record = self._record(artifacts.name_of(step_name, version, fingerprint))
        try:
            return None if record is None else artifacts.reference(record)
        except (KeyError, TypeError, ValueError):
            return None

    def fetch(self, step_name: str, version: int, fingerprint: str) -> bool:
        """Download the artifact; the record of one that is damaged there is deleted."""
        name = artifacts.name_of(step_name, version, fingerprint)
        record = self._record(name)
        if record is None:
            return False
        final = artifacts.folder_of(step_name, version, fingerprint)
        folder = final.with_name(f".draft-{final.name}-fetched")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            problems = self._download(name, record, folder) or artifacts.verify(folder, final)
            if problems:
                self._delete_record(name, problems)
                return False
            artifacts.settle(folder, final)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        logger.info("downloaded %s from %s", name, self.url)
        return True

    def upload(self, artifact: Artifact) -> None:
        """Data first, the record last.

        Raises
        ------
        StoreUnreachable
            The artifact stays here; the next run uploads it.
        """
        name = artifacts.name_of(artifact.step_name, artifact.version, artifact.fingerprint)
        record = artifacts.read_record(artifact.path)
        with self._explained(f"write {name}, which is complete in {artifact.path}"):
            for file in record["files"]:
                self._put(artifact.path / file, f"data/{name}/{artifact.digest}/{file}")
            self._put(artifact.path / RECORD, f"records/{name}.json")
        self._listed.setdefault(artifact.step_name, (0.0, set()))[1].add(name)

    def _at(self, name: str) -> str:
        return f"{self._base}/{name}"

    def _list(self, step_name: str) -> set[str]:
        with self._explained("list it"):
            try:
                paths = self._files.ls(self._at(f"records/{step_name}"), detail=False, refresh=True)
            except FileNotFoundError:
                return set()
        return {f"{step_name}/{PurePosixPath(path).stem}" for path in paths}

    def _record(self, name: str) -> dict[str, Any] | None:
        """What was committed under a name, or None; one that cannot be read is deleted."""
        with self._explained(f"read {name}"):
            try:
                text = self._files.cat_file(self._at(f"records/{name}.json"))
            except FileNotFoundError:
                return None
        try:
            record: dict[str, Any] = json.loads(text)
            if all(_is_plain(file) for file in record["files"]) and _is_plain(record["digest"]):
                return record
        except (ValueError, KeyError, TypeError):
            pass
        self._delete_record(name, ["its record is unreadable"])
        return None

    def _download(self, name: str, record: dict[str, Any], folder: Path) -> list[str]:
        folder.mkdir(parents=True)
        (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        for file in record["files"]:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            source = self._at(f"data/{name}/{record['digest']}/{file}")
            with self._explained(f"read {name}"):
                try:
                    self._files.get_file(source, str(folder / file))
                except FileNotFoundError:
                    return [f"{file} is missing"]
        return []

    def _delete_record(self, name: str, problems: list[str]) -> None:
        why = "; ".join(problems)
        logger.warning("%s in %s is damaged, computed again: %s", name, self.url, why)
        with self._explained(f"delete {name}"):
            self._files.rm_file(self._at(f"records/{name}.json"))
        self._listed.clear()

    def _put(self, file: Path, name: str) -> None:
        """Write a file at once, so that nobody reads half of it; object stores do that anyway."""
        place = self._at(name)
        if "file" not in self._files.protocol:
            self._files.put_file(str(file), place)
            return
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        part = f"{place}.part-{os.getpid()}-{time.monotonic_ns()}"
        shutil.copyfile(file, part)
        Path(part).replace(place)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Explain a failure by what was being done; libraries raise whatever they like."""
        try:
            yield
        except Exception as error:
            raise StoreUnreachable(
                f"cannot {what} in the shared store {self.url} ({type(error).__name__}: "
                f"{error}). Nothing is lost; run again when {VARIABLE} can be reached"
            ) from error


@cache
def _open(url: str) -> SharedStore:
    return SharedStore(url)


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path on it.

    Raises
    ------
    ValueError
        When the URL cannot be used.
    """
    from fsspec.core import url_to_fs

    parts = urlsplit(url)
    if not parts.scheme or not (parts.netloc or parts.path.strip("/")):
        raise ValueError(
            f"{VARIABLE} is {url!r}, expected a URL like s3://bucket/prefix or file:///mnt/grokpath"
        )
    if "@" in parts.netloc:
        raise ValueError(
            f"{VARIABLE} has a user or password in it; leave credentials to the variables of the "
            "storage's own library, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    options: dict[str, Any] = {"skip_instance_cache": True}  # this one is ours alone
    if parts.scheme in ("s3", "s3a"):
        options["config_kwargs"] = {"connect_timeout": 10, "read_timeout": 60}
    try:
        files, base = url_to_fs(url, use_listings_cache=False, **options)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{VARIABLE} is {url!r}, which cannot be used: {error}") from error
    return files, str(base).rstrip("/")


def _is_plain(name: str) -> bool:
    """Whether a name stays inside the folder it is meant for."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name
