"""Generalization: from which step on a benchmark sample is answered right for good (sec. 3.1).

arXiv 2506.21551, sec. 3.1 and App. B.1. Samples that share a generalization step form a group.

Shape legend: N benchmark samples, T checkpoints.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.checks import check_steps
from metrics.memorization import earliest_steps


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
        Entries of `steps_T`, or `metrics.memorization.NEVER` (-1).

    Raises
    ------
    ValueError
        If the correctness is not a non-empty [N, T] array of truth values, if the steps do not
        fit, or if a bound is out of range.

    Notes
    -----
    arXiv 2506.21551, App. B.1: the earliest step from which on mean correctness is above 0.8 with
    at most one error; the remaining checkpoints include the step itself. Two things follow from
    the letter of it, which is the default here:

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
