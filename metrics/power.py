"""Power of the verdict test for the study at hand: would it find a perfect monitor?

The tables of docs/statistics.md are for curves that nobody measured. What a study can show depends
on its own checkpoints, documents and wobble, so the power printed with it is simulated from these.

Shapes: N benchmark documents, T checkpoints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from metrics.curves import ACCURACY, curve, onset
from metrics.detrended import MIN_CHECKPOINTS, check_series, detrended_test
from metrics.registry import MONITORS

NUM_SIMULATIONS = 200
NUM_PERMUTATIONS = 199

TREND_DEGREE = 4
"""Degree of the polynomial in the checkpoint index that stands for the trend of accuracy."""


@dataclass(frozen=True)
class Power:
    """How often a perfect monitor would be found."""

    num_checkpoints: int
    """Checkpoints from the onset on."""
    wobble: float | None
    """Standard deviation of the true accuracy around its trend, counting noise taken off, in
    accuracy units; None with too few checkpoints."""
    counting_noise: float | None
    """Standard deviation that single documents add at each checkpoint, in accuracy units."""
    power: float
    """Share of simulated runs with p <= level, in [0, 1]."""
    corrected_power: float
    """Share with p <= level / num_tests: what Holm's correction requires of the first of that many
    tests. At most `power`."""


def power_at(
    values_NT: ArrayLike,
    steps_T: ArrayLike,
    *,
    level: float = 0.05,
    num_tests: int = 1,
    seed: int = 0,
    num_simulations: int = NUM_SIMULATIONS,
) -> Power:
    """Simulate in how many runs like this one the verdict test would find a perfect monitor.

    Parameters
    ----------
    values_NT : array of shape (N, T)
        The metric of each benchmark document at each checkpoint from the onset of accuracy's rise
        on, in [0, 1]; accuracy is its mean over documents.
    steps_T : array of shape (T,)
        Training steps, strictly increasing.
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

    Raises ValueError if a value lies outside [0, 1], there is no document, or steps do not rise.

    Notes
    -----
    The perfect monitor equals the true accuracy, over all possible documents. It is a
    polynomial of degree 4 in the index fitted to the measured one, plus independent normal
    fluctuations (the wobble). What single documents add to them is independent normal noise, the
    counting noise: the same documents at every checkpoint, once decided, add none, so it is the
    variance between documents of their second differences, over 6 N, and not p (1 - p) / N. The
    wobble's variance is that of the second differences of what the polynomial leaves of accuracy,
    over 6, less the counting noise's. Where nothing is left, the monitor is as smooth as its trend,
    the test abstains, and the power is 0. Few checkpoints give a rough wobble: read the power to a
    digit. A monitor that knew the documents could do better.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> accuracy = 0.5 + 0.05 * rng.normal(size=35)
    >>> power_at(rng.uniform(size=(2000, 1)) < accuracy, np.arange(35)).power > 0.9
    True
    """
    values_NT = np.asarray(values_NT, dtype=np.float64)
    if values_NT.ndim != 2 or not values_NT.size or not _are_shares(values_NT):
        raise ValueError(
            f"values of shape {values_NT.shape}; expected documents by checkpoints, in [0, 1]"
        )
    accuracy_T, _ = check_series(values_NT.mean(axis=0), values_NT.mean(axis=0), steps_T)
    num_checkpoints = len(accuracy_T)
    if num_checkpoints < MIN_CHECKPOINTS:
        return Power(num_checkpoints, None, None, 0.0, 0.0)
    trend_T = _trend(accuracy_T)
    noise = counting_noise(values_NT)
    wobble = _wobble(accuracy_T - trend_T, noise)
    rng = np.random.default_rng(seed)
    # Enough resamples for a p-value below the corrected level.
    num_permutations = max(NUM_PERMUTATIONS, int(np.ceil(2 * num_tests / level)))
    p_values = []
    for number in range(num_simulations):
        true_T = trend_T + wobble * rng.normal(size=num_checkpoints)
        measured_T = true_T + noise * rng.normal(size=num_checkpoints)
        test = detrended_test(
            true_T, measured_T, steps_T, seed=number, num_permutations=num_permutations
        )
        p_values.append(1.0 if test.p_value is None else test.p_value)
    return Power(
        num_checkpoints=num_checkpoints,
        wobble=wobble,
        counting_noise=noise,
        power=float(np.mean(np.array(p_values) <= level)),
        corrected_power=float(np.mean(np.array(p_values) <= level / num_tests)),
    )


def counting_noise(values_NT: NDArray[np.float64]) -> float:
    """Standard deviation that single documents add to accuracy at each checkpoint.

    Differences from one checkpoint to the next that documents do not share, as independent noise:
    its second differences have six times its variance.
    """
    if len(values_NT) < 2:
        return 0.0
    between = np.diff(values_NT, n=2, axis=1).var(axis=0, ddof=1)
    return float(np.sqrt(between.mean() / (6 * len(values_NT))))


def power_rows(
    correlations: Sequence[Mapping[str, Any]],
    curves: pd.DataFrame,
    controls: Mapping[str, list[str]],
    documents: Mapping[tuple[str, str], pd.DataFrame],
    *,
    significance: float,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of the table `power`: every series that is no control, in each domain with accuracy.

    Parameters
    ----------
    correlations
        Rows of the table of this name; they show how many tests share a correction.
    curves, controls
        As in :func:`metrics.monitors.judge`.
    documents
        The metric of every document that accuracy is counted on, by (series, domain): documents
        down, steps across.
    significance, seed
        Level of the verdict, and seed of the simulations.
    """
    paper = {monitor.measure for monitor in MONITORS if monitor.family == "paper"}
    rows = []
    for (series, domain), values in documents.items():
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
        used = accuracy.index[onset(curves, controls[series], series, domain) :]
        found = power_at(
            values[used].to_numpy(),
            used.to_numpy(),
            level=significance,
            num_tests=max(num_tests, 1),
            seed=seed,
        )
        rows.append(
            {
                "series": series,
                "domain": domain,
                "num_checkpoints": found.num_checkpoints,
                "num_documents": len(values),
                "wobble": found.wobble,
                "counting_noise": found.counting_noise,
                "power": found.power,
                "num_tests": num_tests,
                "corrected_power": found.corrected_power,
            }
        )
    return rows


def _are_shares(values_NT: NDArray[np.float64]) -> bool:
    return bool(values_NT.min() >= 0 and values_NT.max() <= 1)


def _trend(accuracy_T: NDArray[np.float64]) -> NDArray[np.float64]:
    index_T = np.linspace(-1, 1, len(accuracy_T))
    basis, _ = np.linalg.qr(np.vander(index_T, TREND_DEGREE + 1))
    return basis @ (basis.T @ accuracy_T)


def _wobble(rest_T: NDArray[np.float64], noise: float) -> float:
    measured = float(np.mean(np.diff(rest_T, n=2) ** 2)) / 6
    return float(np.sqrt(max(measured - noise**2, 0.0)))
