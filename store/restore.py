"""A backup put back: checked from end to end first, then made beside its place and renamed.

The folder that takes the root's name is whole. What was there before keeps its files under another
name; nothing is deleted.
"""

import json
import os
import shutil
import sqlite3
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from store import artifacts, uses
from store.backup import CHUNK_BYTES, DUMPS, FORMAT, MANIFEST, ROOT, BackupError, Hashing
from store.leftovers import is_free

MAX_TOLD = 5
# Where MLflow keeps addresses of files, which hold the root's path.
MLFLOW_ADDRESSES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
}


class Reader(Protocol):
    """Where the files of a backup come from."""

    def names(self) -> list[str]:
        """Every file there is."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """One of them."""
        ...


class FolderReader:
    """A backup that is a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Every file there is."""
        found = (path for path in self._folder.rglob("*") if not path.is_dir())
        return sorted(path.relative_to(self._folder).as_posix() for path in found)

    def open(self, name: str) -> IO[bytes]:
        """One of them."""
        return (self._folder / name).open("rb")


class TarReader:
    """A backup that is one file."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def names(self) -> list[str]:
        """Every file there is."""
        return self._tar.getnames()

    def open(self, name: str) -> IO[bytes]:
        """One of them."""
        stream = self._tar.extractfile(name)
        if stream is None:
            raise BackupError(f"{name} is no file")
        return stream


def restore_backup(
    source: Path,
    *,
    replace: bool,
    load_dumps: Callable[[Path, dict[str, Path]], None] | None = None,
) -> tuple[dict[str, Any], Path | None]:
    """Put a backup in the place of the data root.

    Parameters
    ----------
    replace
        Set aside what is there; without it only an empty or missing root is filled.
    load_dumps
        What loads PostgreSQL dumps, given the new root and the dumps by name.

    Returns
    -------
    tuple
        The manifest, and where the former root is now, if there was one.

    Raises
    ------
    BackupError
        When the backup is not what its manifest says, or the root is in use or not empty. The root
        is as before then.
    """
    target = artifacts.root().resolve()
    _check_target(target, replace)
    with _reading(source) as reader:
        manifest = check(reader)
        staging = target.with_name(f".{target.name}.{os.getpid()}.restoring")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _fill(staging, reader, manifest)
            _move_addresses(staging, Path(manifest["root"]), target)
            _load(staging, manifest, load_dumps)
            return manifest, _swap(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def check(reader: Reader) -> dict[str, Any]:
    """The manifest of a backup that is whole.

    Raises
    ------
    BackupError
        With what is missing, changed or too much.
    """
    names = reader.names()
    if MANIFEST not in names:
        raise BackupError(f"there is no {MANIFEST} in it: it is no backup, or not a whole one")
    try:
        manifest: dict[str, Any] = json.load(reader.open(MANIFEST))
        files, links = manifest["files"], manifest["links"]
        if manifest["format"] != FORMAT:
            raise BackupError(
                f"the backup is of format {manifest['format']}, this version reads {FORMAT}"
            )
        strange = [name for name in [*files, *links] if not _is_inside(name)]
        strange += [f"{name} -> {to}" for name, to in links.items() if not _stays_inside(name, to)]
        problems = [f"{name} leads out of the backup" for name in strange]
        problems += [f"{name} is missing" for name in sorted(files.keys() - set(names))]
        extra = sorted(set(names) - files.keys() - {MANIFEST})
        problems += [f"{name} does not belong here" for name in extra]
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        problems += [f"{name} is there twice" for name in twice]
        if not problems:
            problems = [
                f"{name} has changed" for name, told in files.items() if _told(reader, name) != told
            ]
    except (OSError, tarfile.TarError, LookupError, TypeError, AttributeError) as error:
        raise BackupError(f"the backup cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise BackupError(f"{MANIFEST} cannot be read: {error}") from error
    if problems:
        more = "" if len(problems) <= MAX_TOLD else f"; and {len(problems) - MAX_TOLD} more"
        raise BackupError(f"the backup is damaged: {'; '.join(problems[:MAX_TOLD])}{more}")
    return manifest


def _told(reader: Reader, name: str) -> dict[str, Any]:
    with reader.open(name) as opened:
        stream = Hashing(opened)
        while stream.read(CHUNK_BYTES):
            pass
    return stream.told()


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _stays_inside(name: str, to: str) -> bool:
    """Whether a link that lies at `name` stays below the top."""
    depth = len(PurePosixPath(name).parts) - 1
    for part in PurePosixPath(to).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return False
    return not PurePosixPath(to).is_absolute()


@contextmanager
def _reading(source: Path) -> Iterator[Reader]:
    if source.is_dir():
        yield FolderReader(source)
        return
    if not source.is_file():
        raise BackupError(f"there is no backup at {source}")
    try:
        with tarfile.open(source, "r:") as tar:
            yield TarReader(tar)
    except tarfile.TarError as error:
        raise BackupError(f"{source} is no backup, or a damaged one: {error}") from error


def _check_target(target: Path, replace: bool) -> None:
    if target.exists() and not target.is_dir():
        raise BackupError(f"{target} is no folder; choose another root with --root")
    if target.is_dir() and any(target.iterdir()) and not replace:
        raise BackupError(
            f"{target} is not empty; choose another root with --root, or give --replace: then what "
            "is there is set aside"
        )


def _fill(staging: Path, reader: Reader, manifest: dict[str, Any]) -> None:
    staging.mkdir()
    for name, told in manifest["files"].items():
        place = staging / (name.removeprefix(f"{ROOT}/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        with reader.open(name) as opened, place.open("wb") as file:
            stream = Hashing(opened)
            shutil.copyfileobj(stream, file, CHUNK_BYTES)
            file.flush()
            os.fsync(file.fileno())
        if stream.told() != told:
            raise BackupError(f"{name} changed while it was read")
    for name, to in manifest["links"].items():
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).symlink_to(to)


def _move_addresses(staging: Path, old: Path, new: Path) -> None:
    """Let MLflow find its files where the root is now."""
    database = staging / "mlflow.db"
    if old == new or not database.is_file():
        return
    before, after = old.as_uri() + "/", new.as_uri() + "/"
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in MLFLOW_ADDRESSES.items():
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE substr({column}, 1, ?) = ?",
                (after, len(before) + 1, len(before), before),
            )


def _load(
    staging: Path,
    manifest: dict[str, Any],
    load_dumps: Callable[[Path, dict[str, Path]], None] | None,
) -> None:
    names = [name for name in manifest["files"] if name.startswith(f"{DUMPS}/")]
    if names and load_dumps is not None:
        load_dumps(staging, {Path(name).name: staging / name for name in names})
        shutil.rmtree(staging / DUMPS)


def _swap(staging: Path, target: Path) -> Path | None:
    """Put the new root in place; the former one's new name."""
    if not target.exists() or not any(target.iterdir()):
        staging.rename(target)
        return None
    former = target.with_name(f"{target.name}.replaced-{time.strftime('%Y%m%d-%H%M%S')}")
    if not is_free(target / "locks" / "up.lock"):
        raise BackupError(f"grokpath up runs over {target}; end it first")
    with uses.gate_closed():
        target.rename(former)
        try:
            staging.rename(target)
        except OSError:
            former.rename(target)
            raise
    return former
