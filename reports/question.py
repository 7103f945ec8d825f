"""What a figure is before it is drawn: one SQL query whose rows become lines, points or cells.

A query answers with `value`, the columns named in `panels` (one small chart per value), and what
its `kind` needs: `step` and the column `line` (one line per value) for a curve, `x` and `line` for
a scatter, `x` and `y` for a matrix. What is drawn can so be had again with `grokpath sql`.
"""

from dataclasses import dataclass
from typing import Literal

MAIN = "(select series from series where role = 'main' order by position limit 1)"
"""The main series, in SQL."""

Kind = Literal["curve", "scatter", "matrix"]


@dataclass(frozen=True)
class Question:
    """A figure before it is drawn: where it stands, what it asks, how it is told.

    `paper` names its counterpart in arXiv 2506.21551, such as "Figure 4"; empty where it has none.
    """

    name: str
    section: str
    title: str
    caption: str
    sql: str
    missing: str
    panels: tuple[str, ...] = ("domain",)  # or domain and what varies within it
    line: str = "series"
    format: str = ".3~g"
    zero: bool = False
    shared: bool = True
    domain: tuple[float, float] | None = None
    kind: Kind = "curve"
    x_title: str = ""
    y_title: str = ""
    y_names: str = ""  # what the names on a matrix' y are names of, such as "domain"
    paper: str = ""


def curve(monitor: str) -> str:
    """Query of a monitor over steps."""
    return (
        "select domain, series, step, value from curves\n"
        f"where monitor = '{monitor}' and value is not null order by all"
    )


def scoped(scope: str, metric: str, extra: str) -> str:
    """Query of a measure of layers or pairs of layers over steps."""
    return (
        f"select domain, series, {extra}, step, value from pathway_metrics\n"
        f"where scope = '{scope}' and metric = '{metric}' and value is not null order by all"
    )
