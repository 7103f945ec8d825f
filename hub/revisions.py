"""Which checkpoints a repository offers, and which of them a study takes.

Series publish one branch per checkpoint, named after its step (`step5000-tokens20B`).
"""

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from hub import connection
from hub.cache import remembered, storage
from studies.base import NothingYet, parse_checkpoint_name

WIDE_GAP = 2.0  # times the median distance


class Revision(BaseModel):
    """One branch that is a checkpoint; `commit` is where it points now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    commit: str
    step: int
    tokens_seen: int | None

    @property
    def revision(self) -> str:
        """The branch's name, as a checkpoint calls it."""
        return self.name


class Stepped(Protocol):
    """A revision or a checkpoint: something of a series that has a step."""

    @property
    def revision(self) -> str:
        """Its name."""
        ...

    @property
    def step(self) -> int:
        """Optimizer steps."""
        ...


def list_revisions(repository: str, prefix: str = "") -> tuple[Revision, ...]:
    """Branches of a repository that are checkpoints, in order of step; one request.

    Of branches with a prefix, such as `stage1-step1000`, only those are checkpoints that have it.
    Offline the list is the one of last time.
    """
    branches = remembered(_list(repository), lambda: connection.branches(repository))
    if branches is None:
        raise ValueError(
            f"{repository}: offline (HF_HUB_OFFLINE), and its branches were never listed on this "
            "machine; list the revisions in the study, or run once with a network"
        )
    revisions = []
    for name, commit in branches.items():
        if name.startswith(prefix) and (parsed := parse_checkpoint_name(name[len(prefix) :])):
            step, tokens_seen = parsed
            revisions.append(Revision(name=name, commit=commit, step=step, tokens_seen=tokens_seen))
    return tuple(sorted(revisions, key=lambda revision: (revision.step, revision.name)))


def _list(repository: str) -> Path:
    return storage(repository) / "listings" / "branches.json"


def choose(
    revisions: Sequence[Revision],
    *,
    names: Sequence[str] | None = None,
    steps: Sequence[int] | None = None,
    count: int | None = None,
    first_step: int | None = None,
    last_step: int | None = None,
) -> tuple[Revision, ...]:
    """The revisions that a study asks for, in order of step, one per step.

    Parameters
    ----------
    names
        These and no others.
    steps
        Those of these steps and no others.
    first_step, last_step
        Only those between, both included.
    count
        Of what is left so many, the nearest to an even grid over the steps; the first and the last
        are always among them.

    Raises
    ------
    NothingYet
        When there are fewer than `count`.
    ValueError
        When a name is unknown, or two names are one step.
    """
    if names is not None:
        return _named(revisions, names)
    by_step = {revision.step: revision for revision in revisions}
    if steps is not None:
        return tuple(_of_step(by_step, step) for step in steps)
    between = [
        revision
        for step, revision in sorted(by_step.items())
        if (first_step is None or step >= first_step) and (last_step is None or step <= last_step)
    ]
    if not between or len(between) < (count or 1):
        there = f"steps {min(by_step)} to {max(by_step)}" if by_step else "no checkpoint at all"
        raise NothingYet(
            f"found {len(between)} checkpoints between step {first_step or 0} and "
            f"{last_step or 'the end'}, expected {count or 'at least 1'}; the repository has "
            f"{len(by_step)} ({there}) among branches named step<N> or step<N>-tokens<M>"
        )
    return tuple(between) if count is None else _even(between, count)


def _of_step(by_step: dict[int, Revision], step: int) -> Revision:
    if step not in by_step:
        near = sorted(sorted(by_step, key=lambda other: abs(other - step))[:3])
        hint = f"; near it are {', '.join(map(str, near))}" if near else ""
        raise ValueError(f"no checkpoint of step {step} among {len(by_step)}{hint}")
    return by_step[step]


def _named(revisions: Sequence[Revision], names: Sequence[str]) -> tuple[Revision, ...]:
    known = {revision.name: revision for revision in revisions}
    for name in names:
        if name not in known:
            raise ValueError(
                f"no revision {name} among the {len(known)} checkpoints"
                f"{connection.near(name, known)}"
            )
    chosen = sorted({known[name] for name in names}, key=lambda revision: revision.step)
    for one, other in itertools.pairwise(chosen):
        if one.step == other.step:
            raise ValueError(f"{one.name} and {other.name} are the same step; name one of them")
    return tuple(chosen)


def _even(revisions: Sequence[Revision], count: int) -> tuple[Revision, ...]:
    first, last = revisions[0].step, revisions[-1].step
    chosen: list[int] = []
    for i in range(count):
        target = first + (last - first) * i / max(count - 1, 1)
        # What follows the last one taken, leaving enough for those still to come.
        free = range(chosen[-1] + 1 if chosen else 0, len(revisions) - (count - 1 - i))
        chosen.append(min(free, key=lambda at: abs(revisions[at].step - target)))
    return tuple(revisions[at] for at in chosen)


def gaps(revisions: Sequence[Stepped]) -> tuple[str, ...]:
    """Sentences on the places where the steps lie far apart: more than twice the median."""
    pairs = list(itertools.pairwise(revisions))
    if not pairs:
        return ()
    usual = statistics.median(after.step - before.step for before, after in pairs)
    return tuple(
        f"{after.step - before.step} steps lie between {before.revision} and {after.revision}, "
        f"where {usual:g} are usual: what happens in between is not seen"
        for before, after in pairs
        if after.step - before.step > WIDE_GAP * usual
    )
