"""One rule for every monitor over all trainings: does it follow, and does it stay quiet?

A monitor earns trust twice. It follows accuracy beyond the trend where something generalizes, with
one sign; and it tells a training from its control, in which nothing can generalize. Both are asked
of every (training, domain) in which accuracy rose; untouched domains say nothing.

Domains of one training share its checkpoints and are no independent evidence, so what counts is
the training: signed z-values of its domains are averaged first (an average of dependent standard
normals has variance at most 1), then combined over trainings (Stouffer 1949). Under no relation
the combined test is therefore at or below its level as far as the detrended test is. The sign is
that of the correlation at the lag where monitor and accuracy agree best, so one that leads counts
as following; where no lag stands out p is 1 and z is 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from metrics.correlations import holm
from metrics.measure import Measure

RISE = 0.10
"""Accuracy counts as risen when it ends this far above its start and above every control."""
SEPARATING_SHARE = 0.75
"""A monitor must tell at least this share of cases from their controls, all in one direction."""
NOMINAL = 0.05
"""Level at which single cases are counted, for the eye; the verdict rests on the combined test."""
WINDOW = "after_onset"


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


def leaderboard_rows(
    curves: pd.DataFrame,
    correlations: Sequence[dict[str, Any]],
    separations: Sequence[dict[str, Any]],
    controls: dict[str, list[str]],
    monitors: Sequence[Measure],
    significance: float,
) -> list[dict[str, Any]]:
    """Rows of the table `leaderboard`, best first.

    Parameters
    ----------
    curves
        Columns series, domain, step, monitor, value, accuracy among the monitors.
    correlations, separations
        Rows of the tables of these names.
    controls
        Controls of every series that is none.
    monitors
        The measures to rank.
    significance
        Level, after Holm's correction over all monitors.

    Notes
    -----
    A monitor passes when (a) the combined detrended test is significant after correction; (b) it
    moves otherwise than the control in at least `SEPARATING_SHARE` of the cases that have one, in
    the same direction in all of them; and (c) that direction agrees with the sign of (a). A
    direction claimed by the measure's source is not asked for here, it is shown beside.
    """
    risen = risen_cases(curves, controls)
    rows = []
    for monitor in monitors:
        found = [
            row
            for row in correlations
            if row["monitor"] == monitor.measure
            and row["window"] == WINDOW
            and (row["series"], row["domain"]) in risen
        ]
        pairs = [
            row
            for row in separations
            if row["monitor"] == monitor.measure and (row["main_series"], row["domain"]) in risen
        ]
        follows = _follows(found)
        apart = _separates(pairs)
        rows.append(
            {
                "monitor": monitor.measure,
                "family": monitor.family,
                "expected_direction": monitor.expected_direction,
                "num_cases": len({(row["series"], row["domain"]) for row in found}),
                **follows,
                **apart,
            }
        )
    corrected = holm([row["combined_p"] for row in rows])
    for row, p in zip(rows, corrected, strict=True):
        row["holm_p"] = p
        row["passes"] = _passes(row, significance)
        row["note"] = _note(row, significance)
    rows.sort(key=_order)
    return [{**row, "position": position + 1} for position, row in enumerate(rows)]


def signed_z(p: float, sign: float) -> float:
    """A two-sided p-value and its sign as one standard normal number.

    >>> round(signed_z(0.05, -1.0), 2)
    -1.96
    """
    return float(np.sign(sign) * norm.isf(min(max(p, 1e-12), 1.0) / 2))


def _follows(found: list[dict[str, Any]]) -> dict[str, Any]:
    by_series: dict[str, list[float]] = {}
    tested = [
        row
        for row in found
        if row["difference_p"] is not None and row["difference_spearman"] is not None
    ]
    for row in tested:
        z = signed_z(row["difference_p"], row["difference_spearman"])
        by_series.setdefault(row["series"], []).append(z)
    if not by_series:
        return {
            "num_series": 0,
            "num_tested": 0,
            "num_significant": 0,
            "num_agreeing": 0,
            "combined_z": None,
            "combined_p": None,
        }
    combined = sum(float(np.mean(z)) for z in by_series.values()) / np.sqrt(len(by_series))
    agreeing = sum(z * combined > 0 for values in by_series.values() for z in values)
    return {
        "num_series": len(by_series),
        "num_tested": len(tested),
        "num_significant": sum(row["difference_p"] <= NOMINAL for row in tested),
        "num_agreeing": int(agreeing),
        "combined_z": float(combined),
        "combined_p": float(2 * norm.sf(abs(combined))),
    }


def _separates(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    moves = {"rises": 1, "falls": -1}
    known = [row for row in pairs if row["main_moves"] in (*moves, "stays")]
    signs = [
        moves[row["main_moves"]]
        for row in known
        if row["main_moves"] in moves and row["main_moves"] != row["control_moves"]
    ]
    majority = 1 if sum(signs) >= 0 else -1
    graded = [row["graded"] for row in known if row["graded"] is not None]
    return {
        "num_with_control": len(known),
        "num_separating": sum(sign == majority for sign in signs),
        "num_separating_otherwise": sum(sign != majority for sign in signs),
        "separating_direction": majority if signs else None,
        "median_graded": float(np.median(graded)) if graded else None,
    }


def _passes(row: dict[str, Any], significance: float) -> bool:
    return (
        row["holm_p"] is not None
        and row["holm_p"] <= significance
        and row["num_with_control"] > 0
        and row["num_separating"] >= SEPARATING_SHARE * row["num_with_control"]
        and row["num_separating_otherwise"] == 0
        and row["separating_direction"] * row["combined_z"] > 0
    )


def _note(row: dict[str, Any], significance: float) -> str:
    if row["num_cases"] == 0:
        return "not available, because accuracy rises in no training where it was measured"
    reasons = []
    if row["combined_p"] is None:
        reasons.append("the detrended test abstains everywhere")
    elif row["holm_p"] > significance:
        reasons.append("does not follow accuracy beyond the trend")
    if row["num_with_control"] == 0:
        reasons.append("has no control to be told from")
    elif row["num_separating"] < SEPARATING_SHARE * row["num_with_control"]:
        reasons.append("is not told from its control often enough")
    if row["num_separating_otherwise"]:
        reasons.append("moves one way in some cases and the other in others")
    if not reasons and not row["passes"]:
        reasons.append("moves against the sign with which it follows accuracy")
    return "; ".join(reasons) or "passes"


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    share = row["num_separating"] / row["num_with_control"] if row["num_with_control"] else 0.0
    return (not row["passes"], -share, -abs(row["combined_z"] or 0.0), row["monitor"])
