"""The command line: `grokpath run | plan | status | report | sql | verify`, and more in `--help`.

Only light imports stand at the top; torch, Prefect and DuckDB are imported where they are used, so
that `--help` answers at once. Exit codes: 0 done, 1 failed, 2 the request cannot be understood,
3 incomplete.
"""

import errno
import json
import os
import shlex
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.costs import known_gpu, print_costs, print_gpus
from flows.gc import add_gc_command
from flows.operate import add_operating_commands
from flows.process import offline_without_hub, run_and_leave, show_warnings
from flows.reference import add_reference_commands
from flows.watching import add_watch_command
from store import environment

if TYPE_CHECKING:
    from studies.spec import Study
    from tasks.plan import Plan

FAILED, BAD_REQUEST, INCOMPLETE = 1, 2, 3

app = typer.Typer(
    help="Watch memorization turn into generalization while a mixture-of-experts language model "
    "is pretrained.\n\nA STUDY is a YAML file, or the name of one that ships with grokpath: "
    "`nano` (the default study, minutes on two cores) or `smoke` (the same path in about a "
    "minute).\n\nWhatever was made before is reused; after a failure or a kill, run again.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
# A file or a pipe has no width that lines would have to fit in.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
err = Console(stderr=True, highlight=False)

StudyArgument = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="Study file, or the name of one that ships: nano, smoke, nano_variants, nano_choose, "
        "nano_judge, olmoe_1b_7b and its relatives.",
    ),
]

OverlayOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--overlay",
        help="YAML file, or `pilot`, `tiny` or `all`, that changes a few fields; repeatable.",
    ),
]


class OutputFormat(StrEnum):
    """How `grokpath sql` prints."""

    table = "table"
    csv = "csv"
    json = "json"


@app.callback()
def common(
    root: Annotated[
        Path | None,
        typer.Option(
            help="Folder for everything a study produces. "
            "Default: $GROKPATH_ROOT, else ./grokpath-data."
        ),
    ] = None,
) -> None:
    """Settings that hold for every command."""
    if root is not None:
        os.environ["GROKPATH_ROOT"] = str(root.expanduser().absolute())


@app.command()
def run(
    study: StudyArgument,
    overlay: OverlayOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show Prefect's own log.")
    ] = False,
) -> None:
    """Run a study to its report, reusing whatever is there.

    Example: `grokpath run nano`
    """
    with _friendly(verbose):
        spec = _load(study, overlay)
        _quiet_prefect(verbose)
        from flows.display import display_for
        from flows.run import study_flow
        from flows.server import prefect_server
        from flows.stopping import stoppable
        from flows.study import plan_study
        from store import artifacts

        artifacts.check_root()
        plan = plan_study(spec)
        _print_plan_line(spec, plan)
        try:
            with stoppable(_say_stopping), prefect_server(artifacts.root()), display_for(plan, out):
                paths = study_flow(spec)
        finally:
            artifacts.sweep()
        _print_results(spec, paths)


@app.command()
def plan(
    study: StudyArgument,
    overlay: OverlayOption = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", callback=known_gpu, help="Hours of this GPU; `list` names all."
        ),
    ] = None,
) -> None:
    """Show what `run` would do, what it would reuse and what it would cost; do nothing.

    A step that reads something yet to be made counts as to be run; it may turn out reusable.
    Exit code 2 when the study cannot run: models that no family reads, samples without the field.

    Example: `grokpath plan olmoe_1b_7b --gpu H200`
    """
    with _friendly():
        if gpu == "LIST":
            print_gpus(out)
            return
        from studies.base import NothingYet
        from tasks.costs import study_costs

        spec = _load(study, overlay)
        made = _plan(spec)
        costs = study_costs(spec, made, gpu)
        print_costs(costs, out)
        _print_plan_line(spec, made)
        for obstacle in costs.obstacles:
            err.print(f"cannot run: {obstacle}", markup=False, soft_wrap=True)
        waits = made.unresolved is None or isinstance(made.unresolved, NothingYet)
        if costs.obstacles or not waits:
            raise typer.Exit(BAD_REQUEST)


@app.command()
def status(study: StudyArgument, overlay: OverlayOption = None) -> None:
    """Show the completeness matrix: checkpoints down, steps across. Exit code 3 if incomplete."""
    with _friendly():
        made = _plan(_load(study, overlay))
        out.print(_matrix(made))
        _print_left_out(made)
        whole = [entry for entry in made.entries if entry.checkpoint is None]
        for entry in whole:
            out.print(f"{_mark(entry.artifact)} {escape(entry.label)}")
        missing = sum(entry.artifact is None for entry in made.entries)
        if made.unresolved:
            raise typer.Exit(INCOMPLETE)
        if missing:
            out.print(f"{missing} of {len(made.entries)} steps are missing: grokpath run {study}")
            raise typer.Exit(INCOMPLETE)
        out.print(f"complete: all {len(made.entries)} steps are there")


@app.command()
def report(
    study: StudyArgument,
    overlay: OverlayOption = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the web browser.")] = False,
) -> None:
    """Say where the report of a study is. Exit code 3 if it was never made."""
    with _friendly():
        from tasks.publish import REPORT, delivered

        spec = _load(study, overlay)
        path = delivered(spec.name, REPORT)
        if not path.exists():
            err.print(f"there is no report of {spec.name} yet: grokpath run {study}")
            raise typer.Exit(INCOMPLETE)
        out.print(str(path), soft_wrap=True)
        plan = _plan(spec)
        made = plan.entries
        _print_left_out(plan)
        if not any(entry.step_name == "report" and entry.artifact is not None for entry in made):
            err.print("it is older than the study file: run again to bring it up to date")
        if show:
            webbrowser.open(path.as_uri())


@app.command()
def sql(
    statement: Annotated[
        str | None, typer.Argument(metavar="[SQL]", help="One SELECT statement.")
    ] = None,
    study: Annotated[str, typer.Option(help="Whose warehouse to read.")] = "nano",
    tables: Annotated[
        bool, typer.Option("--tables", help="List tables and views with what they hold.")
    ] = False,
    output: Annotated[OutputFormat, typer.Option("--format")] = OutputFormat.table,
) -> None:
    """Ask the warehouse (DuckDB) of a finished study.

    Example: `grokpath sql "select * from correlation_table"`
    """
    with _friendly():
        from store import warehouse
        from tasks.publish import WAREHOUSE, delivered

        path = delivered(_study_name(study), WAREHOUSE)
        if not path.exists():
            err.print(f"there is no warehouse of {study} yet: grokpath run {study}")
            raise typer.Exit(INCOMPLETE)
        if tables:
            for relation in warehouse.describe(path):
                out.print(
                    f"[bold]{relation.name}[/bold] ({relation.kind}, {relation.num_rows:,} rows)  "
                    f"{escape(relation.description)}"
                )
        elif statement is None:
            raise ValueError('give a SELECT statement, or --tables; see "grokpath sql --help"')
        else:
            _print_rows(warehouse.query(path, statement), output)


@app.command()
def verify() -> None:
    """Check every file of every artifact against its recorded SHA-256. Exit code 1 if damaged."""
    with _friendly():
        from rich.progress import track

        from store import artifacts

        folders = list(artifacts.all_artifacts())
        damaged = 0
        watched = track(folders, "verifying", console=err, disable=not err.is_terminal)
        for folder in watched:
            for problem in artifacts.verify(folder):
                damaged += 1
                out.print(f"{folder}: {problem}", soft_wrap=True, markup=False)
        if damaged:
            out.print("damaged artifacts are made again by the next run of their study")
            raise typer.Exit(FAILED)
        out.print(f"{len(folders)} artifacts, all whole")


def main() -> None:
    """Entry point of the console script."""
    run_and_leave(app)


# ---------------------------------------------------------------- pieces


@contextmanager
def _friendly(verbose: bool = False) -> Iterator[None]:
    """One message instead of a traceback, and the right exit code."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        from studies.load import StudyError

        if verbose:
            raise
        if isinstance(error, StudyError):
            err.print(str(error), markup=False, soft_wrap=True)
            raise typer.Exit(BAD_REQUEST) from None
        name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        err.print(f"failed: {name}{error}{_advice(error)}", markup=False, soft_wrap=True)
        raise typer.Exit(FAILED) from None


def _advice(error: Exception) -> str:
    """What to do about an error of the system itself, or of one in a step."""
    causes = [one for one in (error, *getattr(error, "causes", ())) if isinstance(one, OSError)]
    if not causes:
        return ""
    error = causes[0]
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "\nfree some space and run again; everything finished so far is kept"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return "\nmake it writable, or choose another folder with --root or GROKPATH_ROOT"
    return ""


def _say_stopping() -> None:
    out.show_cursor(True)
    err.print("stopping; everything finished so far is kept, run again to go on")


def _load(study: str, overlays: list[Path] | None = None) -> "Study":
    from studies.load import load_study

    return load_study(study, overlays or ())


def _study_name(study: str) -> str:
    return _load(study).name if Path(study).suffix in (".yaml", ".yml") else study


def _plan(spec: "Study") -> "Plan":
    if any(series.source.kind == "hub" for series in spec.series):
        offline_without_hub()
    _quiet_prefect(False)
    from flows.study import plan_study

    return plan_study(spec)


def _quiet_prefect(verbose: bool) -> None:
    """Before Prefect is imported: its log stays out of the terminal; its pages still get all."""
    from store.artifacts import root

    environment.find_room(root())
    show_warnings(err)
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    if not verbose:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")


def _print_left_out(plan: "Plan") -> None:
    for one in [*plan.left_out, *filter(None, [plan.unresolved])]:
        err.print(str(one), markup=False, soft_wrap=True)


def _print_plan_line(spec: "Study", plan: "Plan") -> None:
    total = len(plan.entries)
    reused = sum(entry.artifact is not None for entry in plan.entries)
    out.print(f"{spec.name}: {total} steps, {reused} reused, {total - reused} to be run")
    _print_left_out(plan)


def _print_results(spec: "Study", paths: dict[str, str]) -> None:
    from store import artifacts

    root = (
        ""
        if artifacts.root() == Path("grokpath-data").absolute()
        else f"--root {shlex.quote(str(artifacts.root()))} "
    )
    out.print(f"report     {paths['report']}", soft_wrap=True)
    out.print(
        f"warehouse  {paths['warehouse']}   (grokpath {root}sql --study {spec.name} --tables)",
        soft_wrap=True,
    )
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        store = shlex.quote(f"sqlite:///{artifacts.root() / 'mlflow.db'}")
        out.print(f"MLflow     mlflow server --backend-store-uri {store}", soft_wrap=True)


def _matrix(plan: "Plan") -> Table:
    steps = list(dict.fromkeys(e.step_name for e in plan.entries if e.checkpoint is not None))
    table = Table("series", "checkpoint", *steps, box=None, pad_edge=False)
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in plan.entries:
        if entry.checkpoint is not None:
            row = cells.setdefault((entry.checkpoint.series, entry.checkpoint.revision), {})
            row[entry.step_name] = entry.artifact
    for (series, revision), row in cells.items():
        table.add_row(series, revision, *(_mark(row.get(name)) for name in steps))
    return table


def _mark(artifact: object | None) -> str:
    return "[green]✓[/green]" if artifact is not None else "[dim]·[/dim]"


def _print_rows(rows: Any, output: OutputFormat) -> None:
    if output is OutputFormat.csv:
        rows.to_pandas().to_csv(sys.stdout, index=False)
    elif output is OutputFormat.json:
        sys.stdout.write(json.dumps(rows.to_pylist(), default=str, indent=1) + "\n")
    else:
        table = Table(*(escape(name) for name in rows.column_names), box=None, pad_edge=False)
        for row in rows.to_pylist():
            table.add_row(*(escape(_cell(value)) for value in row.values()))
        out.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


add_reference_commands(app, out, _friendly, _quiet_prefect)
add_operating_commands(app, out, _friendly)
add_gc_command(app, out, _friendly, _quiet_prefect)
add_watch_command(app, out, _friendly, _quiet_prefect, _load, _say_stopping)


if __name__ == "__main__":
    main()
