"""What `grokpath plan` prints: the steps of a study with what they would cost."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from tasks.costs import Cost, Costs

UNKNOWN, NOTHING = "?", "–"
WIDE = 100
"""Columns of a terminal below which runs and amounts are two tables."""


def known_gpu(name: str | None) -> str | None:
    """Option callback: refuse a GPU that nothing is known of, before anything is looked up."""
    from tasks.costs import GPUS

    if name is not None and (name := name.strip().upper()) not in (*GPUS, "LIST"):
        raise typer.BadParameter(f"no peak is known of {name}; known are {', '.join(GPUS)}")
    return name


def print_gpus(out: Console) -> None:
    """The kinds of GPU that hours can be estimated for."""
    from tasks.costs import GPUS, UTILISATION

    table = Table("GPU", "bfloat16", "float32", box=None, pad_edge=False)
    for name, gpu in GPUS.items():
        table.add_row(name, f"{gpu.bfloat16 / 1e12:g} T", f"{gpu.float32 / 1e12:g} T")
    out.print(table)
    out.print(
        "FLOP/s, dense, without sparsity, from https://www.nvidia.com/en-us/data-center/; "
        f"{UTILISATION:.0%} of it is assumed to be reached"
    )


def print_costs(costs: "Costs", out: Console) -> None:
    """Steps with their runs and amounts, the sums, and a line for each assumption."""
    for columns in (RUNS, AMOUNTS) if out.width < WIDE else (RUNS | AMOUNTS,):
        out.print(_table(costs, columns))
    if costs.weights:
        size = _short(costs.weights, "B")
        out.print(f"downloaded weights on disk at once, besides: {size} (runtime.disk_budget)")
    if all(cost.num_runs == cost.num_reused for cost in costs.steps):
        out.print("nothing to do")
        return
    out.print(f"estimates; {UNKNOWN} not known, {NOTHING} little or nothing")
    for note in costs.notes:
        out.print(f"- {escape(note)}")


def _table(costs: "Costs", columns: dict[str, Callable[["Cost"], str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("step", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for cost in (*costs.steps, costs.together):
        cells = [cell(cost) for cell in columns.values()]
        if set(cells) != {NOTHING}:
            table.add_row(cost.step_name, *cells)
    return table


def _short(value: float | None, unit: str = "") -> str:
    """Three digits and a unit: `1.23 TB`."""
    if not value:
        return UNKNOWN if value is None else NOTHING
    for size, letter in ((1e12, "T"), (1e9, "G" if unit else "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:  # what would be rounded to it
            return f"{value / size:.3g} {letter}{unit}"
    return f"{value:.0f} {unit}".strip()


def _time(cost: "Cost") -> str:
    """Time on GPUs and on processors: `2 GPU h + 1.5 min`."""
    if None in (cost.gpu_seconds, cost.cpu_seconds):
        return UNKNOWN
    parts = (_duration(cost.gpu_seconds, "GPU "), _duration(cost.cpu_seconds, ""))
    return " + ".join(part for part in parts if part) or NOTHING


def _duration(seconds: float | None, kind: str) -> str:
    for size, unit in ((3600, "h"), (60, "min"), (0.01, "s")):
        if seconds and seconds >= size:
            number = seconds / size if size >= 1 else seconds
            return f"{number:,.0f} {kind}{unit}" if number >= 10 else f"{number:.2g} {kind}{unit}"
    return ""


def _power(value: float | None) -> str:
    if not value:
        return UNKNOWN if value is None else NOTHING
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits}e{int(exponent)}"


RUNS: dict[str, Callable[["Cost"], str]] = {
    "runs": lambda cost: str(cost.num_runs),
    "reused": lambda cost: str(cost.num_reused),
    "to be run": lambda cost: str(cost.num_runs - cost.num_reused),
}
AMOUNTS: dict[str, Callable[["Cost"], str]] = {
    "tokens": lambda cost: _short(cost.tokens),
    "FLOPs": lambda cost: _power(cost.flops),
    "time": _time,
    "download": lambda cost: _short(cost.download, "B"),
    "disk": lambda cost: _short(cost.disk, "B"),
}
