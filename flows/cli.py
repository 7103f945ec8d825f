"""The command line: `grokpath run | plan | status | report | sql | verify`, more in `--help`."""

import json
import os
import shlex
import sys
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from flows.console import (
    BAD_REQUEST,
    FAILED,
    INCOMPLETE,
    OverlayOption,
    StudyArgument,
    app,
    err,
    friendly,
    load,
    out,
    plan_of,
    print_left_out,
    print_plan_line,
    print_stopping,
    quiet_prefect,
    run_and_leave,
)
from flows.costs import known_gpu, print_costs, print_gpus

if TYPE_CHECKING:
    from studies.spec import Study
    from tasks.plan import Plan


class OutputFormat(StrEnum):
    """How `grokpath sql` prints."""

    table = "table"
    csv = "csv"
    json = "json"


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
    with friendly(verbose):
        spec = load(study, overlay)
        quiet_prefect(verbose)
        from flows.display import display_for
        from flows.run import study_flow
        from flows.server import prefect_server
        from flows.stopping import stoppable
        from flows.study import plan_study
        from store import artifacts

        artifacts.check_root()
        plan = plan_study(spec)
        print_plan_line(spec, plan)
        try:
            with (
                stoppable(print_stopping),
                prefect_server(artifacts.root()),
                display_for(plan, out),
            ):
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

    A step that reads something yet to be computed counts as to be run; it may turn out reusable.
    Exit code 2 when the study cannot run: models that no family reads, samples without the field.

    Example: `grokpath plan olmoe_1b_7b --gpu H200`
    """
    with friendly():
        if gpu == "LIST":
            print_gpus(out)
            return
        from studies.base import NothingYet
        from tasks.costs import study_costs

        spec = load(study, overlay)
        plan = plan_of(spec)
        costs = study_costs(spec, plan, gpu)
        print_costs(costs, out)
        print_plan_line(spec, plan)
        for obstacle in costs.obstacles:
            err.print(f"cannot run: {obstacle}", markup=False, soft_wrap=True)
        waits = plan.unresolved is None or isinstance(plan.unresolved, NothingYet)
        if costs.obstacles or not waits:
            raise typer.Exit(BAD_REQUEST)


@app.command()
def status(study: StudyArgument, overlay: OverlayOption = None) -> None:
    """Show the completeness matrix: checkpoints down, steps across. Exit code 3 if incomplete."""
    with friendly():
        plan = plan_of(load(study, overlay))
        out.print(_matrix(plan))
        print_left_out(plan)
        of_all = [entry for entry in plan.entries if entry.checkpoint is None]
        for entry in of_all:
            out.print(f"{_mark(entry.artifact)} {escape(entry.label)}")
        missing = sum(entry.artifact is None for entry in plan.entries)
        if plan.unresolved:
            raise typer.Exit(INCOMPLETE)
        if missing:
            out.print(f"{missing} of {len(plan.entries)} steps are missing: grokpath run {study}")
            raise typer.Exit(INCOMPLETE)
        out.print(f"complete: all {len(plan.entries)} steps are there")


@app.command()
def report(
    study: StudyArgument,
    overlay: OverlayOption = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the web browser.")] = False,
) -> None:
    """Say where the report of a study is. Exit code 3 if there is none yet."""
    with friendly():
        from tasks.publish import REPORT, delivered

        spec = load(study, overlay)
        path = delivered(spec.name, REPORT)
        if not path.exists():
            err.print(f"there is no report of {spec.name} yet: grokpath run {study}")
            raise typer.Exit(INCOMPLETE)
        out.print(str(path), soft_wrap=True)
        plan = plan_of(spec)
        print_left_out(plan)
        if not any(
            entry.step_name == "report" and entry.artifact is not None for entry in plan.entries
        ):
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
    with friendly():
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
    with friendly():
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
            out.print("damaged artifacts are computed again by the next run of their study")
            raise typer.Exit(FAILED)
        out.print(f"{len(folders)} artifacts, none damaged")


def main() -> None:
    """Entry point of the console script."""
    run_and_leave(app)


# ---------------------------------------------------------------- pieces


def _study_name(study: str) -> str:
    return load(study).name if Path(study).suffix in (".yaml", ".yml") else study


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


# Each of these adds its commands, after ours in `--help`.
from flows import gc, operate, reference, watching  # noqa: E402, F401

if __name__ == "__main__":
    main()
