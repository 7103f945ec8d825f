"""The monitors: how they are compared with accuracy and with controls, and what may be concluded.

A monitor is a number per checkpoint and domain that needs no benchmark. :func:`judge` compares
every monitor with accuracy inside each series (arXiv 2506.21551, sec. 4.3); :func:`separations`
tests whether it changes otherwise than in a control in which nothing can generalize.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from metrics.correlations import CorrelationResult, correlate, holm
from metrics.curves import ACCURACY, curve, onset
from metrics.detrended import detrended_test
from metrics.registry import MONITORS, Measure
from metrics.separation import separate


def judge(
    curves: pd.DataFrame,
    controls: dict[str, list[str]],
    *,
    num_permutations: int,
    num_bootstrap: int,
    significance: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the table `correlations`: every monitor against accuracy.

    Parameters
    ----------
    curves
        Columns series, domain, step, monitor, value; accuracy is the monitor `accuracy`.
    controls
        Controls by series (:func:`controls_of`); a series that is itself a control is no key.
    num_permutations, num_bootstrap, seed
        As in :func:`metrics.correlations.correlate`. Where the detrended test comes near the level,
        it is repeated with 20 times as many permutations, because Holm's correction multiplies the
        chance error of a small p-value.
    significance
        Level of the verdict, for Holm's corrected p-value of the detrended test. The correction
        spans the monitors of one family and all domains, within a series and window: the
        paper's table is one question, the search among other measures another.
    """
    rows: list[dict[str, Any]] = []
    for series, of_series in curves.groupby("series", sort=False):
        for window in ("all", "after_onset"):
            block = []
            for domain, monitor, wide in _against_accuracy(of_series):
                used = wide.iloc[
                    onset(curves, controls.get(str(series), []), str(series), domain) :
                ]
                used = (wide if window == "all" else used).dropna(subset=[monitor.measure])
                result = _correlate(
                    used, monitor.measure, num_permutations, num_bootstrap, significance, seed
                )
                place = {"series": series, "domain": domain, "window": window}
                block.append((place, monitor, result))
            rows += _with_verdicts(block, significance)
    return rows


def separations(curves: pd.DataFrame, controls: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Rows of the table `separation`: every series against each of its controls, by monitor.

    The window starts where the series' accuracy starts its sustained rise above the controls; only
    steps that both have are compared.
    """
    rows = []
    for main, its_controls in controls.items():
        for domain, monitor, wide in _against_accuracy(curves[curves["series"] == main]):
            used = wide.iloc[onset(curves, its_controls, main, domain) :][[monitor.measure]]
            for control in its_controls:
                other = curve(curves, control, domain, monitor.measure)
                both = used.join(other.rename("control"), how="inner").dropna()
                found = separate(
                    monitor.title,
                    both[monitor.measure].to_numpy(),
                    both["control"].to_numpy(),
                    both.index.to_numpy(),
                    monitor.expected_direction,
                )
                place = {"domain": domain, "monitor": monitor.measure}
                series = {"main_series": main, "control_series": control}
                rows.append({**place, **series, **vars(found)})
    return rows


def _correlate(
    used: pd.DataFrame,
    monitor: str,
    num_permutations: int,
    num_bootstrap: int,
    significance: float,
    seed: int,
) -> CorrelationResult:
    series = used[monitor].to_numpy(), used[ACCURACY].to_numpy(), used.index.to_numpy()
    result = correlate(
        *series, seed=seed, num_permutations=num_permutations, num_bootstrap=num_bootstrap
    )
    if result.difference_p is None or result.difference_p > 2 * significance:
        return result
    finer = detrended_test(*series, seed=seed + 1, num_permutations=20 * num_permutations)
    return replace(result, difference_p=finer.p_value, difference_smallest_p=finer.smallest_p)


def _against_accuracy(of_series: pd.DataFrame) -> Iterator[tuple[str, Measure, pd.DataFrame]]:
    """Per domain with accuracy and monitor: both side by side, indexed by step in order."""
    for domain, of_domain in of_series.groupby("domain", sort=False):
        wide = of_domain.pivot_table(
            index="step", columns="monitor", values="value", dropna=False
        ).sort_index()
        if ACCURACY not in wide:
            continue
        wide = wide.dropna(subset=[ACCURACY])
        for monitor in MONITORS:
            if monitor.measure in wide and len(wide):
                yield str(domain), monitor, wide


def _with_verdicts(
    block: list[tuple[dict[str, Any], Measure, CorrelationResult]], significance: float
) -> list[dict[str, Any]]:
    corrected = _corrected(block)
    return [
        {
            **place,
            "monitor": monitor.measure,
            **_numbers(result),
            "holm_p": holm_p,
            "verdict": verdict(result, holm_p, monitor.expected_direction, significance),
            "note": "; ".join(filter(None, [result.note, result.difference_note])) or None,
        }
        for (place, monitor, result), holm_p in zip(block, corrected, strict=True)
    ]


def _numbers(result: CorrelationResult) -> dict[str, Any]:
    notes = ("note", "difference_note")
    return {name: value for name, value in vars(result).items() if name not in notes}


def _corrected(
    block: list[tuple[dict[str, Any], Measure, CorrelationResult]],
) -> list[float | None]:
    """Holm's correction within each family of measures."""
    corrected: list[float | None] = [None] * len(block)
    for family in dict.fromkeys(measure.family for _, measure, _ in block):
        places = [at for at, (_, measure, _) in enumerate(block) if measure.family == family]
        adjusted = holm([block[at][2].difference_p for at in places])
        for at, p in zip(places, adjusted, strict=True):
            corrected[at] = p
    return corrected


def verdict(
    result: CorrelationResult, holm_p: float | None, expected_direction: int, significance: float
) -> str:
    """What the detrended test allows to conclude, in plain words."""
    if not result.available:
        return result.note or "not available"
    if result.difference_p is None or holm_p is None:
        return result.difference_note or "cannot tell"
    if result.difference_p > significance:
        return "no relation beyond the trend is shown"
    if holm_p > significance:
        return "suggestive only: does not survive the correction for all tests"
    assert result.difference_spearman is not None
    sign = np.sign(result.difference_spearman)
    if expected_direction == 0:
        how = f" ({'+' if sign > 0 else '−'})"
    else:
        how = f", {'in' if sign == expected_direction else 'against'} the expected direction"
    return f"moves with accuracy beyond the trend{how}{_timing(result.difference_lag)}"


def _timing(lag: int | None) -> str:
    """How far a monitor runs ahead of accuracy or behind it, or nothing where it does not."""
    if not lag:
        return ""
    unit = "checkpoint" if abs(lag) == 1 else "checkpoints"
    return f", {'leading' if lag > 0 else 'lagging'} by about {abs(lag)} {unit}"
