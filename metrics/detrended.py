"""The verdict test: do a monitor and an accuracy move together beyond both having a trend?

Two series that merely saturate correlate almost perfectly, whatever they measure. So the trend
is taken out first, and where that cannot be done (curves so smooth that nothing but trend is
left, or too few checkpoints) the test abstains. How it was chosen, its measured false-positive
rates and its power: docs/statistics.md, and ``metrics.calibration`` to measure them again.

Shapes: T checkpoints, R differences.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from metrics.lags import lag_test, lagged

MIN_CHECKPOINTS = 8
"""Fewer leave too few differences to separate a shared trend from shared movement."""

SECOND_ORDER_FROM = 12
"""From this many checkpoints on second differences are used, below it first differences."""

MAX_TREND_ERRORS = 1.6
"""Abstain when a series is this many standard errors smoother than a random walk."""


@dataclass(frozen=True)
class DetrendedTest:
    """Result of ``detrended_test``."""

    statistic_pearson: float | None
    statistic_spearman: float | None
    """Correlation of the detrended differences at `lag` (at 0 where that is None), of their values
    and of their ranks, in [-1, 1]; None where it cannot be computed. The p-value belongs to the
    largest over all lags, of ranks."""
    lag: int | None
    """Where the two agree best, from -2 to 2 checkpoints; positive where the first series, the
    monitor, leads. None when the test abstains, and where no lag stands out: p is 1 then."""
    p_value: float | None
    """Two-sided, over all lags, in (0, 1]; None when the test abstains, never a rejection."""
    smallest_p: float | None
    """The smallest p-value reachable with this many differences and permutations."""
    num_differences: int
    """How many differences enter the test."""
    note: str
    """Empty, or why there is no p-value."""

    @property
    def signed_z(self) -> float:
        """The p-value and the sign of the link as one normal number; 0 where the test abstains."""
        if self.p_value is None or self.statistic_spearman is None:
            return 0.0
        return signed_z(self.p_value, self.statistic_spearman)


def signed_z(p: float, sign: float) -> float:
    """A two-sided p-value and its sign as one standard normal number.

    >>> round(signed_z(0.05, -1.0), 2)
    -1.96
    """
    return float(np.sign(sign) * norm.isf(min(max(p, 1e-12), 1.0) / 2))


def detrended_test(
    x_T: ArrayLike, y_T: ArrayLike, steps_T: ArrayLike, *, seed: int, num_permutations: int = 9999
) -> DetrendedTest:
    """Test whether two series move together, at once or up to two checkpoints apart.

    Parameters
    ----------
    x_T, y_T : array of shape (T,)
        Monitor and accuracy at each checkpoint.
    steps_T : array of shape (T,)
        Training steps, strictly increasing. They fix the order; their spacing is not used.
    seed : int
        Seed of the resamples.
    num_permutations : int
        Sign flips drawn, below 12 checkpoints orders; up to 8 differences all are enumerated.

    Returns
    -------
    DetrendedTest
        The statistics and the p-value, or a note that gives the reason why the test abstains.

    Raises ValueError if the lengths differ or the steps do not increase.

    Notes
    -----
    1. Second differences of each series, divided by their size as it grows or shrinks
       exponentially with the index (below 12 checkpoints plain first differences), replaced by
       their ranks, from which a quadratic in the index is regressed out.
    2. Correlations at the lags -2 to 2, compared with sign flips of one series (below 12
       checkpoints against its orders) in one test, ``metrics.lags.lag_test``. Differencing makes
       neighbours dependent, which inflates the variance of a correlation (Bartlett 1935) and
       leaves an echo of the other sign one lag off; both are allowed for there.
    3. Abstention. The lag-1 autocorrelation of signed ranks of second differences is -2/3 for
       noise around a trend, -1/2 for a random walk, and positive for a smooth curve. With R of
       them, either series above -1/2 + 1.6 / sqrt(R) means that trend is left over: no p-value.

    The paper (arXiv 2506.21551, sec. 4.3) reports plain correlations; this test is ours. Bartlett:
    J. R. Stat. Soc. 98 (1935); trends: Granger and Newbold, J. Econometrics 2 (1974).

    Examples
    --------
    Two independent saturating curves correlate at 0.99; the test does not fall for it.

    >>> steps = np.arange(0, 2000, 100)
    >>> x, y = 1 - np.exp(-steps / 600), 1 - np.exp(-steps / 800)
    >>> detrended_test(x, y, steps, seed=0).note
    'cannot tell: the first series is too smooth, so nothing but its trend is left to compare'
    """
    x_T, y_T = check_series(x_T, y_T, steps_T)
    num_checkpoints = len(x_T)
    order = 2 if num_checkpoints >= SECOND_ORDER_FROM else 1
    num_differences = max(num_checkpoints - order, 0)

    def abstain(reason: str) -> DetrendedTest:
        return DetrendedTest(
            None, None, None, None, None, num_differences, f"cannot tell: {reason}"
        )

    if not (np.isfinite(x_T).all() and np.isfinite(y_T).all()):
        return abstain("a series holds a value that is not finite")
    if num_checkpoints < MIN_CHECKPOINTS:
        return abstain(f"{num_checkpoints} checkpoints, at least {MIN_CHECKPOINTS} are needed")
    x_values_R, x_ranks_R = _detrended_differences(x_T, order)
    y_values_R, y_ranks_R = _detrended_differences(y_T, order)
    for name, series_T, ranks_R in (("first", x_T, x_ranks_R), ("second", y_T, y_ranks_R)):
        if not _differences(series_T, order=2).any():
            return abstain(f"the {name} series does not vary around its trend")
        if is_too_smooth(series_T) or not ranks_R.any():
            return abstain(
                f"the {name} series is too smooth, so nothing but its trend is left to compare"
            )
    test = lag_test(x_ranks_R, y_ranks_R, order=order, seed=seed, num_permutations=num_permutations)
    return DetrendedTest(
        statistic_pearson=_cosine(*lagged(x_values_R, y_values_R, test.lag or 0)),
        statistic_spearman=_cosine(*lagged(x_ranks_R, y_ranks_R, test.lag or 0)),
        lag=test.lag,
        p_value=test.p_value,
        smallest_p=test.smallest_p,
        num_differences=num_differences,
        note="",
    )


def check_series(
    x_T: ArrayLike, y_T: ArrayLike, steps_T: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both series as float64; raise ValueError unless they fit increasing steps."""
    x_T, y_T = np.asarray(x_T, dtype=np.float64), np.asarray(y_T, dtype=np.float64)
    steps_T = np.asarray(steps_T, dtype=np.float64)
    if not (x_T.ndim == 1 and x_T.shape == y_T.shape == steps_T.shape):
        raise ValueError(
            f"the series have shapes {x_T.shape} and {y_T.shape}, the steps {steps_T.shape}; "
            "expected one value per checkpoint in each: take the checkpoints all three have"
        )
    if len(steps_T) > 1 and not (np.diff(steps_T) > 0).all():
        raise ValueError("the steps do not strictly increase; sort the checkpoints by step")
    return x_T, y_T


def is_too_smooth(series_T: NDArray[np.float64]) -> bool:
    """Whether what differencing leaves of a series is still trend rather than fluctuation."""
    differences_R = _differences(series_T, order=2)
    signed_R = np.sign(differences_R) * rankdata(np.abs(differences_R))
    total = float(signed_R @ signed_R)
    if total == 0:
        return True
    autocorrelation = float(signed_R[1:] @ signed_R[:-1]) / total
    return autocorrelation > -0.5 + MAX_TREND_ERRORS / np.sqrt(len(signed_R))


def _detrended_differences(
    series_T: NDArray[np.float64], order: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Differences and their ranks, each with a quadratic in the index taken out."""
    differences_R = _differences(series_T, order)
    if order == 2:  # first differences still hold the trend, whose size is not the fluctuations'
        differences_R = _evenly_sized(differences_R)
    return _quadratic_residual(differences_R), _quadratic_residual(rankdata(differences_R))


def _differences(series_T: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    differences_R = np.diff(series_T, n=order)
    # A straight line differs from itself by rounding errors only; their ranks would be noise.
    rounding = 1e-12 * np.max(np.abs(series_T), initial=0.0)
    return np.where(np.abs(differences_R) <= rounding, 0.0, differences_R)


def _evenly_sized(differences_R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences over their size as it grows or shrinks exponentially with the index.

    Where the fluctuations of both series shrink alike, the large early ones decide the
    correlation, and a few values correlate by chance far more often than many.
    """
    size_R = np.abs(differences_R)
    floor = 0.1 * float(size_R.mean())
    if floor == 0:
        return differences_R
    log_size_R = np.log(np.maximum(size_R, floor))
    index_R = np.linspace(-1, 1, len(differences_R))
    slope = float(index_R @ log_size_R) / float(index_R @ index_R)
    return differences_R * np.exp(-slope * index_R)


def _quadratic_residual(values_R: NDArray[np.float64]) -> NDArray[np.float64]:
    basis = _quadratic_basis(len(values_R))
    residual_R = values_R - basis @ (basis.T @ values_R)
    residual_R[np.abs(residual_R) <= 1e-9 * np.max(np.abs(values_R))] = 0.0
    return residual_R


@lru_cache(maxsize=256)
def _quadratic_basis(num_values: int) -> NDArray[np.float64]:
    """Orthonormal columns that span the quadratics in the index."""
    basis, _ = np.linalg.qr(np.vander(np.linspace(-1, 1, num_values), 3))
    return basis


def _cosine(x_R: NDArray[np.float64], y_R: NDArray[np.float64]) -> float:
    """Correlation of parts of residuals with mean 0 in all; 0 where one is all zero."""
    size = float(np.sqrt((x_R @ x_R) * (y_R @ y_R)))
    return float(np.clip(float(x_R @ y_R) / size, -1.0, 1.0)) if size else 0.0
