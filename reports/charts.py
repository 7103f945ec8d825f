"""How a figure is drawn: one small chart per panel, for the page and for PNG and SVG files.

Every colour that a chart uses is in `DARK`, with its twin for dark pages; the page swaps them in
the reader's browser, so one definition serves both and the files on disk keep the light ones.
"""

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

INK, SOFT, GRID = "#1d2430", "#5c6675", "#e4e7ec"
# Blue against vermillion stays apart for every kind of colour blindness; dashes back it up.
MAIN_COLOURS = ("#0b62b8", "#00796b", "#6a3fa0", "#3d5a80")
CONTROL_COLOURS = ("#c4560a", "#8a6d3b", "#7a7f87", "#a8326b")
QUANTITY_COLOURS = ("#0b62b8", "#b8860b", "#00796b", "#a8326b")
# Early to late; middling lightness, so that the ramp reads on white and on near-black.
RAMP = ("#4f6bd0", "#1f9e9e", "#7fae3a", "#d99a1c", "#cf5a2e")
DARK = {
    INK: "#e8ebf0",
    SOFT: "#a3adbb",
    GRID: "#2c3440",
    "#0b62b8": "#66b2ff",
    "#00796b": "#4fc9b6",
    "#6a3fa0": "#b99aea",
    "#3d5a80": "#9dbbe0",
    "#c4560a": "#ff9a4d",
    "#8a6d3b": "#d8b878",
    "#7a7f87": "#b4bac4",
    "#a8326b": "#f08bb8",
    "#b8860b": "#f0c04a",
}
SOLID, DASHED, DOTTED = (1, 0), (5, 3), (1, 3)
PNG_SCALE = 2
SMALL_BELOW = 160
STEP_LABEL = "datum.value >= 10000 ? format(datum.value, '~s') : format(datum.value, ',')"
VEGA_LITE = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


@dataclass(frozen=True)
class Line:
    """One line of a chart as it is drawn and explained: colour and dash are the legend."""

    label: str
    colour: str
    dash: tuple[int, int] = SOLID


@dataclass(frozen=True)
class Panel:
    """One small chart: its heading, the heading it shares with its row, its rows.

    A row is `{"line": label, "step": int, "value": float}`; without rows `missing` says why.
    """

    title: str
    rows: tuple[dict[str, Any], ...]
    group: str = ""
    missing: str = ""

    @property
    def full_title(self) -> str:
        """The heading where it stands alone."""
        return f"{self.group} · {self.title}" if self.group else self.title


@dataclass(frozen=True)
class Axis:
    """The axes: d3 number format and shared range of the values, and the titles where given."""

    format: str = ".3~g"
    domain: tuple[float, float] | None = None
    zero: bool = False
    x_title: str = ""
    y_title: str = ""


def ramp_colour(position: float) -> str:
    """Colour at `position` in [0, 1] of the early-to-late ramp.

    >>> ramp_colour(0.0)
    '#4f6bd0'
    """
    at = position * (len(RAMP) - 1)
    left = min(int(at), len(RAMP) - 2)
    channels = (
        (int(RAMP[left][i : i + 2], 16), int(RAMP[left + 1][i : i + 2], 16)) for i in (1, 3, 5)
    )
    return "#" + "".join(f"{round(a + (b - a) * (at - left)):02x}" for a, b in channels)


def chart_layers(lines: Sequence[Line], axis: Axis, *, legend: bool, small: bool) -> alt.LayerChart:
    """Lines over steps, a point per checkpoint, one tooltip per step: a chart without its data.

    Parameters
    ----------
    lines
        Every line of the figure, in legend order, also those that a panel lacks, so that a colour
        means the same in all panels.
    axis
        The vertical axis.
    legend
        Draw a legend (for files; the page has one legend per figure in HTML).
    small
        Leave out what a chart of some 200 pixels has no room for.
    """
    labels = [line.label for line in lines]
    colour = alt.Scale(domain=labels, range=[line.colour for line in lines])
    dash = alt.Scale(domain=labels, range=[list(line.dash) for line in lines])
    key = alt.Legend(orient="top", title=None, symbolType="stroke", columns=4) if legend else None
    ticks = alt.Axis(labelExpr=STEP_LABEL, tickCount=3 if small else 6, labelFlush=True)
    x = alt.X("step:Q", title=None if small else "step", axis=ticks)
    scale = (
        alt.Scale(domain=list(axis.domain), nice=True)
        if axis.domain
        else alt.Scale(zero=axis.zero, nice=True)
    )
    grid = alt.Axis(format=axis.format, tickCount=4 if small else 5)
    y = alt.Y("value:Q", title=None, scale=scale, axis=grid)
    base = alt.Chart(alt.NamedData("rows")).encode(
        x=x, y=y, color=alt.Color("line:N", scale=colour, legend=key)
    )
    curve = base.mark_line(strokeWidth=2, aria=False).encode(
        strokeDash=alt.StrokeDash("line:N", scale=dash, legend=key)
    )
    points = base.mark_point(filled=True, size=14, opacity=1, aria=False)
    # A label may hold any character; numbered fields keep Vega from reading it as a path.
    tooltip = [
        alt.Tooltip(field=f"line_{at}", type="quantitative", title=label, format=axis.format)
        for at, label in enumerate(labels)
    ]
    hover = (
        alt.Chart(alt.NamedData("steps"))
        .mark_rule(opacity=0, strokeWidth=9, color=SOFT, aria=False)
        .encode(x="step:Q", tooltip=[alt.Tooltip("step:Q", format=","), *tooltip])
    )
    return alt.layer(curve, points, hover)


def panel_specs(
    panels: Sequence[Panel],
    lines: Sequence[Line],
    axis: Axis,
    *,
    width: int | str,
    height: int,
    legend: bool = False,
) -> list[dict[str, Any]]:
    """Vega-Lite of every panel of a figure, which must have rows; width "container" is fluid."""
    layers = chart_layers(lines, axis, legend=legend, small=height < SMALL_BELOW)
    # Data joins the finished chart: Altair would copy and check every row many times.
    shared = layers.to_dict(validate=False)
    number = {line.label: f"line_{at}" for at, line in enumerate(lines)}
    specs = []
    for panel in panels:
        steps: dict[int, dict[str, Any]] = {}
        for row in panel.rows:
            steps.setdefault(row["step"], {"step": row["step"]})[number[row["line"]]] = row["value"]
        spec: dict[str, Any] = {"layer": copy.deepcopy(shared["layer"])}
        *drawn, hover = spec["layer"]
        for layer in drawn:
            layer.pop("data", None)
        present = {"step"}.union(*steps.values())
        hover["data"] = {"values": [steps[step] for step in sorted(steps)]}
        tooltip = hover["encoding"]["tooltip"]
        hover["encoding"]["tooltip"] = [field for field in tooltip if field["field"] in present]
        spec |= {
            "data": {"values": list(panel.rows)},
            "description": describe(panel, axis),
            "width": width,
            "height": height,
        }
        specs.append(spec)
    return specs


def describe(panel: Panel, axis: Axis) -> str:
    """The panel in one sentence, for readers who cannot see it."""
    sentences = []
    for label in dict.fromkeys(row["line"] for row in panel.rows):
        rows = sorted(
            (row for row in panel.rows if row["line"] == label), key=lambda row: row["step"]
        )
        first, last = rows[0], rows[-1]
        sentences.append(
            f"{label}: {_number(first['value'], axis)} at step {first['step']}, "
            f"{_number(last['value'], axis)} at step {last['step']}"
        )
    return f"{panel.full_title}. {'; '.join(sentences)}."


def _number(value: float, axis: Axis) -> str:
    return f"{value:.0%}" if axis.format.endswith("%") else f"{value:.3g}"


def chart_config(font: str) -> dict[str, Any]:
    """What all charts share: quiet axes, no frame, text that can be read on a phone."""
    axis = {
        "labelColor": SOFT,
        "titleColor": SOFT,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "domainColor": GRID,
        "tickColor": GRID,
        "labelOverlap": "greedy",
        "labelSeparation": 6,
    }
    return {
        "background": "transparent",
        "font": font,
        "view": {"stroke": None},
        "axis": axis,
        "axisX": {"grid": False, "titleAnchor": "end", "titlePadding": 4},
        "axisY": {"domain": False, "ticks": False, "labelPadding": 6},
        "legend": {"labelColor": INK, "labelFontSize": 12, "symbolStrokeWidth": 2.5},
        "title": {"color": INK, "fontSize": 13, "anchor": "start", "subtitleColor": SOFT},
        "autosize": {"type": "fit", "contains": "padding"},
    }


def save_figure(
    name: str, title: str, specs: Sequence[dict[str, Any]], folder: Path, *, columns: int = 2
) -> tuple[Path, Path]:
    """Write `<name>.png` and `<name>.svg`: all panels side by side under one title.

    Each of `specs` is the Vega-Lite of a panel, with its own title, width and height.
    """
    config = chart_config("Arial, Liberation Sans, DejaVu Sans, sans-serif")
    # Fitting is for single charts; a concatenation grows with its parts.
    config = {name: value for name, value in config.items() if name != "autosize"}
    figure = {
        "concat": list(specs),
        "columns": columns,
        "spacing": 24,
        "title": {"text": title, "fontSize": 16, "offset": 14},
        "padding": 16,
        "config": config | {"background": "white"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    drawing = vl_convert.vegalite_to_svg(json.dumps(figure), vl_version=VEGA_LITE)
    svg.write_text(drawing, encoding="utf-8")
    png.write_bytes(vl_convert.svg_to_png(drawing, scale=PNG_SCALE))
    return png, svg


def step_ticks(steps: Sequence[int]) -> list[int]:
    """Ticks of a logarithmic step axis that starts at 0: 0, then 1-2-5 numbers up to the end.

    >>> step_ticks([0, 25, 100, 2400])
    [0, 50, 100, 200, 500, 1000, 2000]
    """
    positive = [step for step in steps if step > 0]
    if not positive:
        return [0]
    low, high = min(positive), max(positive)
    decades = range(int(math.log10(low)), int(math.log10(high)) + 1)
    ticks = [factor * 10**decade for decade in decades for factor in (1, 2, 5)]
    return [0, *(tick for tick in ticks if low <= tick <= high)]
