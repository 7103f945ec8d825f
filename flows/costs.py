"""What `grokpath plan` prints: the steps of a study with what they would cost."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from tasks.costs.amounts import Amount
    from tasks.costs.study import Cost, Costs

NOTHING = "–"
SIGNS = ("", "≤", "~")
"""Before an amount that is known exactly, at most, about."""

SIZES = (1e12, 1e9, 1e6, 1e3)
TOKENS, BYTES = "TBMK", "TGMk"
"""Letters for the sizes, as names of checkpoints have them and as disks have them."""

WIDE = 100
"""Columns of a terminal below which runs and amounts are two tables."""

Cell = Callable[["Cost"], str]

TIMES = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


def known_gpu(name: str | None) -> str | None:
    """Option callback: refuse a GPU that nothing is known of, before anything is looked up."""
    from tasks.costs.gpus import gpu_named

    if name is not None and name != "list":
        try:
            return gpu_named(name).name
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    return name


def print_gpus(out: Console) -> None:
    """The kinds of GPU that hours can be told for."""
    from tasks.costs.gpus import GPUS, REFERENCE, UTILISATION

    table = Table("GPU", "bfloat16", "float32", "published at", box=None, pad_edge=False)
    for gpu in GPUS.values():
        table.add_row(
            gpu.name, f"{gpu.bfloat16 / 1e12:g} T", f"{gpu.float32 / 1e12:g} T", gpu.source
        )
    out.print(table)
    out.print(
        f"FLOP/s, dense, without sparsity; {UTILISATION:.0%} of it is assumed to be reached. "
        f"Without --gpu they are those of the {REFERENCE} where this machine has a card, else what "
        "earlier steps took here"
    )


def print_costs(costs: "Costs", out: Console) -> None:
    """Steps with their runs and amounts, the sums, and a line for each assumption."""
    halves = (RUNS, AMOUNTS) if out.width < WIDE else (RUNS | AMOUNTS,)
    for columns in halves:
        out.print(_table(costs, columns))
    if costs.weights is not None:
        out.print(
            f"downloaded weights on disk at once, besides: {_bytes(costs.weights)} "
            "(runtime.disk_budget)"
        )
    waiting = any(cost.num_runs > cost.num_reused for cost in costs.steps)
    if not waiting:
        out.print("nothing to do")
        return
    out.print("≤ at most, ~ about, – nothing or not known (tables and reports are small)")
    for note in costs.notes:
        out.print(f"- {escape(note)}")


def _table(costs: "Costs", columns: dict[str, Cell]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("step", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    together = costs.altogether()
    for cost in (*costs.steps, together):
        cells = [cell(cost) for cell in columns.values()]
        if cost is together or set(cells) != {NOTHING}:
            table.add_row(cost.step_name, *cells, style="bold" if cost is together else "")
    return table


def _signed(amount: "Amount | None", form: Callable[[float], str]) -> str:
    if amount is None:
        return NOTHING
    return f"{SIGNS[amount.known]}{form(amount.value)}".strip() if amount.value else "0"


def _bytes(amount: "Amount | None") -> str:
    return _signed(amount, lambda value: f"{_short(value, BYTES)}B")


def _time(cost: "Cost") -> str:
    known = [
        (seconds, kind)
        for seconds, kind in ((cost.gpu_seconds, "GPU "), (cost.cpu_seconds, ""))
        if seconds is not None
    ]
    parts = [_signed(seconds, partial(_duration, kind=kind)) for seconds, kind in known]
    return " + ".join(part for part in parts if part != "0") or ("0" if parts else NOTHING)


def _duration(seconds: float, kind: str) -> str:
    size, unit = next(((s, u) for s, u in TIMES if seconds >= s), TIMES[-1])
    number = seconds / size
    return f"{number:,.0f} {kind}{unit}" if number >= 10 else f"{number:.2g} {kind}{unit}"


def _short(value: float, letters: str) -> str:
    """Three digits and a unit: `1.23 T`."""
    for size, letter in zip(SIZES, letters, strict=True):
        if value >= 0.9995 * size:  # what would be rounded to it
            number = value / size
            return f"{number:,.0f} {letter}" if number >= 100 else f"{number:.3g} {letter}"
    return f"{value:.0f} "


def _power(value: float) -> str:
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits}e{int(exponent)}"


RUNS: dict[str, Cell] = {
    "runs": lambda cost: str(cost.num_runs),
    "reused": lambda cost: str(cost.num_reused),
    "to be run": lambda cost: str(cost.num_runs - cost.num_reused),
}
AMOUNTS: dict[str, Cell] = {
    "tokens": lambda cost: _signed(cost.tokens, partial(_short, letters=TOKENS)),
    "FLOPs": lambda cost: _signed(cost.flops, _power),
    "time": _time,
    "download": lambda cost: _bytes(cost.download),
    "disk": lambda cost: _bytes(cost.disk),
}
