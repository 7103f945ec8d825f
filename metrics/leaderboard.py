"""One rule for every monitor over all trainings: does it follow, and does it stay quiet?

A monitor earns trust twice. It follows accuracy beyond the trend where something generalizes, with
one sign; and it changes otherwise than in the training's control, in which nothing can generalize.
Both are asked of every (training, domain) in which accuracy rose; untouched domains say nothing.

Domains of one training share its checkpoints and are no independent evidence, so what counts is
the training: signed z-values of its domains are averaged first (an average of dependent standard
normals has variance at most 1), then combined over trainings (Stouffer 1949). Under no relation
the combined test is therefore at or below its level as far as the detrended test is. The sign is
that of the correlation at the lag where monitor and accuracy agree best, so one that leads counts
as following; where no lag stands out p is 1 and z is 0.

Whether it differs from the controls rests on the spread between trainings: the differences of a
training's domains are averaged, and the signs of the trainings are flipped, all ways. That is exact
if a training and its control are interchangeable, whatever a single series' wobble is.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from metrics.correlations import holm
from metrics.measure import Measure
from metrics.separation import MIN_ERRORS

RISE = 0.10
"""Accuracy counts as risen when it ends this far above its start and above every control."""
SEPARATING_SHARE = 0.75
"""A monitor must differ from the control in at least this share of cases, in one direction."""
MAX_ENUMERATED = 14
"""Up to so many trainings all signs are gone through, above 20,000 draws are taken."""
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
    A monitor passes when (a) the combined detrended test is significant after correction; (b) its
    difference from the control is significant over the trainings, after correction, and counts in
    at least `SEPARATING_SHARE` of the single cases that have a control, in the same direction in
    all of them; and (c) that direction agrees with the sign of (a). Flipping J trainings reaches no
    p below 2^(1 - J), so (b) needs six of them for one measure, eleven for forty-four. A direction
    claimed by the measure's source is not asked for here, it is shown beside.
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
    followed = holm([row["combined_p"] for row in rows])
    differed = holm([row["control_p"] for row in rows])
    for row, follows_p, differs_p in zip(rows, followed, differed, strict=True):
        row["holm_p"], row["control_holm_p"] = follows_p, differs_p
        row["passes"] = _passes(row, significance)
        row["note"] = _note(row, significance, len(rows))
        del row["smallest_control_p"]
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
    known = [row for row in pairs if row["main_change"] is not None]
    signs = [sign for row in known if (sign := _sign_that_counts(row))]
    majority = 1 if sum(signs) >= 0 else -1
    graded = [row["graded"] for row in known if row["graded"] is not None]
    return {
        "num_with_control": len(known),
        "num_separating": sum(sign == majority for sign in signs),
        "num_separating_otherwise": sum(sign != majority for sign in signs),
        "separating_direction": majority if signs else None,
        "median_graded": float(np.median(graded)) if graded else None,
        "control_p": _over_trainings(known),
        "smallest_control_p": 2.0 ** (1 - len({row["main_series"] for row in known})),
    }


def _difference(row: dict[str, Any]) -> float:
    return float(row["main_change"] - row["control_change"])


def _sign_that_counts(row: dict[str, Any]) -> int:
    """Direction in which one training differs from one control, 0 where that is not shown."""
    if row["graded"] is not None and abs(row["graded"]) <= MIN_ERRORS:
        return 0
    return int(np.sign(_difference(row)))


def _over_trainings(known: list[dict[str, Any]]) -> float | None:
    """Two-sided p-value of the mean difference from the control, by flipping whole trainings.

    Differences are scaled by their root mean square in the domain, so that no domain decides alone.
    """
    by_domain, by_training = defaultdict(list), defaultdict(list)
    for row in known:
        by_domain[row["domain"]].append(_difference(row))
    scale = {domain: float(np.sqrt(np.mean(np.square(d)))) for domain, d in by_domain.items()}
    for row in known:
        if scale[row["domain"]] > 0:
            by_training[row["main_series"]].append(_difference(row) / scale[row["domain"]])
    means_J = np.array([float(np.mean(values)) for values in by_training.values()])
    if not len(means_J):
        return None
    if len(means_J) <= MAX_ENUMERATED:
        signs_SJ = np.array(list(product((1, -1), repeat=len(means_J))))
    else:
        signs_SJ = np.random.default_rng(0).choice((1, -1), (20_000, len(means_J)))
        signs_SJ[0] = 1
    flipped_S = np.abs(signs_SJ @ means_J)
    return float(np.mean(flipped_S >= flipped_S[0] * (1 - 1e-9)))


def _passes(row: dict[str, Any], significance: float) -> bool:
    return (
        row["holm_p"] is not None
        and row["holm_p"] <= significance
        and row["control_holm_p"] is not None
        and row["control_holm_p"] <= significance
        and row["num_with_control"] > 0
        and row["num_separating"] >= SEPARATING_SHARE * row["num_with_control"]
        and row["num_separating_otherwise"] == 0
        and row["separating_direction"] * row["combined_z"] > 0
    )


def _note(row: dict[str, Any], significance: float, num_monitors: int) -> str:
    if row["num_cases"] == 0:
        return "not available, because accuracy rises in no training where it was measured"
    reasons = []
    if row["combined_p"] is None:
        reasons.append("the detrended test abstains everywhere")
    elif row["holm_p"] > significance:
        reasons.append("does not follow accuracy beyond the trend")
    if row["num_with_control"] == 0:
        reasons.append("has no control to differ from")
    else:
        if row["num_separating"] < SEPARATING_SHARE * row["num_with_control"]:
            reasons.append("does not differ from its control often enough")
        if row["control_holm_p"] is not None and row["control_holm_p"] > significance:
            few = row["smallest_control_p"] * num_monitors > significance
            reasons.append(
                "too few trainings to show that it differs from the controls"
                if few
                else "does not differ from the controls beyond the spread of trainings"
            )
    if row["num_separating_otherwise"]:
        reasons.append("moves one way in some cases and the other in others")
    if not reasons and not row["passes"]:
        reasons.append("moves against the sign with which it follows accuracy")
    return "; ".join(reasons) or "passes"


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    share = row["num_separating"] / row["num_with_control"] if row["num_with_control"] else 0.0
    return (not row["passes"], -share, -abs(row["combined_z"] or 0.0), row["monitor"])
