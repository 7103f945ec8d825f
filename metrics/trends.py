"""Quadratic trends of curves, as the paper's figures draw them (arXiv 2506.21551, sec. 4)."""

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

Abscissa = Literal["index", "log_step"]
ABSCISSAS: tuple[Abscissa, ...] = ("index", "log_step")
MIN_POINTS = 4


def quadratic_trend(x_T: ArrayLike, values_T: ArrayLike) -> dict[str, Any]:
    """Least-squares parabola of a curve.

    Parameters
    ----------
    x_T : array of shape (T,)
        Abscissa, strictly rising.
    values_T : array of shape (T,)
        Values, finite.

    Returns
    -------
    dict
        `constant`, `linear`, `quadratic` (coefficients), `r_squared` (0 to 1), `vertex` (abscissa
        of the turn, None outside the curve), `direction` (at the end: rises, falls, flat), and
        `note` (why there is no fit, else None).

    Examples
    --------
    >>> trend = quadratic_trend([0, 1, 2, 3], [4.0, 1.0, 0.0, 1.0])
    >>> round(trend["quadratic"], 6), round(trend["vertex"], 6), trend["direction"]
    (1.0, 2.0, 'rises')
    """
    x, y = np.asarray(x_T, dtype=np.float64), np.asarray(values_T, dtype=np.float64)
    none = dict.fromkeys(("constant", "linear", "quadratic", "r_squared", "vertex", "direction"))
    if len(x) < MIN_POINTS:
        return {**none, "note": f"not available, because {len(x)} points are fewer than 4"}
    if not np.isfinite(y).all():
        return {**none, "note": "not available, because a value is not finite"}
    if np.ptp(y) <= 1e-12 * max(float(np.abs(y).max()), 1e-300):
        return {**none, "note": "not available, because the curve is constant"}
    quadratic, linear, constant = (float(c) for c in np.polyfit(x, y, 2))
    fitted = np.polyval([quadratic, linear, constant], x)
    vertex = -linear / (2 * quadratic) if quadratic else None
    inside = vertex is not None and x[0] < vertex < x[-1]
    slope = 2 * quadratic * x[-1] + linear
    flat = abs(slope) * (x[-1] - x[0]) < 0.05 * np.ptp(y)
    return {
        "constant": constant,
        "linear": linear,
        "quadratic": quadratic,
        "r_squared": float(1 - ((y - fitted) ** 2).sum() / ((y - y.mean()) ** 2).sum()),
        "vertex": vertex if inside else None,
        "direction": "flat" if flat else "rises" if slope > 0 else "falls",
        "note": None,
    }


def trend_rows(curves: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of the table `trend_fits`: a parabola for every curve, over index and log(1 + step).

    `curves` has the columns series, domain, step, monitor, value; missing values are left out.
    """
    rows = []
    known = curves.dropna(subset=["value"])
    for keys, curve in known.groupby(["series", "domain", "monitor"], sort=False):
        ordered = curve.sort_values("step")
        steps, values = ordered["step"].to_numpy(), ordered["value"].to_numpy()
        for abscissa in ABSCISSAS:
            x = np.arange(len(steps)) if abscissa == "index" else np.log1p(steps)
            place = dict(zip(("series", "domain", "monitor"), keys, strict=True))
            trend = quadratic_trend(x, values)
            rows.append({**place, "abscissa": abscissa, "num_checkpoints": len(steps), **trend})
    return rows
