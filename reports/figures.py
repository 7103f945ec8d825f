"""From a question to a figure: the rows of its query sorted into small charts and lines."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.charts import (
    CONTROL_COLOURS,
    DASHED,
    MAIN_COLOURS,
    QUANTITY_COLOURS,
    Axis,
    Line,
    Panel,
    ramp_colour,
)
from reports.questions import Question

Row = dict[str, Any]
Read = Callable[[str], list[Row]]

MAX_COLUMNS = 4


@dataclass(frozen=True)
class Figure:
    """A figure that can be drawn: panels and lines, or no panel and `missing` says why."""

    question: Question
    panels: tuple[Panel, ...]
    lines: tuple[Line, ...]
    axis: Axis

    @property
    def drawn(self) -> tuple[Panel, ...]:
        """The panels that hold anything."""
        return tuple(panel for panel in self.panels if panel.rows)

    @property
    def columns(self) -> int:
        """Charts side by side on a wide page; a domain's own charts share a row."""
        if not self.grouped:
            return 2
        return min(max(Counter(panel.group for panel in self.panels).values()), MAX_COLUMNS)

    @property
    def grouped(self) -> bool:
        """Whether the panels come in rows that share a heading."""
        return any(panel.group for panel in self.panels)


@dataclass(frozen=True)
class Names:
    """Titles in plain words for what the tables hold as short names, in the study's order."""

    domains: Mapping[str, str]
    series: Mapping[str, str]
    roles: Mapping[str, str] = field(default_factory=dict)

    def of(self, column: str, value: Any) -> str:
        """How a column's value is called on the page."""
        if column == "domain":
            return self.domains.get(value, value)
        if column == "series":
            return self.series.get(value, value)
        if column == "layer":
            return f"layer {value}"
        if column == "layer_pair":
            return f"layers {value} and {value + 1}"
        if column == "group_step":
            return f"memorized at step {value}"
        return str(value)


def make_figure(question: Question, read: Read, names: Names) -> Figure:
    """Ask the warehouse and sort the answer into panels and lines."""
    rows = read(question.sql)
    keys = _ordered({tuple(row[p] for p in question.panels) for row in rows}, question, names)
    lines = _lines(question, rows, names)
    answers: dict[tuple[Any, ...], list[dict[str, Any]]] = {key: [] for key in keys}
    for row in rows:
        point = {
            "line": lines[row[question.line]].label,
            "step": row["step"],
            "value": float(f"{row['value']:.6g}"),
        }
        answers[tuple(row[p] for p in question.panels)].append(point)
    panels = _panels(question, answers, names)
    return Figure(question, panels, tuple(lines.values()), _axis(question, rows))


def _panels(
    question: Question, answers: Mapping[tuple[Any, ...], list[dict[str, Any]]], names: Names
) -> tuple[Panel, ...]:
    # One series alone needs no row of its own per domain.
    grouped = len({key[1:] for key in answers}) > 1
    panels = []
    for key, rows in answers.items():
        titles = [names.of(c, value) for c, value in zip(question.panels, key, strict=True)]
        missing = f"Not available, because {question.missing} for this domain."
        if grouped:
            panels.append(Panel(" · ".join(titles[1:]), tuple(rows), titles[0], missing))
        else:
            panels.append(Panel(" · ".join(titles), tuple(rows), missing=missing))
    return tuple(panels)


def _ordered(keys: set[tuple[Any, ...]], question: Question, names: Names) -> list[tuple[Any, ...]]:
    # Every domain of the study gets a panel, so that a missing one is seen to be missing.
    if question.panels == ("domain",) and keys:
        keys = keys | {(domain,) for domain in names.domains}
    rank = {
        "domain": {name: at for at, name in enumerate(names.domains)},
        "series": {name: at for at, name in enumerate(names.series)},
    }

    def order(key: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            rank[column].get(value, len(keys)) if column in rank else value
            for column, value in zip(question.panels, key, strict=True)
        )

    return sorted(keys, key=order)


def _lines(question: Question, rows: Iterable[Row], names: Names) -> dict[Any, Line]:
    if question.line == "series":
        return series_lines(names)
    found = sorted({row[question.line] for row in rows})
    if question.line == "group_step":
        return {
            step: Line(names.of("group_step", step), ramp_colour(at / max(len(found) - 1, 1)))
            for at, step in enumerate(found)
        }
    return {
        name: Line(names.of(question.line, name), colour)
        for name, colour in zip(found, QUANTITY_COLOURS, strict=False)
    }


def series_lines(names: Names) -> dict[str, Line]:
    """The look of every series: main ones solid and saturated, controls dashed."""
    counts = {"main": 0, "control": 0}
    lines = {}
    for name in names.series:
        role = names.roles.get(name, "main")
        colours, dash = (CONTROL_COLOURS, DASHED) if role == "control" else (MAIN_COLOURS, (1, 0))
        lines[name] = Line(names.of("series", name), colours[counts[role] % len(colours)], dash)
        counts[role] += 1
    return lines


def _axis(question: Question, rows: Sequence[Row]) -> Axis:
    if question.domain or not question.shared or not rows:
        return Axis(question.format, question.domain, question.zero)
    values = [row["value"] for row in rows]
    low = min(0.0, *values) if question.zero else min(values)
    return Axis(question.format, (float(f"{low:.6g}"), float(f"{max(values):.6g}")), question.zero)
