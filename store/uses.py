"""Which run used which artifact: what tells the artifacts in use from the others.

    <root>/uses/<flow run>.<host>.jsonl
        {"began": "nano", "spec": "<fingerprint of the study>", "at": ..., "host": ..., "pid": ...}
        {"artifact": "routing/v3-..."}       each before it is made or reused
        {"finished": "nano", "at": ...}      when the results were delivered

Lines are only added, one write each; every machine of a run has a file of its own, because appends
of two machines to one file can get lost on a shared file system. An artifact is noted before it is
there, so a run that is killed has noted all that it made.

A run holds the *gate* open while it goes on; who removes things holds it closed. So nothing is
removed under a run, and no run starts in the middle of a removal.
"""

import fcntl
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from store.artifacts import root

SUFFIX = ".jsonl"
GATE = "runs.gate"


class RunsGoOn(ValueError):
    """Something was to be removed while a run goes on."""


@dataclass
class Run:
    """What one flow run used, over all its attempts.

    Attributes
    ----------
    studies
        Fingerprint by name of the studies that it began.
    finished
        When the results of each were delivered, ISO 8601.
    last_at
        When it last noted something, in seconds since the epoch.
    """

    name: str
    studies: dict[str, str] = field(default_factory=dict)
    finished: dict[str, str] = field(default_factory=dict)
    artifacts: set[str] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)
    last_at: float = 0.0


def folder() -> Path:
    """Folder of the runs' files."""
    return root() / "uses"


def began(run: str, study: str, spec: str) -> None:
    """Note that a run begins to work on a study."""
    _note(run, began=study, spec=spec, at=_now(), host=socket.gethostname(), pid=os.getpid())


def used(run: str, artifact: str) -> None:
    """Note that a run wants an artifact, named relative to the artifacts' root."""
    _note(run, artifact=artifact)


def finished(run: str, study: str) -> None:
    """Note that a run delivered the results of a study."""
    _note(run, finished=study, at=_now())


def all_runs() -> list[Run]:
    """Every run that left a file, the one that noted something last at the end."""
    runs: dict[str, Run] = {}
    if folder().is_dir():
        for file in sorted(folder().glob(f"*{SUFFIX}")):
            name = file.name.partition(".")[0]
            _read(file, runs.setdefault(name, Run(name)))
    return sorted(runs.values(), key=lambda run: run.last_at)


@contextmanager
def gate_open() -> Iterator[None]:
    """Go on as a run does; waits while somebody removes things."""
    with _gate() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def gate_closed() -> Iterator[None]:
    """Remove things: no run goes on, none starts.

    Raises
    ------
    RunsGoOn
        At once, when a run goes on.
    """
    with _gate() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunsGoOn(
                f"a run goes on in {root()}; nothing was removed. Try again when it is done"
            ) from None
        yield


@contextmanager
def _gate() -> Iterator[int]:
    path = root() / "locks" / GATE
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield file
    finally:
        os.close(file)


def _note(run: str, **fields: Any) -> None:
    host = re.sub(r"[^\w-]", "_", socket.gethostname())
    folder().mkdir(parents=True, exist_ok=True)
    path = folder() / f"{run}.{host}{SUFFIX}"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (json.dumps(fields) + "\n").encode())
    finally:
        os.close(file)


def _read(file: Path, run: Run) -> None:
    run.files.append(file)
    run.last_at = max(run.last_at, file.stat().st_mtime)
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # cut short by a crash; nothing was made under it
            continue
        if "artifact" in row:
            run.artifacts.add(row["artifact"])
        elif "began" in row:
            run.studies[row["began"]] = row["spec"]
            run.finished.pop(row["began"], None)
        elif "finished" in row:
            run.finished[row["finished"]] = row["at"]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
