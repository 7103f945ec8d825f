"""Means over pairs of samples: over all of them, or over a seeded draw with its interval.

Shapes: N samples, P pairs.
"""

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit


@dataclass(frozen=True)
class PairwiseMean:
    """The mean distance over pairs of samples, and how well it is known."""

    mean: float
    """Mean distance over the compared pairs: edits, or a share in [0, 1] where normalised."""
    std_error: float
    """Standard error from comparing some pairs only; 0 where all were compared."""
    low: float
    high: float
    """Ends of the 95 % interval of the mean over all pairs of these samples."""
    num_pairs: int
    num_total_pairs: int
    """Pairs compared, and pairs there are."""
    exact: bool
    """Whether all pairs were compared."""


def num_pairs_of(num_samples: int) -> int:
    """Unordered pairs of different samples."""
    return num_samples * (num_samples - 1) // 2


def draw_pairs(
    num_samples: int, num_drawn: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw distinct unordered pairs of samples, the smaller index first."""
    pair_ids_P = draw_distinct(num_pairs_of(num_samples), num_drawn, seed)
    # Pairs are numbered row by row through the upper triangle: row i starts at row_starts[i].
    rows = np.arange(num_samples, dtype=np.int64)
    row_starts = rows * (2 * num_samples - rows - 1) // 2
    first_P = np.searchsorted(row_starts[:-1], pair_ids_P, side="right") - 1
    return first_P, first_P + 1 + pair_ids_P - row_starts[first_P]


def draw_distinct(num_total: int, num_drawn: int, seed: int) -> NDArray[np.int64]:
    """Draw distinct numbers below `num_total` uniformly, in rising order.

    Memory follows the draw, not the total: `Generator.choice` without replacement may allocate
    all 50 million pairs of 10,000 samples. Drawing on until enough numbers differ is uniform too.
    """
    rng = np.random.default_rng(seed)
    if num_drawn > num_total // 2:
        return np.sort(rng.choice(num_total, num_drawn, replace=False, shuffle=False))
    drawn = np.unique(rng.integers(num_total, size=num_drawn))
    while len(drawn) < num_drawn:
        more = rng.integers(num_total, size=num_drawn - len(drawn))
        drawn = np.union1d(drawn, more)
    return drawn


def pair_limit_of(max_pairs: int | None) -> int:
    """Most pairs to compare; raises ValueError where a draw could have no standard error."""
    if max_pairs is not None and max_pairs < 2:
        raise ValueError(
            f"max_pairs must be at least 2 for a standard error, found {max_pairs}; "
            "leave it out to compare all pairs"
        )
    return sys.maxsize if max_pairs is None else max_pairs


def exact_mean(total: float, num_pairs: int) -> PairwiseMean:
    """Mean over all pairs, which is known without error."""
    mean = total / num_pairs
    return PairwiseMean(mean, 0.0, mean, mean, num_pairs, num_pairs, exact=True)


def sampled_mean(distances_P: NDArray[np.float64], num_total_pairs: int) -> PairwiseMean:
    """Mean, standard error and 95 % interval of a draw without replacement."""
    num_pairs = len(distances_P)
    mean = float(distances_P.mean())
    missing_share = 1 - num_pairs / num_total_pairs
    std_error = float(distances_P.std(ddof=1) * np.sqrt(missing_share / num_pairs))
    margin = float(stdtrit(num_pairs - 1, 0.975)) * std_error
    low, high = max(0.0, mean - margin), mean + margin
    return PairwiseMean(mean, std_error, low, high, num_pairs, num_total_pairs, exact=False)
