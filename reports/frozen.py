"""The figure of the frozen routers where it stands alone, without a study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.charts import MAIN_COLOURS, Axis, Line, Panel, save_figure
from reports.shapes import scatter_specs

NAME = "frozen_router"
SCALINGS = {
    "effective_dimension": "one factor for all kernels",
    "effective_dimension_normalized": "each kernel normalised",
}


def draw_frozen_routers(rows: Sequence[dict[str, Any]], folder: Path) -> tuple[Path, Path]:
    """Write frozen_router.png and .svg: effective dimension against path distance.

    By variant of the routers and scaling of the kernels.
    """
    panels = [
        Panel(
            f"{variant.replace('_', ' ')}, {scaling}",
            tuple(
                {
                    "line": "routers",
                    "x": row["path_distance_normalized"],
                    "value": row[column],
                }
                for row in rows
                if row["variant"] == variant
            ),
        )
        for variant in dict.fromkeys(str(row["variant"]) for row in rows)
        for column, scaling in SCALINGS.items()
    ]
    axis = Axis(x_title="normalised path distance")
    lines = [Line("routers", MAIN_COLOURS[0])]
    specs = scatter_specs(panels, lines, axis, width=360, height=240)
    for spec, panel in zip(specs, panels, strict=True):
        spec["title"] = panel.title
    return save_figure(NAME, "Effective dimension against path distance", specs, folder)
