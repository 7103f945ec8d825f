"""From a question to a table: the rows of its query, written as they are read on the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reports.figures import Names, Read
from reports.questions import Column, TableQuestion
from reports.words import minus, opening, p_short

NAMED = ("domain", "other_domain", "series", "layer", "layer_pair")
"""Columns that hold short names which the study gives titles to."""


@dataclass(frozen=True)
class ReadTable:
    """A table that can be written: cells as text, and which rows open a new first column."""

    question: TableQuestion
    rows: tuple[tuple[str, ...], ...]
    opens: tuple[bool, ...]

    @property
    def anchor(self) -> str:
        """Where it stands on the page."""
        return f"table-{self.question.name}"

    @property
    def is_there(self) -> bool:
        """Whether it has any row."""
        return bool(self.rows)


def read_table(question: TableQuestion, read: Read, names: Names) -> ReadTable:
    """Ask the warehouse; equal neighbours in the first column are written once."""
    found = read(question.sql)
    rows = [tuple(_written(row[c.name], c, names) for c in question.columns) for row in found]
    opens = tuple(at == 0 or rows[at - 1][0] != row[0] for at, row in enumerate(rows))
    return ReadTable(question, tuple(rows), opens)


def by_section(tables: Sequence[ReadTable]) -> dict[str, list[ReadTable]]:
    """Tables by the section they stand in."""
    sections: dict[str, list[ReadTable]] = {}
    for table in tables:
        sections.setdefault(table.question.section, []).append(table)
    return sections


def _written(value: Any, column: Column, names: Names) -> str:
    if value is None:
        return "–"
    if column.name in NAMED:
        return names.of(column.name.removeprefix("other_"), value)
    if column.format == "text":
        return opening(str(value))
    if column.format == "truth":
        return "yes" if value else "no"
    if column.format == "integer":
        return f"{value:,.0f}".replace("-", "−")
    if column.format == "share":
        return f"{value:.0%}"
    if column.format == "p":
        return p_short(value)
    return minus(value, int(column.format))
