"""Correlations between a monitor and accuracy across the checkpoints of one training run.

With few checkpoints and trends in both, a bare r means little: each comes with an exact or
simulated permutation p-value, a bootstrap interval, a partial correlation given the step, and
the detrended test on which a verdict may rest (docs/statistics.md).

Shapes: T checkpoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from metrics.curves import MIN_CHECKPOINTS
from metrics.detrended import check_series, detrended_test
from metrics.resampling import bootstrap_interval, pearson, permutation_test, unit_centred


@dataclass(frozen=True)
class CorrelationResult:
    """How a monitor and accuracy go together over checkpoints; None where it cannot be computed."""

    num_checkpoints: int
    pearson: float | None = None
    pearson_low: float | None = None
    pearson_high: float | None = None
    """95 % percentile bootstrap interval, too narrow for trending series (no serial dependence)."""
    pearson_loo_low: float | None = None
    pearson_loo_high: float | None = None
    """Smallest and largest Pearson correlation when one checkpoint is left out."""
    pearson_p: float | None = None
    """Two-sided permutation p-value, exact up to 8 checkpoints. Its null is a random order, and
    no two trends are in random order: no evidence by itself."""
    spearman: float | None = None
    smallest_p: float | None = None
    """The smallest `pearson_p` these checkpoints and this many permutations can reach."""
    partial_pearson: float | None = None
    """After a straight line in log(1 + step) is taken out of both series."""
    linear_slope: float | None = None
    linear_intercept: float | None = None
    linear_r2: float | None = None
    linear_mse: float | None = None
    """Fit accuracy = intercept + slope * monitor: explained share, mean squared error."""
    difference_pearson: float | None = None
    difference_spearman: float | None = None
    difference_lag: int | None = None
    difference_p: float | None = None
    difference_smallest_p: float | None = None
    """The verdict test, ``metrics.detrended.DetrendedTest``."""
    note: str = ""
    """Why there is no correlation, or which part is missing; else empty."""
    difference_note: str = ""
    """Why the verdict test abstains, or empty."""

    @property
    def available(self) -> bool:
        """Whether there is a correlation at all."""
        return self.pearson is not None


def correlate(
    monitor_T: ArrayLike,
    accuracy_T: ArrayLike,
    steps_T: ArrayLike,
    *,
    seed: int,
    num_permutations: int = 9999,
    num_bootstrap: int = 2000,
) -> CorrelationResult:
    """Correlate a monitor with accuracy across checkpoints, with all that qualifies the number.

    Parameters
    ----------
    monitor_T, accuracy_T : array of shape (T,)
        Monitor and accuracy at the same checkpoints.
    steps_T : array of shape (T,)
        Training steps, strictly increasing, at least 0.
    seed : int
        Seed of permutations and bootstrap.
    num_permutations, num_bootstrap : int
        Orders drawn when there are more than 8 checkpoints, and bootstrap resamples.

    Returns
    -------
    CorrelationResult
        Numbers that cannot be computed are None, with a note that gives the reason; never NaN.

    Raises ValueError if lengths differ or steps do not increase.

    Examples
    --------
    >>> result = correlate([5, 4, 3, 1], [0.1, 0.2, 0.4, 0.9], [0, 10, 20, 30], seed=0)
    >>> round(result.pearson, 3), result.spearman, round(result.smallest_p, 3)
    (-0.987, -1.0, 0.042)
    """
    monitor_T, accuracy_T = check_series(monitor_T, accuracy_T, steps_T)
    num_checkpoints = len(monitor_T)
    reason = _why_not(monitor_T, accuracy_T)
    if reason:
        note = f"not available, because {reason}"
        return CorrelationResult(num_checkpoints, note=note, difference_note=note)
    r = pearson(monitor_T, accuracy_T)
    permuted = permutation_test(monitor_T, accuracy_T, seed=seed, num_permutations=num_permutations)
    interval = bootstrap_interval(monitor_T, accuracy_T, seed=seed, num_bootstrap=num_bootstrap)
    partial = _partial_pearson(monitor_T, accuracy_T, np.asarray(steps_T, dtype=np.float64))
    verdict = detrended_test(
        monitor_T, accuracy_T, steps_T, seed=seed, num_permutations=num_permutations
    )
    left_out = _leave_one_out(monitor_T, accuracy_T)
    slope = r * float(accuracy_T.std()) / float(monitor_T.std())
    missing = ["no bootstrap interval: most resamples are constant"] if interval is None else []
    missing += ["no partial correlation: a series is a line in log step"] if partial is None else []
    missing += ["without one checkpoint a series is constant"] if left_out is None else []
    return CorrelationResult(
        num_checkpoints=num_checkpoints,
        pearson=r,
        spearman=pearson(rankdata(monitor_T), rankdata(accuracy_T)),
        pearson_low=interval[0] if interval else None,
        pearson_high=interval[1] if interval else None,
        pearson_loo_low=None if left_out is None else min(left_out),
        pearson_loo_high=None if left_out is None else max(left_out),
        pearson_p=permuted.p_value,
        smallest_p=permuted.smallest_p,
        partial_pearson=partial,
        linear_slope=slope,
        linear_intercept=float(accuracy_T.mean()) - slope * float(monitor_T.mean()),
        linear_r2=r**2,
        linear_mse=float(np.var(accuracy_T)) * (1 - r**2),
        difference_pearson=verdict.statistic_pearson,
        difference_spearman=verdict.statistic_spearman,
        difference_lag=verdict.lag,
        difference_p=verdict.p_value,
        difference_smallest_p=verdict.smallest_p,
        note="; ".join(missing),
        difference_note=verdict.note,
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for the number of tests (Holm 1979); None stays None and does not count.

    Rejecting where the adjusted value is at most a level limits the chance of any false rejection
    to it, whatever the dependence between the tests.

    Raises ValueError if a p-value is outside [0, 1].

    Examples
    --------
    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for position, (p, index) in enumerate(tested):
        if not 0 <= p <= 1:
            raise ValueError(f"p-value {p} at position {index} is outside [0, 1]")
        largest = max(largest, min(1.0, (len(tested) - position) * p))
        adjusted[index] = largest
    return adjusted


def _why_not(monitor_T: NDArray[np.float64], accuracy_T: NDArray[np.float64]) -> str:
    """Reason why there is no correlation, or an empty string."""
    if len(monitor_T) < MIN_CHECKPOINTS:
        return f"{len(monitor_T)} checkpoints are fewer than {MIN_CHECKPOINTS}"
    for name, values_T in (("monitor", monitor_T), ("accuracy", accuracy_T)):
        num_bad = int(np.sum(~np.isfinite(values_T)))
        if num_bad:
            return f"the {name} is not finite at {num_bad} of {len(values_T)} checkpoints"
        if np.ptp(values_T) <= 1e-12 * np.max(np.abs(values_T)):
            return f"the {name} is constant"
    return ""


def _leave_one_out(
    monitor_T: NDArray[np.float64], accuracy_T: NDArray[np.float64]
) -> list[float] | None:
    """Pearson correlation without each checkpoint in turn; None if nothing varies without one."""
    pairs = [(np.delete(monitor_T, at), np.delete(accuracy_T, at)) for at in range(len(monitor_T))]
    if not all(unit_centred(one_T).any() for pair in pairs for one_T in pair):
        return None
    return [pearson(*pair) for pair in pairs]


def _partial_pearson(
    monitor_T: NDArray[np.float64], accuracy_T: NDArray[np.float64], steps_T: NDArray[np.float64]
) -> float | None:
    """Correlation given log(1 + step), None where a series has no residual."""
    log_steps_T = np.log1p(steps_T)
    basis, _ = np.linalg.qr(np.stack([np.ones_like(log_steps_T), log_steps_T], axis=1))
    residuals = []
    for values_T in (monitor_T, accuracy_T):
        residual_T = values_T - basis @ (basis.T @ values_T)
        if np.max(np.abs(residual_T)) <= 1e-10 * np.ptp(values_T):
            return None
        residuals.append(residual_T)
    return pearson(*residuals)
