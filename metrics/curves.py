"""Curves over checkpoints: where accuracy rises, trends, checkpoints that stand out.

Tidy curves are a table with the columns series, domain, step, monitor, value; accuracy is the
monitor `accuracy`.

Shapes: T checkpoints.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

ACCURACY = "accuracy"

MIN_CHECKPOINTS = 4
"""Fewer points have no correlation and no trend; the onset of a rise leaves at least so many."""

RISE = 0.10
"""Accuracy counts as risen when it ends this far above its start and above every control."""

ABSCISSAS = ("index", "log_step")

WINDOW = 12
"""Differences before a checkpoint from which its usual difference is estimated."""

MIN_DIFFERENCES = 8
"""With fewer of them nothing is called an outlier."""

MAD_MULTIPLE = 8.0
"""How many robust standard deviations a jump must be away from the usual difference."""

GAUSSIAN = 1.4826
"""Median absolute deviation to standard deviation, for normal noise."""


def controls_of(roles: dict[str, str], control_for: dict[str, str | None]) -> dict[str, list[str]]:
    """Names of the controls of every series that is none, in the study's order.

    `control_for` names the series a control belongs to; one that belongs to none in particular is
    the control of every main series.

    >>> controls_of({"a": "main", "b": "variant", "c": "control"}, {"c": None})
    {'a': ['c'], 'b': []}
    """
    controls = [name for name, role in roles.items() if role == "control"]
    return {
        name: [
            control
            for control in controls
            if control_for.get(control) == name
            or (control_for.get(control) is None and role == "main")
        ]
        for name, role in roles.items()
        if role != "control"
    }


def curve(curves: pd.DataFrame, series: str, domain: str, monitor: str) -> pd.Series:
    """One monitor of a series in a domain, indexed by step in order."""
    here = (
        (curves["series"] == series) & (curves["domain"] == domain) & (curves["monitor"] == monitor)
    )
    return curves[here].set_index("step")["value"].sort_index()


def risen_cases(curves: pd.DataFrame, controls: dict[str, list[str]]) -> set[tuple[str, str]]:
    """The (series, domain) in which accuracy ends `RISE` above its start and above its controls."""
    accuracy = curves[curves["monitor"] == "accuracy"].dropna(subset=["value"]).sort_values("step")
    grouped = accuracy.groupby(["series", "domain"])["value"]
    first, last, largest = grouped.first(), grouped.last(), grouped.max()
    return {
        (str(series), str(domain))
        for series, domain in last.index
        if series in controls
        and last[series, domain]
        - max(
            [first[series, domain]]
            + [largest[other, domain] for other in controls[series] if (other, domain) in largest]
        )
        >= RISE
    }


def accuracy_onset(accuracy_T: ArrayLike, baseline: float | None = None) -> int:
    """Index of the checkpoint at which accuracy starts its sustained rise.

    Parameters
    ----------
    accuracy_T : array of shape (T,)
        Accuracy at each checkpoint.
    baseline : float, optional
        Accuracy that needs no generalization, such as the largest one of a control series. It is
        left aside where this accuracy never exceeds it.

    Returns
    -------
    int
        The last checkpoint with accuracy <= min + 10 % of the range, or <= the baseline where that
        is higher, but early enough that at least 4 checkpoints remain, this one included. 0 with 4
        checkpoints or fewer, and for a constant series.

    Raises ValueError if the array is empty, not one-dimensional, or a value is not finite.

    Notes
    -----
    The paper correlates "after the accuracy starts its sustained rise" (arXiv 2506.21551,
    sec. 4.3) without a rule; the rule is ours. Choosing a window is a degree of freedom, so show
    the correlation over all checkpoints beside it.

    Examples
    --------
    >>> accuracy_onset([0.0, 0.01, 0.0, 0.3, 0.6, 0.9, 1.0])
    2
    >>> accuracy_onset([0.0, 0.01, 0.0, 0.3, 0.6, 0.9, 1.0], baseline=0.35)
    3
    """
    accuracy_T = np.asarray(accuracy_T, dtype=np.float64)
    if accuracy_T.ndim != 1 or len(accuracy_T) == 0 or not np.isfinite(accuracy_T).all():
        raise ValueError(
            f"accuracy has shape {accuracy_T.shape}; expected finite values, one per checkpoint: "
            "leave out checkpoints without a score"
        )
    if np.ptp(accuracy_T) == 0:
        return 0
    threshold = accuracy_T.min() + 0.1 * np.ptp(accuracy_T)
    if baseline is not None and baseline < accuracy_T.max():
        threshold = max(threshold, baseline)
    last_low = int(np.flatnonzero(accuracy_T <= threshold)[-1])
    return min(last_low, max(len(accuracy_T) - MIN_CHECKPOINTS, 0))


def onset(curves: pd.DataFrame, controls: list[str], series: str, domain: str) -> int:
    """Where the rise of accuracy starts; with controls, the rise above every one of them."""
    accuracy = curve(curves, series, domain, ACCURACY).dropna()
    return accuracy_onset(accuracy.to_numpy(), control_level(curves, controls, domain))


def control_level(curves: pd.DataFrame, controls: list[str], domain: str) -> float | None:
    """The largest accuracy that a control reaches in a domain; None without one."""
    levels = [curve(curves, control, domain, ACCURACY).max() for control in controls]
    return max((float(level) for level in levels if not np.isnan(level)), default=None)


def moving_average(values_T: ArrayLike, window: int = 3) -> NDArray[np.float64]:
    """Trailing mean over the last ``window`` checkpoints, over fewer at the start.

    The paper's moving-average training loss (arXiv 2506.21551, Table 1) names no window; 3 is
    ours.

    Raises ValueError if ``window`` is below 1.

    Examples
    --------
    >>> moving_average([3.0, 1.0, 2.0, 6.0])
    array([3., 2., 2., 3.])
    """
    if window < 1:
        raise ValueError(f"the moving-average window is {window}; it spans at least 1 checkpoint")
    values_T = np.asarray(values_T, dtype=np.float64)
    return np.array(
        [values_T[max(end - window, 0) : end].mean() for end in range(1, len(values_T) + 1)]
    )


def with_moving_average(curves: pd.DataFrame, window: int) -> pd.DataFrame:
    """Add the moving-average training loss to tidy curves."""
    losses = curves[curves["monitor"] == "training_loss"].sort_values("step")
    averaged = [
        group.assign(
            monitor="training_loss_moving_average",
            value=moving_average(group["value"].to_numpy(), window),
        )
        for _, group in losses.groupby(["series", "domain"], sort=False)
    ]
    return pd.concat([curves, *averaged], ignore_index=True)


def trend_rows(curves: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of the table `trend_fits`: a parabola for every curve, over index and log(1 + step).

    As the paper's figures draw them (arXiv 2506.21551, sec. 4); missing values are left out.
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
    if len(x) < MIN_CHECKPOINTS:
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


def outliers(
    values_T: NDArray[np.float64],
    *,
    window: int = WINDOW,
    min_differences: int = MIN_DIFFERENCES,
    mad_multiple: float = MAD_MULTIPLE,
) -> NDArray[np.bool_]:
    """Whether each checkpoint stands out from those before it: a causal Hampel identifier.

    Parameters
    ----------
    values_T : array of shape (T,)
        One curve of a training run in order of step, such as the mean training loss.
    window : int
        Differences before a checkpoint from which its usual difference is estimated.
    min_differences : int
        Nothing is called before so many.
    mad_multiple : float
        Threshold, in robust standard deviations.

    Returns
    -------
    array of bool, shape (T,)
        A value depends on the checkpoints up to it alone, so that no later checkpoint changes it.
        The way back after an outlier is none, and of a change of level that stays only the first
        checkpoint is one.

    Notes
    -----
    With first differences d_t = x_t - x_{t-1}, which take the trend out, checkpoint t is an outlier
    where |d_t - m| > c * 1.4826 * median|d - m|, m the median of the differences before (Hampel,
    JASA 69, 383, 1974; Davies and Gather 1993). Where the checkpoint before was called an outlier,
    the difference to the one before that must be out too. Where more than half of the differences
    before are equal their spread is 0 and nothing is called.

    False alarms, simulated with 20,000 normal curves of 35 checkpoints: with independent
    differences 0.10 % of the checkpoints, with a trend and independent noise 0.07 %. The median of
    so few is rough: with the usual multiple of 3 it would be 4.2 % and 3.2 %.

    Examples
    --------
    >>> loss = np.array([5.0, 4.0, 3.1, 2.4, 1.8, 1.3, 0.9, 0.6, 0.5, 3.0, 0.4])
    >>> np.flatnonzero(outliers(loss))
    array([9])
    """
    differences = np.diff(values_T)
    called = np.zeros(len(values_T), dtype=bool)
    for at in range(min_differences + 1, len(values_T)):
        before = differences[max(0, at - 1 - window) : at - 1]
        usual = np.median(before)
        limit = mad_multiple * GAUSSIAN * np.median(np.abs(before - usual))
        jumps = [values_T[at] - values_T[at - 1]]
        if called[at - 1]:
            jumps.append(values_T[at] - values_T[at - 2])
        called[at] = limit > 0 and all(abs(jump - usual) > limit for jump in jumps)
    return called
