"""Do two detrended series agree, at the same checkpoint or a few apart? One test for all lags.

Differences of a shared fluctuation correlate at -2/3 one checkpoint off, so a test that looks at
no lag but zero finds the wrong sign where one series leads. Here the lags -2 to 2 are tested
together, and the sign is that of the lag at which the series agree best. How the constants below
were chosen, what they cost and how often the test is wrong: docs/statistics.md.

Shapes: R differences, K lags, M resamples.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics.resampling import LARGEST_EXACT, all_orders

MAX_LAG = 2
"""The largest lag, in checkpoints, at which agreement counts."""

GUARD_LAG = 3
"""Lags up to this one are computed too, because their echo has the wrong sign at MAX_LAG."""

LAG_WEIGHT = 0.8
"""What agreement at another lag weighs against agreement at lag 0 in the p-value."""

ATTRIBUTION_WEIGHT = 0.9
"""The same where the best lag is chosen."""

ECHO_SHARE = 0.3
"""Share of the two neighbouring lags that is added before the best lag is chosen: echoes of one
lag have the other sign there, so a true lag stands out from its echoes."""

LARGEST_RIVAL = 0.85
"""Where the best lag of the other sign reaches this share of the best lag, no sign is certain."""

_TIE = 1e-12
_CHUNK = 10_000
_LAGS = np.arange(-GUARD_LAG, GUARD_LAG + 1)
_P_WEIGHTS = np.where(_LAGS == 0, 1.0, LAG_WEIGHT) * (np.abs(_LAGS) <= MAX_LAG)
_CHOICE_WEIGHTS = np.where(_LAGS == 0, 1.0, ATTRIBUTION_WEIGHT)


@dataclass(frozen=True)
class LagTest:
    """Result of ``lag_test``."""

    lag: int | None
    """Best lag in checkpoints, positive where the first series leads; None where it lies beyond
    MAX_LAG or a lag of the other sign is nearly as good. The p-value is 1 then."""
    p_value: float
    """Two-sided, over all lags, in (0, 1]."""
    smallest_p: float
    """The smallest p-value that this many differences and resamples can reach."""


def lag_test(
    x_R: NDArray[np.float64],
    y_R: NDArray[np.float64],
    *,
    order: int,
    seed: int,
    num_permutations: int,
) -> LagTest:
    """Test whether two differenced and detrended series agree at a lag from -2 to 2.

    Parameters
    ----------
    x_R, y_R : array of shape (R,)
        Residuals with mean 0, neither of them all zero.
    order : int
        How often the series were differenced. Second differences (2) are compared with sign
        flips, first differences (1), of which there are few, with shuffled orders.
    seed : int
        Seed of the resamples.
    num_permutations : int
        Resamples drawn; up to 8 first differences all orders are enumerated.

    Returns
    -------
    LagTest
        Lag and p-value.

    Notes
    -----
    With r(k) = sum_i x(i) y(i + k) / sqrt((1 - |k| / R) sum x^2 sum y^2) the statistic is the
    largest w(k) |r(k)| / sqrt(1 - r(k)^2), w = 1 at k = 0 and 0.8 elsewhere, over |k| <= 2. It is
    0 where the lag with the largest w'(k) |r(k) + 0.3 (r(k - 1) + r(k + 1))| is beyond 2, or one
    of the other sign reaches 85 % of it. Resamples go through the same rule.

    A sign flip of y(i) leaves its size where it is, so series that are noisy at the same time are
    no evidence; shuffling would spread the noise evenly. Dependence between neighbours leaves
    fewer differences than R to count on, R / c with c from ``variance_inflation``; the observed
    statistic is multiplied by sqrt((R / c - d) / (R - d)), d = 3 for the quadratic taken out (4
    with first differences), as in a t-test with that many degrees of freedom.
    """
    num_values = len(x_R)
    shifted_RK = _shifted(x_R / np.sqrt(x_R @ x_R))
    y_unit_R = y_R / np.sqrt(y_R @ y_R)
    taken = 3 if order == 2 else 4
    effective = num_values / variance_inflation(x_R, y_R, num_lags=order)
    shrunk = np.sqrt(max(effective - taken, 0.25) / (num_values - taken))
    value_M, best_M = _statistic((y_unit_R @ shifted_RK)[None])
    observed = float(value_M[0]) * shrunk
    exact = order == 1 and num_values <= LARGEST_EXACT
    resampled_M = np.concatenate(
        [
            _statistic(part_MR @ shifted_RK)[0]
            for part_MR in _resamples(y_unit_R, order, seed, num_permutations)
        ]
    )
    if exact:
        smallest = float(np.mean(resampled_M >= resampled_M.max() - _TIE))
    else:
        smallest = 1 / (num_permutations + 1)
    if order == 2:  # all signs right, or all wrong, is as extreme as can be
        smallest = max(smallest, 2.0 ** (1 - num_values))
    if observed == 0:
        return LagTest(None, 1.0, smallest)
    num_extreme = int(np.sum(resampled_M >= observed - _TIE))
    p = num_extreme / len(resampled_M) if exact else (num_extreme + 1) / (num_permutations + 1)
    return LagTest(int(_LAGS[best_M[0]]), max(p, smallest), smallest)


def lagged(
    x_R: NDArray[np.float64], y_R: NDArray[np.float64], lag: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The parts of two series that stand opposite each other when the first leads by `lag`.

    >>> lagged(np.arange(4), np.arange(4), 1)
    (array([0, 1, 2]), array([1, 2, 3]))
    """
    size = len(x_R) - abs(lag)
    start_x, start_y = max(-lag, 0), max(lag, 0)
    return x_R[start_x : start_x + size], y_R[start_y : start_y + size]


def variance_inflation(
    x_R: NDArray[np.float64], y_R: NDArray[np.float64], *, num_lags: int
) -> float:
    """How many times dependence between neighbours inflates the variance of a correlation.

    1 + 2 sum_k rho_x(k) rho_y(k) (Bartlett 1935), at least 1, over the lags up to `num_lags` that
    differencing makes dependent; beyond, up to half the series, only where both autocorrelations
    exceed 1.7 / sqrt(R), as those of two series with one period do.
    """
    num_values = len(x_R)
    threshold = 1.7 / np.sqrt(num_values)
    total = 0.0
    for lag in range(1, max(num_values // 2, num_lags + 1)):
        rho_x, rho_y = (
            float(values_R[lag:] @ values_R[:-lag]) / float(values_R @ values_R)
            for values_R in (x_R, y_R)
        )
        if lag <= num_lags or min(abs(rho_x), abs(rho_y)) > threshold:
            total += rho_x * rho_y
        if lag == num_lags:
            total = max(total, 0.0)
    return max(1.0, 1 + 2 * total)


def _shifted(x_R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Column k holds x moved by that lag, so that y @ column is their correlation there."""
    num_values, reach = len(x_R), GUARD_LAG + 1
    columns = []
    for lag in range(-reach, reach + 1):
        column_R = np.zeros(num_values)
        ahead_R, _ = lagged(x_R, x_R, lag)
        column_R[max(lag, 0) : max(lag, 0) + len(ahead_R)] = ahead_R
        columns.append(column_R * np.sqrt(num_values / (num_values - abs(lag))))
    return np.stack(columns, axis=1)


def _statistic(
    r_MK: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The statistic of every row, and the place of its best lag."""
    inner_MK = r_MK[:, 1:-1]
    clear_MK = _CHOICE_WEIGHTS * (inner_MK + ECHO_SHARE * (r_MK[:, 2:] + r_MK[:, :-2]))
    best_M = np.abs(clear_MK).argmax(axis=1)
    high_M, low_M = clear_MK.max(axis=1), -clear_MK.min(axis=1)
    certain_M = np.minimum(high_M, low_M) <= LARGEST_RIVAL * np.maximum(high_M, low_M)
    certain_M &= np.abs(_LAGS[best_M]) <= MAX_LAG
    squared_MK = np.minimum(inner_MK**2, 1 - 1e-9)
    odds_M = (_P_WEIGHTS**2 * squared_MK / (1 - squared_MK)).max(axis=1)
    return np.where(certain_M, np.sqrt(odds_M), 0.0), best_M


def _resamples(
    y_R: NDArray[np.float64], order: int, seed: int, num_permutations: int
) -> Iterator[NDArray[np.float64]]:
    """Sign flips of second differences, orders of first ones, in parts of a bounded size."""
    num_values = len(y_R)
    if order == 1 and num_values <= LARGEST_EXACT:
        yield y_R[all_orders(num_values)]
        return
    rng = np.random.default_rng(seed)
    for start in range(0, num_permutations, _CHUNK):
        size = min(_CHUNK, num_permutations - start)
        if order == 1:
            yield rng.permuted(np.broadcast_to(y_R, (size, num_values)), axis=1)
        else:
            yield y_R * (2.0 * rng.integers(0, 2, size=(size, num_values)) - 1)
