"""When training samples are memorized and benchmark documents generalized.

arXiv 2506.21551, sec. 3.1 and App. B.1. Samples that share a memorization step form a group, and
so do documents that share a generalization step.

Shapes: N samples or documents, T checkpoints.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.checks import check_losses, check_steps

NEVER = -1
"""Stands for the step of a sample that gets there at no checkpoint of the series."""

DEFAULT_DELTA = 0.05
"""Largest accepted distance from the final loss, nats per token (the paper's delta)."""


@dataclass(frozen=True)
class EpsilonChoice:
    """The loss bound chosen for a domain (nats per token), and why."""

    epsilon: float
    share: float
    """Share of samples memorized strictly before the final checkpoint, in [0, 1]."""
    in_range: bool
    """Whether that share lies in the wanted range."""
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

    Raises ValueError if losses are not finite or malformed, the steps do not fit, or a bound is
    negative.

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
    """Scan epsilon upwards until the wanted share of samples is memorized before the end.

    Parameters
    ----------
    losses_NT, steps_T, delta
        As in `memorization_steps`.
    share_low, share_high : float
        The wanted range of the share, ends included, 0 <= share_low <= share_high <= 1.
    increment : float
        Step of the scan, which starts at one increment, nats per token.
    max_epsilon : float, optional
        End of the scan; by default the scan ends where a larger epsilon changes nothing.

    Returns
    -------
    EpsilonChoice
        The first epsilon whose share is in range; otherwise the one whose share is nearest to
        the range (the smaller of two as near), as the note then states.

    Raises ValueError as `memorization_steps`, or for a range, an increment or an end out of bounds.

    Notes
    -----
    arXiv 2506.21551, App. B.1: one epsilon per domain, increments of 0.1, 20 to 25 % memorized
    before the final checkpoint. Whether a sample is memorized before the final checkpoint depends
    only on the last two (every earlier memorization holds there too), so each sample has one
    smallest epsilon and the share is a count of those.

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
    """How one pair of thresholds dates the samples: a row of the table `epsilon_scan`.

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


def generalization_steps(
    correct_NT: ArrayLike,
    steps_T: ArrayLike,
    *,
    min_mean: float = 0.8,
    max_errors: int = 1,
    start_correct: bool = False,
) -> NDArray[np.int64]:
    """Find the step since which each benchmark sample is generalized.

    Parameters
    ----------
    correct_NT : array [N, T], bool (or only 0 and 1)
        Whether the sample is answered correctly at each checkpoint.
    steps_T : array [T], integer
        Optimizer steps, strictly increasing; T at least 2.
    min_mean : float
        Mean correctness over the remaining checkpoints must be above this, in [0, 1).
    max_errors : int
        Most wrong answers among the remaining checkpoints, at least 0.
    start_correct : bool
        Whether the sample must also be correct at its generalization step itself.

    Returns
    -------
    array [N], int64
        Entries of `steps_T`, or `NEVER` (-1).

    Raises ValueError if the correctness is not a non-empty [N, T] array of truth values, if the
    steps do not fit, or if a bound is out of range.

    Notes
    -----
    arXiv 2506.21551, App. B.1: the earliest step from which on mean correctness is above 0.8 with
    at most one error; the remaining checkpoints include the step itself. Taken literally, as here:

    * The one error may be spent on the step itself. A sample that is wrong up to some checkpoint
      and right at the five or more that follow is dated one checkpoint before its first right
      answer. `start_correct=True` forbids that.
    * At the final checkpoint one right answer is a mean of 1, so the group of the final step
      holds every lucky hit (a quarter of the unsolved samples under four-way choice).

    Examples
    --------
    >>> correct = [[0, 0, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1, 0]]
    >>> steps = [0, 10, 20, 30, 40, 50, 60]
    >>> generalization_steps(correct, steps).tolist()
    [10, 50, 0]
    >>> generalization_steps(correct, steps, start_correct=True).tolist()
    [20, 50, 0]
    """
    is_correct_NT = _check_correct(correct_NT)
    num_checkpoints = is_correct_NT.shape[1]
    steps_T = check_steps(steps_T, num_checkpoints)
    if not 0 <= min_mean < 1:
        raise ValueError(f"min_mean must be at least 0 and below 1, found {min_mean}")
    if max_errors < 0:
        raise ValueError(f"max_errors must be at least 0, found {max_errors}")
    num_errors_NT = np.cumsum(~is_correct_NT[:, ::-1], axis=1)[:, ::-1]
    num_remaining_T = np.arange(num_checkpoints, 0, -1)
    # One division, so that 4 of 5 is exactly the float 0.8 and therefore not above it.
    mean_NT = (num_remaining_T - num_errors_NT) / num_remaining_T
    holds_NT = (mean_NT > min_mean) & (num_errors_NT <= max_errors)
    if start_correct:
        holds_NT &= is_correct_NT
    return earliest_steps(holds_NT, steps_T)


def _check_correct(correct_NT: ArrayLike) -> NDArray[np.bool_]:
    """Return the correctness as bool after checking that it is nothing else."""
    values_NT = np.asarray(correct_NT)
    if values_NT.ndim != 2 or values_NT.shape[0] == 0:
        raise ValueError(
            "correctness must have shape [samples, checkpoints] with at least one sample, "
            f"found shape {values_NT.shape}"
        )
    is_truth_value_NT = (values_NT == 0) | (values_NT == 1)
    if not is_truth_value_NT.all():
        sample, checkpoint = np.argwhere(~is_truth_value_NT)[0]
        raise ValueError(
            f"correctness must be true or false, found {values_NT[sample, checkpoint]} at sample "
            f"{sample}, checkpoint {checkpoint}; decide what counts as correct before this step"
        )
    return values_NT.astype(np.bool_)
