"""What ran when: one line per attempt at an artifact, whoever made it.

    <root>/journal.jsonl    {"at": ..., "event": "began", "step": "routing", "run": "main step10",
                             "artifact": "routing/v3-...", "host": ..., "pid": ..., "flow_run": ...}

`event` is `began`, then `made` or `failed` (with `error`); both with `seconds` of computing, which
do not include waiting for a worker. An attempt that was
killed has no second line. What was reused has no line at all, so the lines count the bodies that
ran, over all processes and machines that share the root. Nothing reads it to decide anything: it
may be deleted at any time.
"""

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from store.artifacts import root

JOURNAL = "journal.jsonl"
MAX_ERROR = 500  # characters; a line stays below what a file system appends at once


def path() -> Path:
    """File of the journal."""
    return root() / JOURNAL


def note(event: str, **fields: Any) -> None:
    """Append one line, in one write, so that lines of several processes do not mix."""
    row = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        **fields,
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    if "error" in row:
        row["error"] = str(row["error"])[:MAX_ERROR]
    path().parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (json.dumps(row, default=str) + "\n").encode())
    finally:
        os.close(file)


def read() -> Iterator[dict[str, Any]]:
    """Every whole line, oldest first; one that a crash cut short is passed over."""
    if not path().is_file():
        return
    with path().open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def num_before(moment: float) -> int:
    """How many lines are older than a moment, in seconds since the epoch."""
    return sum(_at(row) < moment for row in read())


def forget(moment: float) -> None:
    """Drop the lines that are older than a moment; call it while nothing runs."""
    kept = [row for row in read() if _at(row) >= moment]
    trial = path().with_name(f".{JOURNAL}.{os.getpid()}")
    trial.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    trial.replace(path())


def _at(row: dict[str, Any]) -> float:
    return datetime.fromisoformat(row["at"]).timestamp()
