"""Which artifacts no study refers to, and how they are removed without harm to those in use.

A study refers to what its newest finished run used, and what was used by runs of it that began
later and are not finished. Named by a file, it refers to what the newest finished run of exactly
that file used; where there was none, to what a plan finds, and to what unfinished runs of it used.

An artifact goes only if no kept study refers to it and no run whatever has used it for some days.
Things are removed while no run goes on, and each artifact is renamed before it is deleted, so
whatever is there is whole, also after a crash in the middle.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from store import artifacts, journal, uses
from store.leftovers import Leftover, contained, leftovers, remove, size_and_time
from store.uses import Run
from studies.spec import Study
from tasks.events import TOLD
from tasks.plan import Plan
from tasks.publish import REPORT, WAREHOUSE, describe

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Unused:
    """An artifact that no kept study refers to.

    Attributes
    ----------
    last_at
        When it was made or last used, in seconds since the epoch.
    seconds
        What making it again would take.
    """

    path: Path
    step_name: str
    num_bytes: int
    last_at: float
    seconds: float


@dataclass(frozen=True)
class Findings:
    """What is kept, and what may go.

    Attributes
    ----------
    kept
        Number of artifacts that each kept study refers to.
    let_go
        Studies with results here that are not among the kept ones.
    young
        Artifacts that no study refers to, used too lately to go.
    strange
        Links and other things below `artifacts/` that are left alone.
    """

    kept: dict[str, int]
    let_go: list[str]
    unused: list[Unused]
    young: list[Unused]
    leftovers: list[Leftover]
    strange: list[Path]
    old_runs: list[Run] = field(default_factory=list)
    num_journal_lines: int = 0

    def is_empty(self) -> bool:
        """Whether nothing may go."""
        return not (self.unused or self.leftovers or self.num_journal_lines or self.old_runs)


@dataclass(frozen=True)
class Rules:
    """What is kept beside what studies refer to: days since the last use; days of journal."""

    older_than_days: float
    journal_days: float | None = None


def look(named: Sequence[tuple[Study, Plan]], rules: Rules, now: float | None = None) -> Findings:
    """Find what may go; nothing is changed.

    Parameters
    ----------
    named
        The studies to keep, each with a plan of it; when empty, all with results here are kept.

    Raises
    ------
    ValueError
        When it cannot be known what a study with results here uses.
    """
    now = time.time() if now is None else now
    runs = uses.all_runs()
    kept, kept_runs = _kept_named(named, runs) if named else _kept_delivered(runs)
    before = now - rules.older_than_days * SECONDS_PER_DAY
    free = _unreferred(set().union(*kept.values()) if kept else set(), runs)
    names = {study.name for study, _ in named} if named else set(kept)
    return Findings(
        kept={name: len(found & _present()) for name, found in kept.items()},
        let_go=sorted(set(delivered_studies()) - names),
        unused=[one for one in free if one.last_at <= before],
        young=[one for one in free if one.last_at > before],
        leftovers=[one for one in leftovers() if one.last_at <= before],
        strange=_strange(),
        old_runs=[run for run in runs if run not in kept_runs and run.last_at <= before],
        num_journal_lines=_old_lines(rules, now),
    )


def collect(
    shown: Findings,
    named: Sequence[tuple[Study, Plan]],
    rules: Rules,
    now: float | None = None,
) -> int:
    """Remove what was shown and may still go; the number of bytes that are free now.

    Raises
    ------
    store.uses.RunsGoOn
        When a run goes on; nothing was removed.
    """
    now = time.time() if now is None else now
    with uses.gate_closed():
        still = look(named, rules, now)
        unused = [one for one in still.unused if one in set(shown.unused)]
        for one in unused:
            artifacts.discard(one.path)
        left = [one for one in still.leftovers if one in set(shown.leftovers)]
        for found in left:
            remove(found)
        for name in delivered_studies():
            _drop_dangling(artifacts.root() / name)
        for run in still.old_runs:
            for file in run.files:
                file.unlink(missing_ok=True)
        if still.num_journal_lines and rules.journal_days is not None:
            journal.forget(now - rules.journal_days * SECONDS_PER_DAY)
    return sum(one.num_bytes for one in unused) + sum(one.num_bytes for one in left)


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


def _kept_delivered(runs: list[Run]) -> tuple[dict[str, set[str]], list[Run]]:
    """What every study refers to: its newest finished run, and those unfinished since."""
    kept: dict[str, set[str]] = {}
    kept_runs = []
    for name in sorted({name for run in runs for name in run.studies}):
        newest = max(
            (run for run in runs if name in run.finished),
            key=lambda run: run.finished[name],
            default=None,
        )
        chosen = [run for run in runs if _unfinished_since(run, name, newest)]
        chosen += [newest] if newest else []
        kept[name] = set().union(*(run.artifacts for run in chosen))
        kept_runs += chosen
    unknown = [
        name
        for name in delivered_studies()
        if not any(name in run.finished or name in run.studies for run in runs)
    ]
    if unknown:
        raise ValueError(
            f"it is not known what {', '.join(unknown)} uses: the run that delivered it left no "
            "record. Run it once more (nothing is computed when all is there), or name the studies "
            "to keep: grokpath gc STUDY ..."
        )
    return kept, kept_runs


def _unfinished_since(run: Run, name: str, newest: Run | None) -> bool:
    open_now = name in run.studies and name not in run.finished
    return open_now and (newest is None or run.last_at >= newest.last_at)


def _kept_named(
    named: Sequence[tuple[Study, Plan]], runs: list[Run]
) -> tuple[dict[str, set[str]], list[Run]]:
    """What the files refer to: their newest finished run, else what is there of them."""
    kept: dict[str, set[str]] = {}
    kept_runs = []
    for study, plan in named:
        spec = describe(study)["spec_fingerprint"]
        own = [run for run in runs if run.studies.get(study.name) == spec]
        whole = [run for run in own if study.name in run.finished]
        chosen = [max(whole, key=lambda run: run.finished[study.name])] if whole else []
        chosen += [run for run in own if study.name not in run.finished]
        planned = {artifacts.name_of(a.step_name, a.version, a.fingerprint) for a in _there(plan)}
        found = planned.union(*(run.artifacts for run in chosen))
        kept[study.name] = kept.get(study.name, set()) | found
        kept_runs += chosen
    return kept, kept_runs


def _there(plan: Plan) -> list[artifacts.Artifact]:
    return [entry.artifact for entry in plan.entries if entry.artifact is not None]


def _present() -> set[str]:
    """Names of the artifacts that are here; a run notes an artifact before it makes it."""
    return {f"{folder.parent.name}/{folder.name}" for folder in artifacts.all_artifacts()}


def _unreferred(kept: set[str], runs: list[Run]) -> list[Unused]:
    """Artifacts inside the root that are not kept, longest unused first."""
    last_used: dict[str, float] = {}
    for run in runs:
        for name in run.artifacts:
            last_used[name] = max(last_used.get(name, 0.0), run.last_at)
    found = []
    for folder in artifacts.all_artifacts():
        name = f"{folder.parent.name}/{folder.name}"
        if name in kept or not contained(folder):
            continue
        with suppress(FileNotFoundError):  # a run found it damaged and is making it again
            num_bytes, written_at = size_and_time(folder)
            last_at = max(written_at, last_used.get(name, 0.0))
            found.append(Unused(folder, folder.parent.name, num_bytes, last_at, _seconds(folder)))
    return sorted(found, key=lambda one: (one.last_at, one.path))


def _seconds(folder: Path) -> float:
    try:
        return float(artifacts.read_record(folder)["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0  # damaged; it would be made again anyway


def _strange() -> list[Path]:
    """What lies where artifacts lie and leads out of the root, or is a link."""
    top = artifacts.artifacts_root()
    if not top.is_dir():
        return []
    if not contained(top):
        return [top]
    steps = [path for path in top.iterdir() if path.is_dir()]
    inside = [path for step in steps if contained(step) for path in step.iterdir()]
    return sorted(path for path in [*steps, *inside] if not contained(path))


def _old_lines(rules: Rules, now: float) -> int:
    if rules.journal_days is None:
        return 0
    return journal.num_before(now - rules.journal_days * SECONDS_PER_DAY)


def _drop_dangling(folder: Path) -> None:
    """Remove a study's links to what is gone; with the last one what else we keep there."""
    if not contained(folder):
        return
    for link in folder.iterdir():
        if link.is_symlink() and not link.exists():
            link.unlink()
    if not any(path.is_symlink() for path in folder.iterdir()):
        (folder / TOLD).unlink(missing_ok=True)
        with suppress(OSError):  # somebody else put something there
            folder.rmdir()
