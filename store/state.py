"""What a data root remembers beside its artifacts, in one small SQLite file.

    <root>/state.db
        attempts     a row per run of a step's body: when it began and ended, and its error
        verified     sizes, times and inodes of artifacts' files when they were last hashed
        checkpoints  complete checkpoints of local folders, including folders deleted since
        announced    keys of the Prefect events that a server has accepted

Artifacts and their records are the truth. Without this file every artifact is hashed once more and
every local checkpoint read once more, deleted checkpoints are forgotten, and events are sent again.

The file has SQLite's default journal: machines that share a root over a network do not share the
memory that WAL needs.
"""

import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from store.root import root

SECONDS_TO_WAIT = 60.0
"""How long a write waits for other processes' writes."""
MAX_ERROR = 500  # characters
EARLIER = "seen"
"""Folder of version 0.1 with what it remembered of folders of checkpoints."""
SCHEMA = """
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY, artifact TEXT, step TEXT, run TEXT, flow_run TEXT, host TEXT,
    pid INTEGER, began_at TEXT, ended_at TEXT, seconds REAL, error TEXT
);
CREATE TABLE verified (artifact TEXT PRIMARY KEY, stamp TEXT);
CREATE TABLE checkpoints (
    folder TEXT, name TEXT, step INTEGER, tokens_seen INTEGER, digest TEXT, tokenizer_digest TEXT,
    stamps TEXT, PRIMARY KEY (folder, name)
);
CREATE TABLE announced (study TEXT, key TEXT, PRIMARY KEY (study, key));
"""


def path() -> Path:
    """The file."""
    return root() / "state.db"


def rows(statement: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """Answer of a SELECT; nothing where there is no file yet."""
    if not path().is_file() and (root() / EARLIER).is_dir():
        with suppress(ValueError), writing():  # takes over what an earlier version remembered
            pass
    if not path().is_file():
        return []
    with _connected() as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            return []  # it is being created, or its creation was killed
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(statement, values)]


@contextmanager
def writing(seconds: float = SECONDS_TO_WAIT) -> Iterator[sqlite3.Connection]:
    """A connection whose statements are one transaction, after waiting for others' at most so long.

    Raises
    ------
    ValueError
        When the file cannot be read or written, saying what to do.
    """
    path().parent.mkdir(parents=True, exist_ok=True)
    with _connected(seconds) as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in filter(str.strip, SCHEMA.split(";")):
                connection.execute(statement)
            _take_over(connection)
            connection.execute("PRAGMA user_version = 1")
        yield connection


@contextmanager
def _connected(seconds: float = SECONDS_TO_WAIT) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(path(), seconds, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = NORMAL")  # safe but for a rare power loss
            yield connection
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise ValueError(f"{path()} is in use by another process; run again") from error
        raise ValueError(
            f"{path()} cannot be used ({error}); make it writable and free some space, or, if it "
            "is damaged, move it away: artifacts are then hashed again, and checkpoints that were "
            "deleted from local folders are forgotten"
        ) from error


def _take_over(connection: sqlite3.Connection) -> None:
    """Checkpoints and events that version 0.1 remembered, in JSON files per folder and study."""
    for file in (root() / EARLIER).glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(file.read_text(encoding="utf-8"))
            known = [KnownCheckpoint(**row) for row in found["checkpoints"]]
            _insert_checkpoints(connection, Path(found["folder"]), known)
    for file in root().glob("*/told.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(file.read_text(encoding="utf-8"))
            keys = [str(found["warehouse"]), *map(str, found["events"])]
            _insert_announced(connection, file.parent.name, keys)


# ---------------------------------------------------------------- attempts


def attempt_began(artifact: str, step: str, run: str, flow_run: str | None) -> int:
    """Record that a body is about to run; returns the number of the attempt."""
    who = flow_run, socket.gethostname(), os.getpid(), _now()
    with writing() as connection:
        number = connection.execute(
            "INSERT INTO attempts (artifact, step, run, flow_run, host, pid, began_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (artifact, step, run, *who),
        ).lastrowid
    assert number is not None
    return number


def attempt_ended(number: int, seconds: float, error: str | None = None) -> None:
    """Record how it ended; `seconds` of computing do not include waiting for a worker."""
    with writing() as connection:
        connection.execute(
            "UPDATE attempts SET ended_at = ?, seconds = ?, error = ? WHERE id = ?",
            (_now(), seconds, error and error[:MAX_ERROR], number),
        )


def attempts() -> list[dict[str, Any]]:
    """All attempts, oldest first; one whose process was killed has no `ended_at`."""
    return rows("SELECT * FROM attempts ORDER BY id")


# ---------------------------------------------------------------- verified artifacts


def verified_stamp(artifact: str) -> str | None:
    """Stamp of an artifact's files when they were last hashed; None if they never were."""
    found = rows("SELECT stamp FROM verified WHERE artifact = ?", [artifact])
    return found[0]["stamp"] if found else None


def set_verified(artifact: str, stamp: str) -> None:
    """Remember that the files with these sizes, times and inodes have the recorded digests."""
    with suppress(ValueError), writing(1.0) as connection:  # a root may be read-only
        connection.execute("INSERT OR REPLACE INTO verified VALUES (?, ?)", (artifact, stamp))


def forget_verified(artifact: str) -> None:
    """Have an artifact hashed when it is next looked at."""
    with writing() as connection:
        connection.execute("DELETE FROM verified WHERE artifact = ?", (artifact,))


# ---------------------------------------------------------------- checkpoints of local folders


@dataclass(frozen=True)
class KnownCheckpoint:
    """A complete checkpoint as it was; `stamps` are empty where they could not be trusted yet."""

    name: str
    step: int
    tokens_seen: int | None
    digest: str
    tokenizer_digest: str
    stamps: dict[str, list[int]]


def known_checkpoints(folder: Path) -> dict[str, KnownCheckpoint]:
    """Checkpoints that were found in a folder, by name, also those deleted since."""
    columns = ", ".join(field.name for field in fields(KnownCheckpoint))
    found = rows(f"SELECT {columns} FROM checkpoints WHERE folder = ?", [str(folder)])
    return {
        row["name"]: KnownCheckpoint(**row | {"stamps": json.loads(row["stamps"])}) for row in found
    }


def set_known_checkpoints(folder: Path, known: Sequence[KnownCheckpoint]) -> None:
    """Remember these in place of what was known of a folder."""
    with writing() as connection:
        connection.execute("DELETE FROM checkpoints WHERE folder = ?", [str(folder)])
        _insert_checkpoints(connection, folder, known)


def _insert_checkpoints(
    connection: sqlite3.Connection, folder: Path, known: Sequence[KnownCheckpoint]
) -> None:
    values = [(str(folder), *astuple(one)[:-1], json.dumps(one.stamps)) for one in known]
    connection.executemany("INSERT INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?)", values)


# ---------------------------------------------------------------- announced events


def announced(study: str) -> set[str]:
    """Keys that were announced for a study."""
    found = rows("SELECT key FROM announced WHERE study = ?", [study])
    return {row["key"] for row in found}


def set_announced(study: str, keys: Sequence[str]) -> None:
    """Remember keys as announced."""
    with writing() as connection:
        _insert_announced(connection, study, keys)


def _insert_announced(connection: sqlite3.Connection, study: str, keys: Sequence[str]) -> None:
    pairs = [(study, key) for key in keys]
    connection.executemany("INSERT OR IGNORE INTO announced VALUES (?, ?)", pairs)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
