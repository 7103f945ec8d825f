"""From a question to a figure: the rows of its query sorted into small charts and lines."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.charts import (
    CONTROL_COLOURS,
    DASHED,
    DOTTED,
    MAIN_COLOURS,
    QUANTITY_COLOURS,
    SOFT,
    Axis,
    Line,
    Panel,
    panel_specs,
    ramp_colour,
    save_figure,
)
from reports.questions import Question
from reports.shapes import heat_specs, scatter_specs

Row = dict[str, Any]
Read = Callable[[str], list[Row]]

MAX_COLUMNS = 4
MAX_SERIES = 6
PAIR = " × "
"""Between the names of two domains."""
DRAWN_BY = {"curve": panel_specs, "scatter": scatter_specs, "matrix": heat_specs}


@dataclass(frozen=True)
class Figure:
    """A figure that can be drawn: panels and lines, or no panel and `missing` says why."""

    question: Question
    panels: tuple[Panel, ...]
    lines: tuple[Line, ...]
    axis: Axis
    note: str = ""

    @property
    def anchor(self) -> str:
        """Where it stands on the page."""
        return f"figure-{self.question.name}"

    @property
    def is_there(self) -> bool:
        """Whether anything was drawn."""
        return bool(self.drawn)

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
        if column == "pair":
            return PAIR.join(self.of("domain", name) for name in value.split(PAIR))
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
    rows, note = _bounded(read(question.sql), question, names)
    keys = _ordered({tuple(row[p] for p in question.panels) for row in rows}, question, names)
    lines = {} if question.kind == "matrix" else _lines(question, rows, names)
    answers: dict[tuple[Any, ...], list[dict[str, Any]]] = {key: [] for key in keys}
    for row in rows:
        key = tuple(row[p] for p in question.panels)
        answers[key].append(_point(question, row, lines, names))
    panels = _panels(question, answers, names)
    return Figure(question, panels, tuple(lines.values()), _axis(question, rows), note)


def _bounded(rows: list[Row], question: Question, names: Names) -> tuple[list[Row], str]:
    """Rows of as many series as a page has room for, where each has a chart of its own."""
    if "series" not in question.panels or len(names.series) <= MAX_SERIES:
        return rows, ""
    shown = set(list(names.series)[:MAX_SERIES])
    note = f"Drawn are the first {MAX_SERIES} of {len(names.series)} series; the query has all."
    return [row for row in rows if row["series"] in shown], note


def specs_of(
    figure: Figure, *, width: int | str, height: int, legend: bool = False
) -> list[dict[str, Any]]:
    """Vega-Lite of every panel of a figure that holds anything."""
    draw = DRAWN_BY[figure.question.kind]
    return draw(figure.drawn, figure.lines, figure.axis, width=width, height=height, legend=legend)


def save(figure: Figure, folder: Path) -> None:
    """Write the figure as PNG and SVG, named as its question."""
    width, height = (360, 180) if figure.columns < 3 else (200, 110)
    specs = specs_of(figure, width=width, height=height, legend=True)
    for spec, panel in zip(specs, figure.drawn, strict=True):
        spec["title"] = panel.full_title
    question = figure.question
    save_figure(question.name, question.title, specs, folder, columns=figure.columns)


def _point(question: Question, row: Row, lines: Mapping[Any, Line], names: Names) -> dict[str, Any]:
    value = float(f"{row['value']:.6g}")
    if question.kind == "matrix":
        return {"x": row["x"], "y": names.of(question.y_names, row["y"]), "value": value}
    label = lines[row[question.line]].label
    if question.kind == "scatter":
        return {"line": label, "x": float(f"{row['x']:.6g}"), "value": value}
    return {"line": label, "step": row["step"], "value": value}


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
    if question.line == "which":
        known = {name: line for name, line in series_lines(names).items() if name in found}
        others = [name for name in found if name not in known]
        return known | {name: Line(str(name), SOFT, DOTTED) for name in others}
    if len(found) > len(QUANTITY_COLOURS):
        return {
            name: Line(names.of(question.line, name), ramp_colour(at / (len(found) - 1)))
            for at, name in enumerate(found)
        }
    return {
        name: Line(names.of(question.line, name), colour)
        for name, colour in zip(found, QUANTITY_COLOURS, strict=False)
    }


def series_lines(names: Names) -> dict[str, Line]:
    """The look of every series: main ones solid and saturated, controls dashed."""
    counts = Counter[bool]()
    lines = {}
    for name in names.series:
        is_control = names.roles.get(name, "main") == "control"
        colours, dash = (CONTROL_COLOURS, DASHED) if is_control else (MAIN_COLOURS, (1, 0))
        at = counts[is_control] % len(colours)
        lines[name] = Line(names.of("series", name), colours[at], dash)
        counts[is_control] += 1
    return lines


def _axis(question: Question, rows: Sequence[Row]) -> Axis:
    titles = {"x_title": question.x_title, "y_title": question.y_title}
    if question.domain or not question.shared or not rows:
        return Axis(question.format, question.domain, question.zero, **titles)
    values = [row["value"] for row in rows]
    low = min(0.0, *values) if question.zero else min(values)
    span = (float(f"{low:.6g}"), float(f"{max(values):.6g}"))
    return Axis(question.format, span, question.zero, **titles)
