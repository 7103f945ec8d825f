"""Which artifacts no study refers to, and how they are deleted without harm to those in use.

A study with results in the root refers to what these were computed from: the records of its report
and warehouse name their inputs by content, the records of those name theirs, and so on. A study
that is named also refers to what a plan of it would reuse. Besides, nothing goes that was computed
or reused in the last days, and nothing at all while a run is in progress.
"""

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store import artifacts, locks
from studies.spec import Study
from tasks.hub import pin_data_set, pin_revision
from tasks.plan import Plan
from tasks.publish import REPORT, WAREHOUSE, export_tracking

SECONDS_PER_DAY = 86_400
PINS = (pin_revision.name, pin_data_set.name)
"""Steps whose artifacts stay, a few kilobytes each: they say what a branch once stood for."""
DIGEST_LENGTH = 40
"""Texts in records that are at least so long may be digests or commits."""


@dataclass(frozen=True)
class Removable:
    """An artifact that no study refers to, or what a killed process left.

    Attributes
    ----------
    kind
        Name of the step; `draft`, `discarded` (an artifact half deleted) or `record` (Prefect's, of
        a task that failed).
    last_at
        When it was computed or last reused, in seconds since the epoch.
    seconds
        What computing it again would take.
    """

    path: Path
    kind: str
    num_bytes: int
    last_at: float
    seconds: float = 0.0


@dataclass(frozen=True)
class Findings:
    """What stays and what may go.

    Attributes
    ----------
    referred
        Number of artifacts that each study refers to.
    not_named
        Studies with results in the root that are not among the named ones.
    young
        Artifacts that no study refers to, used too recently to go.
    foreign
        Links, which are left alone with what they lead to.
    """

    referred: dict[str, int]
    not_named: list[str]
    unused: list[Removable]
    young: list[Removable]
    remains: list[Removable]
    foreign: list[Path]


def look(
    named: Sequence[tuple[Study, Plan]], older_than_days: float, now: float | None = None
) -> Findings:
    """Find what may go; nothing is changed.

    Parameters
    ----------
    named
        The studies that stay, each with a plan of it; when empty, all with results in the root.

    Raises
    ------
    ValueError
        When an artifact's record cannot be read: what it refers to is not known.
    """
    before = (time.time() if now is None else now) - older_than_days * SECONDS_PER_DAY
    everything = _Records()
    names = [study.name for study, _ in named] if named else delivered_studies()
    referred = {name: everything.behind_results_of(name) for name in names}
    for study, plan in named:
        planned = [entry.artifact.path for entry in plan.entries if entry.artifact is not None]
        referred[study.name] |= everything.behind(planned)
    used = set().union(*referred.values())
    free = [
        everything.removable(folder)
        for folder in everything.folders
        if folder not in used and folder.parent.name not in PINS
    ]
    free.sort(key=lambda one: (one.last_at, one.path))
    return Findings(
        referred={name: len(found) for name, found in referred.items()},
        not_named=sorted(set(delivered_studies()) - set(names)),
        unused=[one for one in free if one.last_at <= before],
        young=[one for one in free if one.last_at > before],
        remains=[one for one in _remains() if one.last_at <= before],
        foreign=sorted(path for path in _entries() if not _is_inside(path)),
    )


def collect(shown: Findings, named: Sequence[tuple[Study, Plan]], older_than_days: float) -> int:
    """Delete what was shown and may still go; the number of bytes that are free now.

    Raises
    ------
    store.locks.RunInProgress
        When a run is in progress; nothing was deleted.
    """
    with locks.no_run():
        still = look(named, older_than_days)
        listed = {*shown.unused, *shown.remains}
        gone = [one for one in [*still.unused, *still.remains] if one in listed]
        for one in gone:
            if one in still.unused:
                artifacts.discard(one.path)
            elif one.path.is_dir():
                shutil.rmtree(one.path, ignore_errors=True)
            else:
                one.path.unlink(missing_ok=True)
        for name in delivered_studies():
            _drop_dangling(artifacts.root() / name)
    return sum(one.num_bytes for one in gone)


def delivered_studies() -> list[str]:
    """Names of the studies whose results lie in the root."""
    root = artifacts.root()
    if not root.is_dir():
        return []
    return sorted(
        folder.name
        for folder in root.iterdir()
        if folder.is_dir() and any((folder / name).is_symlink() for name in (REPORT, WAREHOUSE))
    )


class _Records:
    """The records of all artifacts, as a graph of what was computed from what."""

    def __init__(self) -> None:
        self.folders = {folder: _read(folder) for folder in _artifact_folders()}
        self._by_digest: dict[str, list[Path]] = defaultdict(list)
        for folder, record in self.folders.items():
            for digest in {record["digest"], *_digests(record["summary"])}:
                self._by_digest[digest].append(folder)

    def behind_results_of(self, study_name: str) -> set[Path]:
        """Everything that a study's delivered results were computed from.

        Raises
        ------
        ValueError
            When a result is gone: what it was computed from is then not known.
        """
        links = [artifacts.root() / study_name / name for name in (REPORT, WAREHOUSE)]
        places = {folder.resolve(): folder for folder in self.folders}
        results = {link.resolve().parent for link in links if link.is_symlink()}
        if lost := sorted(results - places.keys()):
            raise ValueError(
                f"the results of {study_name} are to be in {lost[0]}, which is no artifact here, "
                "so it is not known what they were computed from; run the study again, then gc. "
                "Nothing was deleted"
            )
        found = self.behind([places[result] for result in results])
        exports = [f for f in self.folders if f.parent.name == export_tracking.name]
        inputs = {f: set(_digests(self.folders[f]["inputs"])) for f in exports}
        digests = {self.folders[folder]["digest"] for folder in found}
        return found | {folder for folder in exports if inputs[folder] & digests}

    def behind(self, sinks: Sequence[Path]) -> set[Path]:
        """The artifacts in some folders and all that they were computed from.

        An artifact reads another where the digest of the other, or one in its summary, stands in
        its inputs: a checkpoint's is in the summary of its training, a commit in that of its pin.
        """
        found: set[Path] = set()
        waiting = [folder for folder in sinks if folder in self.folders]
        while waiting:
            folder = waiting.pop()
            if folder not in found:
                found.add(folder)
                for digest in _digests(self.folders[folder]["inputs"]):
                    waiting += self._by_digest.get(digest, [])
        return found

    def removable(self, folder: Path) -> Removable:
        num_bytes, last_at = _size_and_time(folder)
        return Removable(
            folder, folder.parent.name, num_bytes, last_at, self.folders[folder]["seconds"]
        )


def _read(folder: Path) -> dict[str, Any]:
    try:
        record = artifacts.read_record(folder)
        return {name: record[name] for name in ("digest", "summary", "inputs", "seconds")}
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{folder}: its record cannot be read, so it is not known what it was computed from; "
            "run its study again, or delete this folder, then run gc again. Nothing was deleted"
        ) from None


def _digests(value: Any) -> Iterator[str]:
    """Texts in JSON that may be digests or commits."""
    if isinstance(value, str):
        if len(value) >= DIGEST_LENGTH:
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _digests(item)
    elif isinstance(value, list):
        for item in value:
            yield from _digests(item)


def _entries() -> Iterator[Path]:
    """The folder of artifacts, the steps' folders and what is in them; follows no link."""
    top = artifacts.artifacts_root()
    if top.is_symlink() or not top.is_dir():
        yield from [top] if top.is_symlink() else []
        return
    for path in sorted(top.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from sorted(path.iterdir())


def _is_inside(path: Path) -> bool:
    return not path.is_symlink() and path.resolve().is_relative_to(artifacts.root().resolve())


def _artifact_folders() -> list[Path]:
    return [
        path
        for path in _entries()
        if artifacts.FOLDER.match(path.name) and _is_inside(path) and path.is_dir()
    ]


def _remains() -> Iterator[Removable]:
    """What killed processes left and nobody is working on."""
    for path in _entries():
        if not _is_inside(path):
            continue
        if path.is_file():
            if path.parent == artifacts.artifacts_root():
                yield Removable(path, "record", *_size_and_time(path))
        elif path.name.startswith(".discarded-"):
            yield Removable(path, "discarded", *_size_and_time(path))
        elif path.name.startswith(".draft-"):
            name = f"{path.parent.name}/{path.name.removeprefix('.draft-')}"
            if locks.is_free(name):
                yield Removable(path, "draft", *_size_and_time(path))


def _size_and_time(path: Path) -> tuple[int, float]:
    """Bytes of the files at or below a path, and when it was last written or used."""
    num_bytes, last_at = 0, path.lstat().st_mtime
    for folder, _, files in os.walk(path):
        for name in files:
            with suppress(FileNotFoundError):
                stat = Path(folder, name).lstat()
                num_bytes, last_at = num_bytes + stat.st_size, max(last_at, stat.st_mtime)
    return num_bytes or path.lstat().st_size * path.is_file(), last_at


def _drop_dangling(folder: Path) -> None:
    """Delete a study's links to what is gone, and its folder with the last one."""
    if folder.is_symlink():
        return
    for link in folder.iterdir():
        if link.is_symlink() and not link.exists():
            link.unlink()
    with suppress(OSError):  # something else is in it
        folder.rmdir()
