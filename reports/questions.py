"""What the report holds: its sections, and the figures and tables of each, from `questions.yaml`.

A figure or table is one SQL query (a question to the warehouse) and how its rows are shown. A
figure's query answers with `value`, the columns named in `panels` (one small chart per value), and
what its `kind` needs: `step` and the column `line` (one line per value) for a curve, `x` and `line`
for a scatter, `x` and `y` for a matrix. What is drawn can so be had again with `grokpath sql`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

MAIN = "(select series from series where role = 'main' order by position limit 1)"
"""The main series, in SQL."""

Kind = Literal["curve", "scatter", "matrix"]


@dataclass(frozen=True)
class Section:
    """One part of the page: its anchor, heading, opening words, and the file of what is special."""

    name: str
    title: str
    intro: str = ""
    page: str = ""
    tables_first: bool = False


@dataclass(frozen=True)
class Question:
    """A figure before it is drawn: where it stands, its query, what is written beside it.

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


@dataclass(frozen=True)
class Column:
    """One column of a table: the query's column, its heading, and how a value is written.

    `format` is `text`, `integer`, `share` (percent), `p`, `truth` (yes or no), or how many digits.
    """

    name: str
    heading: str
    format: str = "text"

    @property
    def is_number(self) -> bool:
        """Whether values stand right-aligned."""
        return self.format not in ("text", "truth")


@dataclass(frozen=True)
class TableQuestion:
    """A table before it is read; `paper` names its counterpart in arXiv 2506.21551, if any."""

    name: str
    section: str
    title: str
    caption: str
    sql: str
    columns: tuple[Column, ...]
    missing: str
    paper: str = ""
    folded: bool = False


def _read() -> tuple[tuple[Section, ...], tuple[Question, ...], tuple[TableQuestion, ...]]:
    content = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    templates = content["templates"]
    return (
        tuple(Section(**one) for one in content["sections"]),
        tuple(Question(**_filled(one, templates)) for one in content["figures"]),
        tuple(TableQuestion(**_filled(one, templates)) for one in content["tables"]),
    )


def _filled(one: dict[str, Any], templates: dict[str, str]) -> dict[str, Any]:
    """The fields of a figure or table, its query complete."""
    sql = one["sql"]
    if isinstance(sql, dict):
        ((name, values),) = sql.items()
        values = values if isinstance(values, list) else [values]
        sql = re.sub(r"\$(\d)", lambda found: values[int(found[1]) - 1], templates[name])
    filled = one | {"sql": sql.replace("$main", MAIN)}
    if "columns" in one:
        filled["columns"] = tuple(
            Column(name, *([heading] if isinstance(heading, str) else heading))
            for name, heading in one["columns"].items()
        )
    return {name: tuple(v) if isinstance(v, list) else v for name, v in filled.items()}


SECTIONS, FIGURES, TABLES = _read()
