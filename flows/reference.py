"""Commands that need no study: `grokpath measures | calibrate | frozen-router`."""

from typing import Annotated, Any

import typer
from rich.table import Table

from flows.console import app, friendly, out, quiet_prefect

PROMISE = 0.07
"""The verdict test's false-positive rate is at most this at the nominal 5 %."""
PROMISED_FOR = ("independent", "noisy at the same time")
"""What series may have to do with each other for it to hold (`tasks.reference.calibration`)."""


@app.command()
def measures(
    markdown: Annotated[bool, typer.Option(help="Print the page docs/measures.md.")] = False,
) -> None:
    """List every measure: unit, claimed sign, family, source.

    The page docs/measures.md is generated from here (`make docs`).
    """
    from tasks.reference import measures_markdown, measures_rows

    if markdown:
        typer.echo(measures_markdown(), nl=False)
        return
    table = Table("measure", "unit", "sign", "family", "source", box=None, header_style="bold")
    for row in measures_rows():
        sign = {-1: "−", 0: "·", 1: "+"}[row["expected_direction"]]
        table.add_row(row["monitor"], row["unit"], sign, row["family"], row["source"])
    out.print(table)


@app.command()
def calibrate(
    grid: Annotated[
        str, typer.Option(help="Checkpoint grid, such as `nano` or `even 10`.")
    ] = "nano",
    simulations: Annotated[int, typer.Option(min=10, help="Pairs per setting.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulations.")] = 2,
) -> None:
    """Measure how often each test is wrong on simulated series, and how often it is right.

    Unrelated series go through the code that judges a study. docs/statistics.md has the full
    table. Example: `grokpath calibrate --grid "even 10" --simulations 200`
    """
    with friendly():
        from tasks.reference import calibration, grids

        if grid not in grids():
            raise ValueError(f"grid is {grid!r}, expected one of {', '.join(grids())}")
        table = Table("test", "series", "settings", "p ≤ 0.05", "worst", "abstains", box=None)
        worst = 0.0
        for key, rates in _by_test(calibration(grid, simulations, seed)).items():
            share = [row["rejection_rate"] for row in rates]
            abstained = sum(row["abstain_rate"] for row in rates) / len(rates)
            mean = sum(share) / len(share)
            table.add_row(
                *key, str(len(share)), f"{mean:.3f}", f"{max(share):.3f}", f"{abstained:.2f}"
            )
            if key[0] == "verdict test" and key[1] in PROMISED_FOR:
                worst = max(worst, mean)
        out.print(table)
        out.print(
            f"verdict test on series that are {' or '.join(PROMISED_FOR)}: at most "
            f"{worst:.1%} false positives, {'within' if worst <= PROMISE else 'above'} the "
            f"promised {PROMISE:.0%}; single settings vary by chance with {simulations} pairs "
            "each, and series of the same period are not promised for"
        )
        if worst > PROMISE:
            raise typer.Exit(1)


@app.command("frozen-router")
def frozen_router(
    routers: Annotated[int, typer.Option(min=4, help="Random routers per variant.")] = 60,
    verbose: Annotated[bool, typer.Option(help="Show Prefect's log.")] = False,
) -> None:
    """Run the experiment with frozen routers (arXiv 2506.21551, App. C.4), ten seconds.

    Prints what goes with what, and where figure and tables are. docs/frozen_router.md explains.
    """
    with friendly(verbose):
        quiet_prefect(verbose)
        from flows.run import frozen_router_flow
        from flows.server import prefect_server
        from store import artifacts

        with prefect_server(artifacts.root()):
            result = frozen_router_flow(num_routers=routers)
        table = Table("routers", "x", "y", "n", "Pearson", "95 %", "p", box=None)
        for row in result["correlations"]:
            table.add_row(
                row["variant"].replace("_", " "),
                row["x"],
                row["y"],
                str(row["num_routers"]),
                _signed(row["pearson"]),
                f"{_signed(row['pearson_low'])} to {_signed(row['pearson_high'])}",
                "–" if row["p"] is None else f"{row['p']:.4f}",
            )
        out.print(table)
        out.print(f"figure and tables  {result['path']}", soft_wrap=True)


def _by_test(rows: Any) -> dict[tuple[str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        key = row["test"], row["series"]
        found.setdefault(key, []).append(row)
    return found


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"
