"""`grokpath watch`: a training run followed from a terminal, without servers or schedules."""

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.console import app, friendly, load, out, print_stopping, quiet_prefect

UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    """A time such as 90s, 5m or 2h.

    >>> seconds("5m")
    300.0
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if found is None or not float(found[1]):
        raise typer.BadParameter(f"{text!r} is no time above 0; expected one like 90s, 5m or 2h")
    return float(found[1]) * UNITS[found[2]]


@app.command()
def watch(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="Study file, or the name of one that ships.")
    ],
    overlay: Annotated[
        list[str] | None,
        typer.Option(
            "--overlay",
            help="YAML file, or `pilot`, `tiny` or `all`, that changes a few fields; repeatable.",
        ),
    ] = None,
    every: Annotated[
        Any,
        typer.Option(
            parser=seconds, metavar="TIME", help="Time between two looks, such as 30s, 5m."
        ),
    ] = "5m",
    once: Annotated[bool, typer.Option("--once", help="Look once, then end.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show Prefect's own log.")
    ] = False,
) -> None:
    """Measure the checkpoints that a training run writes, as they come; Ctrl-C ends it.

    Checks the study's folder or repository at intervals and measures what is new. A failure
    is reported and tried again with the next look; with `--once` it ends with exit code 1. The
    study file is read once.

    Example: `grokpath watch mine.yaml --every 10m`
    """
    with friendly(verbose), ExitStack() as held:
        spec = load(study, overlay)
        quiet_prefect(verbose)
        from flows.stopping import stoppable
        from store import artifacts

        artifacts.check_root()
        held.enter_context(stoppable(print_stopping))
        started = _server_once(held)
        if once:
            _tell(out, bring_up_to_date(spec, out, started))
            return
        while True:
            try:
                _tell(out, bring_up_to_date(spec, out, started))
            except Exception as error:
                _tell(out, f"failed: {error}")
                _tell(out, f"tried again in {every:g} s")
            time.sleep(every)


def bring_up_to_date(spec: Any, out: Console, start_server: Callable[[], None]) -> str:
    """One look: do what is new, if anything is; what to say of it."""
    from flows.display import display_for
    from flows.study import plan_study
    from flows.watch import MIN_CHECKPOINTS, NOTHING_NEW, news_of, watch_flow
    from store import artifacts
    from studies.base import NothingYet

    try:
        plan = plan_study(spec, min_checkpoints=MIN_CHECKPOINTS)
        for one in plan.left_out:
            _tell(out, str(one))
        if not news_of(spec, plan):
            return f"{spec.name}: {NOTHING_NEW}"
    except NothingYet as nothing:
        return f"{spec.name}: {nothing}"
    start_server()
    try:
        with display_for(plan, out):
            paths = watch_flow(spec)
    finally:
        artifacts.sweep()
    if paths:
        return f"{spec.name}: up to date, {paths['report']}"
    return f"{spec.name}: {plan.unresolved or NOTHING_NEW}"


def _server_once(held: ExitStack) -> Callable[[], None]:
    """Start the temporary Prefect server with the first thing to do, and keep it."""
    running = False

    def start() -> None:
        nonlocal running
        if not running:
            from flows.server import prefect_server
            from store import artifacts

            held.enter_context(prefect_server(artifacts.root()))
            running = True

    return start


def _tell(out: Console, line: str) -> None:
    out.print(f"{datetime.now():%H:%M:%S}  {line}", markup=False, soft_wrap=True)
