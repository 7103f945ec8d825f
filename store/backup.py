"""A copy of a data root that can be put back: databases, records and, if wanted, artifacts.

    manifest.json       what is in the copy, with the SHA-256 of every file; written last
    root/               files of the data root, under their own names
    dumps/              PostgreSQL databases, as pg_dump writes them

as a folder, or as one `.tar` file. It is made while runs go on: SQLite files are copied by SQLite's
own backup, artifacts never change, and links and lists are read before what they refer to. It is
written under another name and renamed at the end, so what has a backup's name is whole.

Left out: the hub cache and locks, which are worth nothing elsewhere, and passwords.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol

from store import artifacts, uses
from store.artifacts import RECORD, RESULT
from store.leftovers import contained
from store.provenance import provenance

FORMAT = 1
MANIFEST = "manifest.json"
ROOT, DUMPS, RECORDS = "root", "dumps", "records"
TAR = ".tar"
ELSEWHERE = (
    *("artifacts", "home", "hub", "locks", "logs", "mlartifacts", "postgres"),
    *("prefect", RECORDS, "secrets"),
)
"""Folders of the root that are copied in another way, or not at all."""

SQLITE = b"SQLite format 3\0"
SECONDS_TO_WAIT = 60.0  # for a database that is being written
CHUNK_BYTES = 1 << 20


class BackupError(ValueError):
    """A backup that cannot be made, or is not what its manifest says."""


class Hashing:
    """A stream that is read once, its SHA-256 and length known afterwards."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._digest, self.num_bytes = stream, hashlib.sha256(), 0

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        chunk = self._stream.read(size)
        self._digest.update(chunk)
        self.num_bytes += len(chunk)
        return chunk

    def told(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {"sha256": self._digest.hexdigest(), "num_bytes": self.num_bytes}


class Writer(Protocol):
    """Where the files of a backup go."""

    def add(self, name: str, stream: Hashing, num_bytes: int) -> None:
        """Write one file."""
        ...


class FolderWriter:
    """A backup as a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder

    def add(self, name: str, stream: Hashing, num_bytes: int) -> None:
        """Write one file."""
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as file:
            shutil.copyfileobj(stream, file, CHUNK_BYTES)
            file.flush()
            os.fsync(file.fileno())


class TarWriter:
    """A backup as one uncompressed tar file; what is large in it is compressed already."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self.tar = tar

    def add(self, name: str, stream: Hashing, num_bytes: int) -> None:
        """Write one file."""
        about = tarfile.TarInfo(name)
        about.size, about.mode = num_bytes, 0o600
        self.tar.addfile(about, stream)


def make_backup(
    destination: Path,
    *,
    with_artifacts: bool,
    prefect_database: Path | None = None,
    dumps: dict[str, Path] | None = None,
) -> dict[str, Any]:
    """Copy the data root to a folder, or to a file that ends in `.tar`.

    Parameters
    ----------
    with_artifacts
        All artifacts; otherwise those that studies' results consist of, and of the others the
        records.
    prefect_database
        Prefect's SQLite file where it lies outside the root.
    dumps
        PostgreSQL dumps by name of the database.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    BackupError
        When something is there already, or an artifact is damaged. Nothing is left then, nor after
        any other failure.
    """
    if destination.exists() or destination.is_symlink():
        raise BackupError(f"{destination} is there already; choose another name")
    if not artifacts.artifacts_root().is_dir():
        raise BackupError(f"there is nothing to back up in {artifacts.root()}")
    if destination.absolute().is_relative_to(artifacts.root()):
        raise BackupError(f"{destination} lies in the data root itself; choose a place outside")
    destination.parent.mkdir(parents=True, exist_ok=True)
    with uses.gate_open(), _writing(destination) as writer:
        copy = _Copy(writer, destination.parent)
        for path in sorted(_databases(artifacts.root())):
            copy.database(path, path.name)
        if prefect_database is not None and "prefect.db" not in copy.databases:
            copy.database(prefect_database, "prefect.db")
        for name, dump in (dumps or {}).items():
            copy.file(dump, f"{DUMPS}/{name}")
        copy.lists_and_links()
        delivered = {_artifact_of(target) for target in copy.links.values()}
        for folder in artifacts.all_artifacts():
            if contained(folder):
                copy.artifact(folder, whole=with_artifacts or folder.name in delivered)
        copy.tree("mlartifacts")
        manifest = {
            "format": FORMAT,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "root": str(artifacts.root().resolve()),
            "with_artifacts": with_artifacts,
            **provenance(),
            "sqlite": sqlite3.sqlite_version,
            "databases": copy.databases,
            "links": copy.links,
            "files": copy.files,
        }
        text = json.dumps(manifest, indent=1).encode()
        with tempfile.TemporaryFile() as file:
            file.write(text)
            file.seek(0)
            writer.add(MANIFEST, Hashing(file), len(text))
    return manifest


class _Copy:
    """What was copied so far."""

    def __init__(self, writer: Writer, scratch: Path) -> None:
        self.writer = writer
        self.scratch = scratch
        self.files: dict[str, dict[str, Any]] = {}
        self.links: dict[str, str] = {}
        self.databases: list[str] = []

    def file(self, path: Path, name: str) -> str:
        """Copy a file as it is; its SHA-256."""
        with path.open("rb") as opened:
            stream = Hashing(opened)
            num_bytes = os.fstat(opened.fileno()).st_size
            # What is appended meanwhile is left to the next backup.
            self.writer.add(name, _Limited(stream, num_bytes), num_bytes)  # type: ignore[arg-type]
        self.files[name] = stream.told()
        digest: str = self.files[name]["sha256"]
        return digest

    def database(self, path: Path, name: str) -> None:
        """Copy a SQLite database, whoever is writing it."""
        with tempfile.TemporaryDirectory(prefix=".grokpath-", dir=self.scratch) as folder:
            snapshot = Path(folder) / name
            try:
                with (
                    closing(_opened(path)) as source,
                    closing(sqlite3.connect(snapshot)) as target,
                ):
                    source.backup(target)
                    target.execute("PRAGMA journal_mode = DELETE")  # one file, no log beside it
                    (found,) = target.execute("PRAGMA quick_check").fetchone()
            except sqlite3.Error as error:
                raise BackupError(f"{path} cannot be copied: {error}") from error
            if found != "ok":
                raise BackupError(f"{path} is damaged: {found}")
            self.file(snapshot, f"{ROOT}/{name}")
        self.databases.append(name)

    def lists_and_links(self) -> None:
        """Copy what refers to artifacts (studies' folders, what runs used), and the journal."""
        top = artifacts.root()
        for path in sorted(top.rglob("*")):
            name = path.relative_to(top)
            if name.parts[0] in ELSEWHERE or path.name.startswith(".") or ".db" in name.parts[0]:
                continue
            if path.is_symlink():
                if not path.readlink().is_absolute():
                    self.links[name.as_posix()] = path.readlink().as_posix()
            elif path.is_file():
                self.file(path, f"{ROOT}/{name.as_posix()}")

    def artifact(self, folder: Path, *, whole: bool) -> None:
        """Copy an artifact, checked against its record, or only the record."""
        name = folder.relative_to(artifacts.root()).as_posix()
        try:
            record = artifacts.read_record(folder)
            if not whole:
                short = folder.relative_to(artifacts.artifacts_root()).as_posix()
                self.file(folder / RECORD, f"{ROOT}/{RECORDS}/{short}.json")
                return
            for file in [*record["files"], RECORD]:
                digest = self.file(folder / file, f"{ROOT}/{name}/{file}")
                if record["files"].get(file, digest) != digest:
                    raise BackupError(f"{folder / file} has changed")
            if (folder / RESULT).is_file():
                self.file(folder / RESULT, f"{ROOT}/{name}/{RESULT}")
        except (FileNotFoundError, KeyError, json.JSONDecodeError, BackupError) as error:
            raise BackupError(
                f"{folder} is damaged ({error}); nothing was written. `grokpath verify` lists what "
                "is damaged, the next run of its study makes it again"
            ) from error

    def tree(self, name: str) -> None:
        """Copy a folder of files to which others may be added meanwhile."""
        top = artifacts.root()
        for path in sorted((top / name).rglob("*")):
            with suppress(FileNotFoundError):  # the remains of a broken export, cleared meanwhile
                if path.is_file() and not path.is_symlink():
                    self.file(path, f"{ROOT}/{path.relative_to(top).as_posix()}")


class _Limited:
    """The beginning of a stream."""

    def __init__(self, stream: Hashing, num_bytes: int) -> None:
        self._stream, self._left = stream, num_bytes

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(chunk)
        return chunk


def _databases(root: Path) -> Iterator[Path]:
    for path in root.glob("*.db"):
        with path.open("rb") as file:
            if file.read(len(SQLITE)) == SQLITE:
                yield path


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=SECONDS_TO_WAIT)


def _artifact_of(target: str) -> str:
    """Name of the artifact's folder that a study's link leads into."""
    parts = Path(target).parts
    return parts[parts.index("artifacts") + 2] if "artifacts" in parts else ""


@contextmanager
def _writing(destination: Path) -> Iterator[Writer]:
    """A place of its own that takes the backup's name when all went well, and is gone otherwise."""
    partial = destination.with_name(f".{destination.name}.{os.getpid()}.partial")
    try:
        if destination.suffix == TAR:
            with os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
                with tarfile.open(fileobj=f, mode="w") as tar:
                    yield TarWriter(tar)
                f.flush()
                os.fsync(f.fileno())
        else:
            yield FolderWriter(partial)
        partial.rename(destination)
    except BaseException:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)
        raise
