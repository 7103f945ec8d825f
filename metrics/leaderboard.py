"""One rule for every monitor over all trainings: does it follow, and does it stay quiet?

A monitor earns trust twice. It follows the accuracy of its own training where something
generalizes, with one sign; and it changes otherwise than in the training's control, in which
nothing can generalize. Both are tested in every (training, domain) in which accuracy rose. Domains
of one training share its checkpoints and are no independent evidence, so what counts is the
training: its domains are averaged first.

Whether it follows is tested by reassigning the monitors of one recipe's trainings to each other's
accuracy (:func:`metrics.resampling.matched_test`). Compared are signed z-values of the detrended
test; the sign is that of the correlation at the lag where monitor and accuracy agree best, so one
that leads counts as following; where no lag stands out z is 0.

Whether it differs from the controls rests on the spread between trainings: the differences of a
training's domains are averaged, and the signs of the trainings are flipped, all ways. That is exact
if a training and its control are interchangeable, whatever a single series' wobble is. Trainings
that share a control are flipped together.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from metrics.correlations import holm
from metrics.curves import ACCURACY, onset, risen_cases
from metrics.detrended import detrended_test, signed_z
from metrics.registry import Measure
from metrics.resampling import MatchedTest, matched_test
from metrics.separation import MIN_ERRORS

SEPARATING_SHARE = 0.75
"""A monitor must differ from the control in at least this share of cases, in one direction."""
MAX_ENUMERATED = 14
"""Up to so many trainings all signs are gone through, above 20,000 draws are taken."""
NOMINAL = 0.05
"""Level at which single cases are counted, for the eye; the verdict rests on the matched test."""
NUM_RESAMPLES = 999
"""Of each detrended test behind the matched one."""
WINDOW = "after_onset"


def leaderboard_rows(
    curves: pd.DataFrame,
    correlations: Sequence[dict[str, Any]],
    separations: Sequence[dict[str, Any]],
    controls: dict[str, list[str]],
    recipes: Mapping[str, str],
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
    recipes
        What each series was trained by; trainings of one recipe differ in their seed alone.
    monitors
        The measures to rank.
    significance
        Level, after Holm's correction over all monitors.

    Notes
    -----
    A monitor passes when (a) it follows the accuracy of its own training more than that of others
    of the recipe, significantly after correction; (b) its difference from the control is
    significant over the trainings, after correction, and counts in at least `SEPARATING_SHARE` of
    the single cases that have a control, in the same direction in all of them; and (c) that
    direction agrees with the sign of (a). Reassigning J trainings of one recipe reaches no p below
    1 / J!, flipping J trainings none below 2^(1 - J), so (b) needs six of them for one measure,
    eleven for forty-four. A direction claimed by the measure's source is not required, it is shown
    beside.
    """
    risen = risen_cases(curves, controls)
    wide = _side_by_side(curves)
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
        matched = _matched(wide, curves, monitor.measure, risen, controls, recipes)
        rows.append(
            {
                "monitor": monitor.measure,
                "family": monitor.family,
                "expected_direction": monitor.expected_direction,
                "num_cases": len({(row["series"], row["domain"]) for row in found}),
                **_follows(found),
                "matched_excess": None if matched is None else matched.excess,
                "matched_p": None if matched is None else matched.p_value,
                "smallest_matched_p": 1.0 if matched is None else matched.smallest_p,
                **_separates(pairs),
            }
        )
    followed = holm([row["matched_p"] for row in rows])
    differed = holm([row["control_p"] for row in rows])
    for row, follows_p, differs_p in zip(rows, followed, differed, strict=True):
        row["holm_p"], row["control_holm_p"] = follows_p, differs_p
        row["passes"] = _passes(row, significance)
        row["note"] = _note(row, significance, len(rows))
        del row["smallest_control_p"], row["smallest_matched_p"]
    rows.sort(key=_order)
    return [{**row, "position": position + 1} for position, row in enumerate(rows)]


def _side_by_side(curves: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Monitors as columns over steps, by (series, domain)."""
    return {
        (str(series), str(domain)): block.pivot_table(
            index="step", columns="monitor", values="value", dropna=False
        ).sort_index()
        for (series, domain), block in curves.groupby(["series", "domain"], sort=False)
    }


def _matched(
    wide: dict[tuple[str, str], pd.DataFrame],
    curves: pd.DataFrame,
    monitor: str,
    risen: set[tuple[str, str]],
    controls: dict[str, list[str]],
    recipes: Mapping[str, str],
) -> MatchedTest | None:
    """The monitor of every training against the accuracy of every one of its recipe."""
    domains: dict[str, list[str]] = {}
    for series, domain in sorted(risen):
        domains.setdefault(series, []).append(domain)
    # A training takes part if it has the monitor wherever accuracy rose in one of its recipe.
    wanted = {recipes[name]: set[str]() for name in domains}
    for name, its_domains in domains.items():
        wanted[recipes[name]].update(its_domains)
    taking_part = [
        name
        for name in controls
        if name in domains
        and all(monitor in wide.get((name, one), ()) for one in wanted[recipes[name]])
    ]
    agreement_JJ = np.full((len(taking_part), len(taking_part)), np.nan)
    for j, accurate in enumerate(taking_part):
        siblings = [i for i, name in enumerate(taking_part) if recipes[name] == recipes[accurate]]
        if len(siblings) < 2:
            continue
        rests = {
            one: _after_onset(wide, curves, controls, accurate, one) for one in domains[accurate]
        }
        for i in siblings:
            agreement_JJ[i, j] = np.mean(
                [
                    _agreement(wide[taking_part[i], one][monitor], accuracy)
                    for one, accuracy in rests.items()
                ]
            )
    return matched_test(agreement_JJ, [recipes[name] for name in taking_part])


def _after_onset(
    wide: dict[tuple[str, str], pd.DataFrame],
    curves: pd.DataFrame,
    controls: dict[str, list[str]],
    series: str,
    domain: str,
) -> pd.Series:
    accuracy: pd.Series = wide[series, domain][ACCURACY].dropna()
    return accuracy.iloc[onset(curves, controls[series], series, domain) :]


def _agreement(monitor: pd.Series, accuracy: pd.Series) -> float:
    """Signed z of one detrended test; 0 where it abstains."""
    both = pd.concat([monitor, accuracy], axis=1, join="inner", keys=["monitor", "accuracy"])
    both = both.dropna().sort_index()
    test = detrended_test(
        both["monitor"], both["accuracy"], both.index, seed=0, num_permutations=NUM_RESAMPLES
    )
    return test.signed_z


def _follows(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What the single tests find; z adds them up over trainings (Stouffer), for the eye."""
    by_series: dict[str, list[float]] = {}
    tested = [
        row
        for row in found
        if row["difference_p"] is not None and row["difference_spearman"] is not None
    ]
    for row in tested:
        z = signed_z(row["difference_p"], row["difference_spearman"])
        by_series.setdefault(row["series"], []).append(z)
    signs = np.sign([z for values in by_series.values() for z in values])
    combined = None
    if by_series:
        total = sum(float(np.mean(z)) for z in by_series.values())
        combined = float(total / np.sqrt(len(by_series)))
    return {
        "num_series": len(by_series),
        "num_tested": len(tested),
        "num_significant": sum(row["difference_p"] <= NOMINAL for row in tested),
        "num_positive": int(np.sum(signs > 0)),
        "num_negative": int(np.sum(signs < 0)),
        "combined_z": combined,
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
        "smallest_control_p": 2.0 ** (1 - len(set(_groups(known).values()))),
    }


def _difference(row: dict[str, Any]) -> float:
    return float(row["main_change"] - row["control_change"])


def _sign_that_counts(row: dict[str, Any]) -> int:
    """Direction in which one training differs from one control, 0 where that is not shown."""
    if row["graded"] is not None and abs(row["graded"]) <= MIN_ERRORS:
        return 0
    return int(np.sign(_difference(row)))


def _groups(known: list[dict[str, Any]]) -> dict[str, str]:
    """Trainings that share a control, directly or through others, under one name."""
    group: dict[str, str] = {row["main_series"]: row["main_series"] for row in known}
    first: dict[str, str] = {}
    for row in known:
        one = group[row["main_series"]]
        other = group[first.setdefault(row["control_series"], row["main_series"])]
        group = {name: one if its == other else its for name, its in group.items()}
    return group


def _over_trainings(known: list[dict[str, Any]]) -> float | None:
    """Two-sided p-value of the mean difference from the control, by flipping trainings.

    Differences are scaled by their root mean square in the domain, so that no domain decides alone.
    Exact where each training has one control of its own; those that share one are flipped together,
    and with several controls of one training it is approximate.
    """
    by_domain, by_training = defaultdict(list), defaultdict(list)
    for row in known:
        by_domain[row["domain"]].append(_difference(row))
    scale = {domain: float(np.sqrt(np.mean(np.square(d)))) for domain, d in by_domain.items()}
    for row in known:
        if scale[row["domain"]] > 0:
            by_training[row["main_series"]].append(_difference(row) / scale[row["domain"]])
    by_group: dict[str, float] = defaultdict(float)
    for training, group in _groups(known).items():
        if training in by_training:
            by_group[group] += float(np.mean(by_training[training]))
    means_J = np.array(list(by_group.values()))
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
        and row["separating_direction"] * row["matched_excess"] > 0
    )


def _note(row: dict[str, Any], significance: float, num_monitors: int) -> str:
    if row["num_cases"] == 0:
        return "not available, because accuracy rises in no training where it was measured"
    reasons = []
    if row["num_tested"] == 0:
        reasons.append("the detrended test abstains everywhere")
    elif row["matched_p"] is None:
        reasons.append("there are no two trainings of one recipe to show that it follows its own")
    elif row["holm_p"] > significance:
        reasons.append(
            "too few trainings of one recipe to show that it follows its own accuracy"
            if row["smallest_matched_p"] * num_monitors > significance
            else "does not follow the accuracy of its own training more than that of others"
        )
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
    return (not row["passes"], -share, -abs(row["matched_excess"] or 0.0), row["monitor"])
