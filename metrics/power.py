"""Power of the verdict test for the study at hand: would it see a perfect monitor?

The tables of docs/statistics.md are for curves that nobody measured. What a study can show hangs on
its own checkpoints, documents and wobble, so the power printed with it is simulated from these.

Shapes: T checkpoints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from metrics.detrended import MIN_CHECKPOINTS, check_series, detrended_test
from metrics.monitors import ACCURACY, MONITORS, curve, onset
from metrics.simulated import perfect_pair

NUM_SIMULATIONS = 200
NUM_PERMUTATIONS = 199

TREND_DEGREE = 4
"""Degree of the polynomial in the checkpoint index that stands for the trend of accuracy."""


@dataclass(frozen=True)
class Power:
    """How often a perfect monitor would be seen.

    Attributes
    ----------
    num_checkpoints : int
        Checkpoints from the onset on.
    wobble : float or None
        Standard deviation of the true accuracy around its trend, counting noise taken off, in
        accuracy units; None with too few checkpoints to tell.
    power : float
        Share of simulated runs with p <= level, in [0, 1].
    corrected_power : float
        Share with p <= level / num_tests: what Holm's correction asks of the first of that many
        tests. At most `power`.
    """

    num_checkpoints: int
    wobble: float | None
    power: float
    corrected_power: float


def power_at(
    accuracy_T: ArrayLike,
    steps_T: ArrayLike,
    *,
    num_documents: int,
    level: float = 0.05,
    num_tests: int = 1,
    seed: int = 0,
    num_simulations: int = NUM_SIMULATIONS,
) -> Power:
    """Simulate in how many runs like this one the verdict test would see a perfect monitor.

    Parameters
    ----------
    accuracy_T : array of shape (T,)
        Measured accuracy from its onset on, in [0, 1].
    steps_T : array of shape (T,)
        Training steps, strictly increasing.
    num_documents : int
        Benchmark documents that the accuracy is counted on.
    level : float
        Level of the verdict.
    num_tests : int
        Tests that share Holm's correction, for `corrected_power`.
    seed, num_simulations : int
        Seed of the simulation, and its runs; the standard error of a share is at most
        0.5 / sqrt(num_simulations).

    Returns
    -------
    Power
        Shares of the simulated runs.

    Raises
    ------
    ValueError
        If an accuracy lies outside [0, 1], there is no document, or the steps do not increase.

    Notes
    -----
    The perfect monitor equals the true accuracy, without counting noise: no real one does better.
    The true accuracy is a polynomial of degree 4 in the index fitted to the measured one, plus
    independent normal fluctuations (the wobble); the accuracy of a simulated run is a binomial
    share of `num_documents`. The wobble's variance is that of the second differences of what the
    polynomial leaves, over 6, less the mean p (1 - p) / num_documents of counting. Where nothing
    is left, the monitor is as smooth as its trend, the test abstains, and the power is 0. Few
    checkpoints give a rough wobble: read the power to a digit.

    Examples
    --------
    >>> steps = np.arange(35)
    >>> accuracy = 0.5 + 0.05 * np.random.default_rng(0).normal(size=35)
    >>> power_at(accuracy, steps, num_documents=2000).power > 0.9
    True
    """
    accuracy_T, _ = check_series(accuracy_T, accuracy_T, steps_T)
    if num_documents < 1 or not (accuracy_T.min() >= 0 and accuracy_T.max() <= 1):
        raise ValueError(
            f"accuracy from {accuracy_T.min():g} to {accuracy_T.max():g} on {num_documents} "
            "documents; expected shares in [0, 1] of at least 1 document"
        )
    num_checkpoints = len(accuracy_T)
    if num_checkpoints < MIN_CHECKPOINTS:
        return Power(num_checkpoints, None, 0.0, 0.0)
    trend_T = _trend(accuracy_T)
    wobble = _wobble(accuracy_T, trend_T, num_documents)
    rng = np.random.default_rng(seed)
    # Enough resamples for a p-value below the corrected level.
    num_permutations = max(NUM_PERMUTATIONS, int(np.ceil(2 * num_tests / level)))
    p_values = []
    for number in range(num_simulations):
        monitor_T, measured_T = perfect_pair(
            trend_T, rng, wobble=wobble, num_documents=num_documents
        )
        test = detrended_test(
            monitor_T, measured_T, steps_T, seed=number, num_permutations=num_permutations
        )
        p_values.append(1.0 if test.p_value is None else test.p_value)
    return Power(
        num_checkpoints=num_checkpoints,
        wobble=wobble,
        power=float(np.mean(np.array(p_values) <= level)),
        corrected_power=float(np.mean(np.array(p_values) <= level / num_tests)),
    )


def power_rows(
    curves: pd.DataFrame,
    correlations: Sequence[Mapping[str, Any]],
    controls: Mapping[str, list[str]],
    num_documents: Mapping[tuple[str, str], int],
    *,
    significance: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the table `power`: every series that is no control, in each domain with accuracy.

    Parameters
    ----------
    curves, controls
        As in :func:`metrics.monitors.judge`.
    correlations
        Rows of the table of this name; they say how many tests share a correction.
    num_documents
        Documents that the accuracy is counted on, by (series, domain).
    significance, seed
        Level of the verdict, and seed of the simulations.
    """
    paper = {monitor.measure for monitor in MONITORS if monitor.family == "paper"}
    rows = []
    for (series, domain), documents in num_documents.items():
        accuracy = curve(curves, series, domain, ACCURACY).dropna()
        if series not in controls or accuracy.empty:
            continue
        num_tests = sum(
            row["series"] == series
            and row["window"] == "after_onset"
            and row["monitor"] in paper
            and row["difference_p"] is not None
            for row in correlations
        )
        used = accuracy.iloc[onset(curves, controls[series], series, domain) :]
        found = power_at(
            used.to_numpy(),
            used.index.to_numpy(),
            num_documents=documents,
            level=significance,
            num_tests=max(num_tests, 1),
            seed=seed,
        )
        rows.append(
            {
                "series": series,
                "domain": domain,
                "num_checkpoints": found.num_checkpoints,
                "num_documents": documents,
                "wobble": found.wobble,
                "power": found.power,
                "num_tests": num_tests,
                "corrected_power": found.corrected_power,
            }
        )
    return rows


def _trend(accuracy_T: NDArray[np.float64]) -> NDArray[np.float64]:
    index_T = np.linspace(-1, 1, len(accuracy_T))
    basis, _ = np.linalg.qr(np.vander(index_T, TREND_DEGREE + 1))
    return np.clip(basis @ (basis.T @ accuracy_T), 0, 1)


def _wobble(
    accuracy_T: NDArray[np.float64], trend_T: NDArray[np.float64], num_documents: int
) -> float:
    measured = float(np.mean(np.diff(accuracy_T - trend_T, n=2) ** 2)) / 6
    counting = float(np.mean(trend_T * (1 - trend_T))) / num_documents
    return float(np.sqrt(max(measured - counting, 0.0)))
