"""What was in a folder of checkpoints when somebody last looked.

    <root>/seen/<sha256 of the folder's path>.json

Two things depend on it. A checkpoint whose files were not touched since need not be read again to
know its digest. And a training run that keeps only its newest checkpoints deletes what was measured
already: the digest is then all that is left of a checkpoint, and all that is needed to find its
artifacts. Deleting the file costs reading every checkpoint once, and the memory of those deleted.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from store.artifacts import root


class Seen(BaseModel):
    """A complete checkpoint as it was; `stamps` are empty where they could not be trusted yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    step: int
    tokens_seen: int | None
    digest: str
    tokenizer_digest: str
    stamps: dict[str, list[int]]


def recall(folder: Path) -> dict[str, Seen]:
    """Checkpoints that were seen in a folder, by name; none when nobody looked or it is damaged."""
    try:
        rows = json.loads(_file(folder).read_text(encoding="utf-8"))["checkpoints"]
        return {row["name"]: Seen(**row) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return {}


def remember(folder: Path, seen: dict[str, Seen]) -> None:
    """Write down what is to be known of a folder, in place of what was."""
    file = _file(folder)
    rows: list[dict[str, Any]] = [one.model_dump() for one in seen.values()]
    text = json.dumps({"folder": str(folder), "checkpoints": rows}, indent=1)
    trial = file.with_name(f".{file.name}.{os.getpid()}")
    trial.write_text(text, encoding="utf-8")
    trial.replace(file)


@contextmanager
def looking(folder: Path) -> Iterator[None]:
    """Hold the right to change what is known of a folder; a second one on this machine waits."""
    file = _file(folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = root() / "locks" / f"seen-{file.stem}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _file(folder: Path) -> Path:
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:20]
    return root() / "seen" / f"{name}.json"
