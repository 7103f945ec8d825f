"""The command that looks after the data root: `grokpath gc`."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from tasks.gc import Findings

OLDER_THAN_DAYS = 14.0
SECONDS_PER_DAY, SECONDS_PER_HOUR = 86_400, 3_600


def add_keep_commands(app: typer.Typer, out: Console, friendly: Any, quiet: Any) -> None:
    """Add the command to the command line; errors are reported as there."""

    @app.command()
    def gc(
        studies: Annotated[
            list[str] | None,
            typer.Argument(
                metavar="[STUDY]...",
                help="Studies to keep, by file or name; artifacts of all others may be removed. "
                "Without any, every study with results in the root is kept.",
            ),
        ] = None,
        older_than: Annotated[
            float, typer.Option(min=0, metavar="DAYS", help="Only what no run used for so long.")
        ] = OLDER_THAN_DAYS,
        journal: Annotated[
            float | None,
            typer.Option(
                min=0, metavar="DAYS", help="Also drop lines of journal.jsonl older than this."
            ),
        ] = None,
        paths: Annotated[bool, typer.Option("--paths", help="List every single path.")] = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="List only; never ask, never remove.")
        ] = False,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")] = False,
    ) -> None:
        """List artifacts that no study refers to, and remove them once that is confirmed.

        A study refers to what its newest finished run used, and to what runs used that began
        later and are not finished. What any run used in the last days stays in any case, and so
        does everything while a run goes on. Drafts, locks and half-deleted folders that killed
        processes left go as well. The hub cache is left alone: it has a budget of its own.

        In a terminal you are asked; elsewhere nothing goes without `--yes`.

        Example: `grokpath gc`, `grokpath gc mine.yaml nano --older-than 30 --yes`
        """
        with friendly():
            from tasks.gc import Rules, collect, look

            quiet(False)
            rules = Rules(older_than, journal)
            named = [_planned(study) for study in studies or ()]
            shown = look(named, rules)
            _print_findings(out, shown, older_than, paths)
            if shown.is_empty() or dry_run:
                return
            if not yes:
                if not sys.stdin.isatty():
                    out.print("nothing was removed; `--yes` removes what is listed")
                    return
                if not typer.confirm("Remove them?"):
                    out.print("nothing was removed")
                    return
            out.print(f"{_size(collect(shown, named, rules))} are free now")


def _planned(study: str) -> Any:
    from flows.study import plan_study
    from studies.load import load_study

    spec = load_study(study)
    plan = plan_study(spec)
    if plan.unresolved is not None:  # what it refers to is not known
        raise plan.unresolved
    return spec, plan


def _print_findings(out: Console, shown: "Findings", older_than: float, paths: bool) -> None:
    import time

    now = time.time()
    for name, count in shown.kept.items():
        out.print(f"kept: {escape(name)} ({count} artifacts)")
    for name in shown.let_go:
        out.print(f"let go: {escape(name)}, with its report and warehouse")
    for path in shown.strange:
        out.print(f"left alone, because it is a link: {path}", soft_wrap=True, markup=False)
    if shown.unused:
        out.print(_unused_table(shown, now))
    if shown.young:
        out.print(
            f"{len(shown.young)} more ({_size(sum(one.num_bytes for one in shown.young))}) were "
            f"used in the last {older_than:g} days and stay"
        )
    for kind, meaning in (
        ("draft", "drafts of attempts that ended"),
        ("discarded", "artifacts half deleted"),
        ("record", "records of failed tasks"),
        ("lock", "locks that nobody holds"),
    ):
        found = [one for one in shown.leftovers if one.kind == kind]
        if found:
            out.print(f"{len(found)} {meaning} ({_size(sum(one.num_bytes for one in found))})")
    if shown.old_runs:
        out.print(f"{len(shown.old_runs)} records of older runs")
    if shown.num_journal_lines:
        out.print(f"{shown.num_journal_lines} lines of the journal")
    if paths:
        for path in [one.path for one in shown.unused] + [one.path for one in shown.leftovers]:
            out.print(str(path), soft_wrap=True, markup=False)
    if shown.is_empty():
        out.print("nothing to remove")


def _unused_table(shown: "Findings", now: float) -> Table:
    table = Table("step", "artifacts", "size", "last used", "to make again", box=None)
    steps: dict[str, list[Any]] = {}
    for one in shown.unused:
        steps.setdefault(one.step_name, []).append(one)
    for name, found in [*sorted(steps.items()), ("all", shown.unused)]:
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
