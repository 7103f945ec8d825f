"""The command that deletes what no study refers to: `grokpath gc`."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.console import app, friendly, out, quiet_prefect

if TYPE_CHECKING:
    from tasks.gc import Findings, Removable

OLDER_THAN_DAYS = 14.0
SECONDS_PER_DAY, SECONDS_PER_HOUR = 86_400, 3_600


@app.command()
def gc(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STUDY]...",
            help="Studies that stay, by file or name; artifacts of all others may be deleted. "
            "Without any, every study with results in the root stays.",
        ),
    ] = None,
    older_than: Annotated[
        float,
        typer.Option(
            min=0, metavar="DAYS", help="Only what was not computed or reused for so long."
        ),
    ] = OLDER_THAN_DAYS,
    paths: Annotated[bool, typer.Option("--paths", help="List every single path.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List only; never ask, never delete.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
) -> None:
    """List artifacts that no study refers to, and delete them once that is confirmed.

    A study refers to everything that its results were computed from; one that is named, also
    to what `grokpath plan` would reuse. What was computed or reused in the last days stays in
    any case, and so does everything while a run is in progress. Drafts and half-deleted
    folders of killed processes go as well. The hub cache has a budget of its own.

    In a terminal it waits for your answer; elsewhere nothing goes without `--yes`.

    Example: `grokpath gc`, `grokpath gc mine.yaml nano --older-than 30 --yes`
    """
    with friendly():
        from tasks.gc import collect, look

        quiet_prefect(False)
        named = [_planned(study) for study in studies or ()]
        shown = look(named, older_than)
        _print_findings(out, shown, older_than, paths)
        if dry_run or not (shown.unused or shown.remains):
            return
        if not yes:
            if not sys.stdin.isatty():
                out.print("nothing was deleted; `--yes` deletes what is listed")
                return
            if not typer.confirm("Delete them?"):
                out.print("nothing was deleted")
                return
        out.print(f"{_size(collect(shown, named, older_than))} are free now")


def _planned(study: str) -> Any:
    from flows.study import plan_study
    from studies.load import load_study

    spec = load_study(study)
    plan = plan_study(spec)
    if plan.unresolved is not None:  # what it refers to is not known
        raise plan.unresolved
    return spec, plan


def _print_findings(out: Console, shown: "Findings", older_than: float, paths: bool) -> None:
    for name, count in shown.referred.items():
        out.print(f"stays: {escape(name)} ({count} artifacts)")
    for name in shown.not_named:
        out.print(f"goes: {escape(name)}, with its report and warehouse")
    for path in shown.foreign:
        out.print(f"left alone, because it is a link: {path}", soft_wrap=True, markup=False)
    if shown.unused:
        out.print(_unused_table(shown.unused, time.time()))
    if shown.young:
        out.print(
            f"{len(shown.young)} more ({_size(sum(one.num_bytes for one in shown.young))}) were "
            f"computed or reused in the last {older_than:g} days and stay"
        )
    for kind, meaning in (
        ("draft", "drafts of attempts that ended"),
        ("discarded", "artifacts half deleted"),
        ("record", "records of failed tasks"),
    ):
        found = [one for one in shown.remains if one.kind == kind]
        if found:
            out.print(f"{len(found)} {meaning} ({_size(sum(one.num_bytes for one in found))})")
    if paths:
        for one in [*shown.unused, *shown.remains]:
            out.print(str(one.path), soft_wrap=True, markup=False)
    if not (shown.unused or shown.remains):
        out.print("nothing to delete")


def _unused_table(unused: "list[Removable]", now: float) -> Table:
    table = Table("step", "artifacts", "size", "last used", "to compute again", box=None)
    steps: dict[str, list[Removable]] = {}
    for one in unused:
        steps.setdefault(one.kind, []).append(one)
    for name, found in [*sorted(steps.items()), ("all", unused)]:
        days = [(now - one.last_at) / SECONDS_PER_DAY for one in found]
        table.add_row(
            escape(name),
            str(len(found)),
            _size(sum(one.num_bytes for one in found)),
            f"{min(days):.1f} to {max(days):.1f} days ago",
            f"{sum(one.seconds for one in found) / SECONDS_PER_HOUR:.2f} h",
        )
    return table


def _size(num_bytes: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes} bytes"
