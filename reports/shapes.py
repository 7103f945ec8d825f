"""Charts that are not curves over steps: points against points, and a matrix of cells."""

from collections.abc import Sequence
from typing import Any

import altair as alt

from reports.charts import Axis, Line, Panel

# Light to dark in one hue: lightness shows the order, on white and on near-black alike.
CELLS = ("#e7f0fa", "#0b4f94")


def scatter_specs(
    panels: Sequence[Panel],
    lines: Sequence[Line],
    axis: Axis,
    *,
    width: int | str,
    height: int,
    legend: bool = False,
) -> list[dict[str, Any]]:
    """Vega-Lite of panels whose rows are `{"line", "x", "value"}`: points and a straight-line fit.

    Axes are those of each panel alone: the question is the shape of the relation.
    """
    labels = [line.label for line in lines]
    colour = alt.Scale(domain=labels, range=[line.colour for line in lines])
    key = alt.Legend(orient="top", title=None, columns=4) if legend else None
    number = alt.Axis(tickCount=4, format=".3~g", labelFlush=True)
    x = alt.X("x:Q", title=axis.x_title or None, axis=number, scale=alt.Scale(zero=False))
    y = alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=4, format=axis.format))
    y.scale = alt.Scale(zero=axis.zero, **({"domain": list(axis.domain)} if axis.domain else {}))
    base = alt.Chart(alt.NamedData("rows")).encode(
        x=x, y=y, color=alt.Color("line:N", scale=colour, legend=key)
    )
    points = base.mark_point(filled=True, size=26, opacity=0.75, aria=False).encode(
        tooltip=[
            alt.Tooltip("line:N", title="series"),
            alt.Tooltip("x:Q", title=axis.x_title or "x", format=".4~g"),
            alt.Tooltip("value:Q", title="value", format=".4~g"),
        ]
    )
    fit = base.transform_regression("x", "value", groupby=["line"]).mark_line(
        strokeWidth=1.5, opacity=0.8, aria=False
    )
    return _filled(alt.layer(points, fit), panels, width, height, _points_in_words)


def heat_specs(
    panels: Sequence[Panel],
    lines: Sequence[Line],
    axis: Axis,
    *,
    width: int | str,
    height: int,
    legend: bool = False,
) -> list[dict[str, Any]]:
    """Vega-Lite of panels whose rows are `{"x", "y", "value"}`: a matrix of cells.

    `lines` and `legend` are there for the common signature; the scale is always shown.
    """
    del lines, legend
    scale = alt.Scale(range=list(CELLS), **({"domain": list(axis.domain)} if axis.domain else {}))
    thin = alt.Axis(labelOverlap="greedy", labelAngle=0, ticks=False, domain=False)
    cells = (
        alt.Chart(alt.NamedData("rows"))
        .mark_rect(aria=False)
        .encode(
            x=alt.X("x:O", title=axis.x_title or None, axis=thin),
            y=alt.Y("y:O", title=axis.y_title or None, axis=thin),
            color=alt.Color(
                "value:Q",
                scale=scale,
                legend=alt.Legend(title=None, format=axis.format, gradientLength=80),
            ),
            tooltip=[
                alt.Tooltip("x:O", title=axis.x_title or "x"),
                alt.Tooltip("y:O", title=axis.y_title or "y"),
                alt.Tooltip("value:Q", title="value", format=axis.format),
            ],
        )
    )
    return _filled(alt.layer(cells), panels, width, height, _cells_in_words)


def _filled(
    chart: alt.LayerChart, panels: Sequence[Panel], width: int | str, height: int, in_words: Any
) -> list[dict[str, Any]]:
    # Data joins the finished chart: Altair would copy and check every row many times.
    shared = chart.to_dict(validate=False)
    layers = shared["layer"]
    for layer in layers:
        layer.pop("data", None)
    return [
        {
            "layer": layers,
            "data": {"values": list(panel.rows)},
            "description": f"{panel.full_title}. {in_words(panel)}",
            "width": width,
            "height": height,
        }
        for panel in panels
    ]


def _points_in_words(panel: Panel) -> str:
    labels = dict.fromkeys(row["line"] for row in panel.rows)
    counts = {label: sum(row["line"] == label for row in panel.rows) for label in labels}
    return "; ".join(f"{label}: {count} points" for label, count in counts.items()) + "."


def _cells_in_words(panel: Panel) -> str:
    values = [row["value"] for row in panel.rows]
    return f"{len(values)} cells from {min(values):.3g} to {max(values):.3g}."
