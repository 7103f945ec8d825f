"""Memorization: from which step on a training sample's loss is low and stays put (sec. 3.1).

arXiv 2506.21551, sec. 3.1 and App. B.1. Samples that share a memorization step form a group.

Shape legend: N samples, T checkpoints.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.checks import check_losses, check_steps

NEVER = -1
"""Stands for the step of a sample that no checkpoint of the series brings there."""

DEFAULT_DELTA = 0.05
"""Largest accepted distance from the final loss, nats per token (the paper's delta)."""


@dataclass(frozen=True)
class EpsilonChoice:
    """The loss bound chosen for a domain, and why."""

    epsilon: float
    """Nats per token."""
    share: float
    """Share of samples memorized strictly before the final checkpoint, in [0, 1]."""
    in_range: bool
    """Whether that share lies in the asked range."""
    note: str
    """The choice in plain words."""


def memorization_steps(
    losses_NT: ArrayLike, steps_T: ArrayLike, epsilon: float, delta: float = DEFAULT_DELTA
) -> NDArray[np.int64]:
    """Find the step since which each sample is memorized.

    Parameters
    ----------
    losses_NT : array [N, T], floating
        Mean negative log-likelihood per token, nats.
    steps_T : array [T], integer
        Optimizer steps, strictly increasing; T at least 2.
    epsilon : float
        Largest accepted loss, nats per token, at least 0.
    delta : float
        Largest accepted distance from the final checkpoint's loss, nats per token, at least 0.

    Returns
    -------
    array [N], int64
        Entries of `steps_T`, or `NEVER` (-1).

    Raises
    ------
    ValueError
        If losses are not finite or malformed, the steps do not fit, or a bound is negative.

    Notes
    -----
    arXiv 2506.21551, sec. 3.1: the earliest checkpoint from which on, itself included, every
    checkpoint has loss <= epsilon and |loss - final loss| <= delta. The final checkpoint alone
    always satisfies the second condition, so samples "memorized" at the final step merely have a
    low final loss.

    Examples
    --------
    >>> memorization_steps([[5.0, 1.0, 0.9], [5.0, 4.0, 4.0]], [0, 10, 20], 2.0, 0.2).tolist()
    [10, -1]
    """
    losses_NT = check_losses(losses_NT)
    steps_T = check_steps(steps_T, losses_NT.shape[1])
    _check_bound("epsilon", epsilon)
    _check_bound("delta", delta)
    holds_NT = (losses_NT <= epsilon) & _near_final(losses_NT, delta)
    return earliest_steps(_holds_to_the_end(holds_NT), steps_T)


def choose_epsilon(
    losses_NT: ArrayLike,
    steps_T: ArrayLike,
    delta: float = DEFAULT_DELTA,
    *,
    share_low: float = 0.20,
    share_high: float = 0.25,
    increment: float = 0.1,
    max_epsilon: float | None = None,
) -> EpsilonChoice:
    """Scan epsilon upwards until the asked share of samples is memorized before the end.

    Parameters
    ----------
    losses_NT, steps_T, delta
        As in `memorization_steps`.
    share_low, share_high : float
        The asked range of the share, ends included, 0 <= share_low <= share_high <= 1.
    increment : float
        Step of the scan, which starts at one increment, nats per token.
    max_epsilon : float, optional
        End of the scan; by default the scan ends where a larger epsilon changes nothing.

    Returns
    -------
    EpsilonChoice
        The first epsilon whose share is in range; otherwise the one whose share is nearest to
        the range (the smaller of two as near), which the note says.

    Raises
    ------
    ValueError
        As `memorization_steps`, or if the range, the increment or the end make no sense.

    Notes
    -----
    arXiv 2506.21551, App. B.1: one epsilon per domain, increments of 0.1, 20 to 25 % memorized
    before the final checkpoint. Whether a sample is memorized before the final checkpoint at all
    is settled by the last two checkpoints (every earlier memorization holds there too), so each
    sample has one smallest epsilon and the share is a count of those.

    Examples
    --------
    >>> losses = [[3.0, 0.15, 0.15], [3.0, 1.0, 1.0], [3.0, 2.0, 2.0], [3.0, 3.0, 2.0]]
    >>> choose_epsilon(losses, [0, 10, 20]).note
    '25.0 % of 4 samples are memorized before the final checkpoint at epsilon 0.2'
    """
    losses_NT = check_losses(losses_NT)
    check_steps(steps_T, losses_NT.shape[1])
    _check_bound("delta", delta)
    _check_scan(share_low, share_high, increment, max_epsilon)
    near_N = _near_final(losses_NT, delta)[:, -2]
    needed_N = np.sort(np.where(near_N, losses_NT[:, -2:].max(axis=1), np.inf))
    epsilons = _scan_grid(needed_N, increment, max_epsilon)
    shares = np.searchsorted(needed_N, epsilons, side="right") / len(needed_N)
    distances = np.maximum(np.maximum(share_low - shares, shares - share_high), 0.0)
    best = int(distances.argmin())
    epsilon, share, in_range = float(epsilons[best]), float(shares[best]), distances[best] == 0
    note = (
        f"{100 * share:.1f} % of {len(needed_N)} samples are memorized before the final "
        f"checkpoint at epsilon {epsilon:g}"
    )
    if not in_range:
        note += (
            f"; no epsilon from {epsilons[0]:g} to {epsilons[-1]:g} in increments of "
            f"{increment:g} reaches {100 * share_low:g} to {100 * share_high:g} %, "
            "this is the nearest"
        )
    return EpsilonChoice(epsilon, share, bool(in_range), note)


def plateau_step(mean_losses_T: ArrayLike, steps_T: ArrayLike, delta: float = DEFAULT_DELTA) -> int:
    """Find the step from which a group's mean loss stays within delta of its final value.

    Parameters
    ----------
    mean_losses_T : array [T], floating
        Mean loss of the group at each checkpoint, nats per token.
    steps_T, delta
        As in `memorization_steps`.

    Returns
    -------
    int
        An entry of `steps_T`; the last one if the loss still moves there.

    Raises
    ------
    ValueError
        As `memorization_steps`.

    Notes
    -----
    arXiv 2506.21551, sec. 3.1 calls a group grokking when benchmark accuracy rises after this
    plateau without a formula for it; ours is the group's version of the delta condition.

    Examples
    --------
    >>> plateau_step([5.0, 1.0, 0.98, 1.0], [0, 10, 20, 30])
    10
    """
    losses_1T = check_losses(np.asarray(mean_losses_T, dtype=np.float64)[np.newaxis])
    steps_T = check_steps(steps_T, losses_1T.shape[1])
    _check_bound("delta", delta)
    settled_1T = _holds_to_the_end(_near_final(losses_1T, delta))
    return int(earliest_steps(settled_1T, steps_T)[0])


def earliest_steps(reached_NT: NDArray[np.bool_], steps_T: NDArray[np.int64]) -> NDArray[np.int64]:
    """Step of the first checkpoint where each sample's flag is set, else `NEVER`.

    Examples
    --------
    >>> earliest_steps(np.array([[False, True], [False, False]]), np.array([0, 10])).tolist()
    [10, -1]
    """
    return np.where(reached_NT.any(axis=1), steps_T[reached_NT.argmax(axis=1)], NEVER)


def scan_row(
    losses_NT: ArrayLike, steps_T: ArrayLike, epsilon: float, delta: float
) -> dict[str, Any]:
    """What one pair of thresholds makes of the samples: a row of the table `epsilon_scan`.

    Share memorized before the last checkpoint (which compares a loss with itself), number of
    different memorization steps, and their median; arXiv 2506.21551, App. E.3 varies epsilon from
    1.5 to 2.0 and delta from 0.03 to 0.05.
    """
    found_N = memorization_steps(losses_NT, steps_T, epsilon, delta)
    memorized_N = found_N[found_N != NEVER]
    last = int(np.asarray(steps_T)[-1])
    return {
        "epsilon": epsilon,
        "delta": delta,
        "share_memorized": float((memorized_N < last).sum() / len(found_N)),
        "num_groups": len(np.unique(memorized_N)),
        "median_step": float(np.median(memorized_N)) if len(memorized_N) else None,
    }


def group_sizes(steps_N: NDArray[np.int64]) -> dict[int, int]:
    """Count the samples of each group, that is of each memorization or generalization step.

    Returns
    -------
    dict of step to number of samples
        In rising order of step; samples that never got there (`NEVER`) form no group.

    Examples
    --------
    >>> group_sizes(np.array([20, NEVER, 10, 20]))
    {10: 1, 20: 2}
    """
    steps, sizes = np.unique(steps_N[steps_N != NEVER], return_counts=True)
    return dict(zip(steps.tolist(), sizes.tolist(), strict=True))


def _near_final(losses_NT: NDArray[np.float64], delta: float) -> NDArray[np.bool_]:
    """Whether each loss is within delta of the sample's final loss."""
    return np.abs(losses_NT - losses_NT[:, -1:]) <= delta


def _holds_to_the_end(holds_NT: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the flag is set at a checkpoint and at all later ones."""
    return np.logical_and.accumulate(holds_NT[:, ::-1], axis=1)[:, ::-1]


def _scan_grid(
    needed_N: NDArray[np.float64], increment: float, max_epsilon: float | None
) -> NDArray[np.float64]:
    """Multiples of the increment, from one up to where a larger epsilon changes nothing."""
    reachable = needed_N[np.isfinite(needed_N)]
    end = max_epsilon if max_epsilon is not None else reachable.max(initial=0.0)
    # Rounded, so that the third multiple of 0.1 is 0.3 and not 0.30000000000000004.
    grid = np.round(np.arange(1, int(end / increment) + 3) * increment, 10)
    if max_epsilon is not None:
        return grid[grid <= np.round(max_epsilon, 10)]
    # Up to the first multiple that is not below the end, compared exactly: the last sample counts.
    return grid[: int(np.searchsorted(grid, end)) + 1]


def _check_bound(name: str, value: float) -> None:
    if not 0 <= value < np.inf:
        raise ValueError(f"{name} must be a finite number of nats, at least 0, found {value}")


def _check_scan(
    share_low: float, share_high: float, increment: float, max_epsilon: float | None
) -> None:
    if not 0 <= share_low <= share_high <= 1:
        raise ValueError(
            "the range of shares must satisfy 0 <= share_low <= share_high <= 1, found "
            f"{share_low} and {share_high}; pass shares, not percentages"
        )
    if not 0 < increment < np.inf:
        raise ValueError(f"the increment must be a positive number of nats, found {increment}")
    if max_epsilon is not None and not increment <= max_epsilon < np.inf:
        raise ValueError(
            f"max_epsilon must be finite and at least one increment ({increment:g}), "
            f"found {max_epsilon}"
        )
