"""Does a monitor tell the main series from a control in which nothing can generalize?

The control is trained by the same recipe on shuffled answers. With one run of each there is no
sampling distribution and so no p-value: what is here is a stated rule, with its numbers.

Shapes: T checkpoints of the window, W checkpoints at either end of it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.detrended import check_series

END_WINDOW = 3
"""Checkpoints averaged at either end of the window."""

MIN_CHECKPOINTS = 2 * END_WINDOW
"""The two ends must not overlap."""

MIN_NOISE_MULTIPLE = 3.0
"""A move counts when it exceeds this many standard errors of the change."""

TELLS_APART = "tells them apart"
DOES_NOT_TELL_APART = "does not tell them apart"
DOES_NOT_MOVE = "does not move in main"
AGAINST_EXPECTATION = "moves against expectation"
CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Separation:
    """How a monitor moves in the main series and in the control.

    Attributes
    ----------
    monitor_name : str
        As given.
    main_change, control_change : float or None
        Mean of the last 3 checkpoints minus mean of the first 3, in the monitor's unit.
    main_noise, control_noise : float or None
        Standard deviation of one checkpoint around its neighbours, in the monitor's unit.
    main_moves, control_moves : str
        'rises', 'falls', 'stays', or 'unknown'.
    expected_direction : int
        +1 or -1, the sign under which the monitor is said to follow generalization, or 0 for none.
    gap : float or None
        (main_change - control_change) in standard errors of that difference: the graded answer.
        Positive: main moves up more than the control. None without noise to compare with.
    verdict : str
        One of the constants of this module.
    sentence : str
        The finding in plain words, with its numbers.
    """

    monitor_name: str
    main_change: float | None
    control_change: float | None
    main_noise: float | None
    control_noise: float | None
    main_moves: str
    control_moves: str
    expected_direction: int
    gap: float | None
    verdict: str
    sentence: str


def separate(
    monitor_name: str,
    main_T: ArrayLike,
    control_T: ArrayLike,
    steps_T: ArrayLike,
    expected_direction: int,
) -> Separation:
    """Judge whether a monitor moves in the main series and not the same way in the control.

    Parameters
    ----------
    monitor_name : str
        Used in the sentence.
    main_T, control_T : array of shape (T,)
        The monitor in both series at the same steps, from the main series' accuracy onset on
        (``metrics.correlations.accuracy_onset``).
    steps_T : array of shape (T,)
        Training steps, strictly increasing.
    expected_direction : int
        +1 or -1 where generalization is said to come with a rise or fall (arXiv 2506.21551,
        Table 1: pathway distance -1, pathway consistency +1), 0 for no expectation.

    Returns
    -------
    Separation
        With too few checkpoints or values that are not finite the verdict is 'cannot tell'.

    Raises
    ------
    ValueError
        If lengths differ, steps do not increase, or the direction is none of -1, 0, 1.

    Notes
    -----
    Change: mean of the last three checkpoints minus mean of the first three. Noise: each
    checkpoint's deviation from the straight line between its neighbours, as a robust standard
    deviation (1.4826 median |deviation|). A move counts when |change| > 3 * noise * sqrt(2 / 3).
    A monitor that moves the same way in the control, be it less or further, does not tell the
    series apart, as its move needs no generalization; ``gap`` grades by how much they differ.
    One run each: the rule knows the wobble between checkpoints, not the spread between seeds.

    Examples
    --------
    >>> steps = [0, 1, 2, 3, 4, 5, 6, 7]
    >>> main = [9.0, 9.1, 8.9, 8.0, 7.1, 6.0, 6.1, 5.9]
    >>> control = [9.0, 9.1, 8.9, 9.0, 9.1, 9.0, 8.9, 9.1]
    >>> separate("pathway distance", main, control, steps, -1).verdict
    'tells them apart'
    """
    if expected_direction not in (-1, 0, 1):
        raise ValueError(
            f"expected_direction is {expected_direction!r}; give 1 (rises), -1 (falls) or 0 (none)"
        )
    main_T, control_T = check_series(main_T, control_T, steps_T)
    if reason := _why_not(main_T, control_T):
        return Separation(
            monitor_name, None, None, None, None, "unknown", "unknown", expected_direction,
            None, CANNOT_TELL, f"{monitor_name}: cannot tell, because {reason}.",
        )  # fmt: skip
    steps_T = np.asarray(steps_T, dtype=np.float64)
    main_change, control_change = _change(main_T), _change(control_T)
    main_noise, control_noise = noise_scale(main_T, steps_T), noise_scale(control_T, steps_T)
    main_moves = _moves(main_change, main_noise)
    control_moves = _moves(control_change, control_noise)
    verdict = _verdict(main_moves, control_moves, expected_direction)
    gap_error = _standard_error(float(np.hypot(main_noise, control_noise)))
    sentence = (
        f"{monitor_name} {verdict}: it {main_moves} in the main series "
        f"({_with_noise(main_change, main_noise)}) and {control_moves} in the control "
        f"({_with_noise(control_change, control_noise)}){_expectation(expected_direction)}."
    )
    return Separation(
        monitor_name=monitor_name,
        main_change=main_change,
        control_change=control_change,
        main_noise=main_noise,
        control_noise=control_noise,
        main_moves=main_moves,
        control_moves=control_moves,
        expected_direction=expected_direction,
        gap=(main_change - control_change) / gap_error if gap_error > 0 else None,
        verdict=verdict,
        sentence=sentence,
    )


def noise_scale(values_T: NDArray[np.float64], steps_T: NDArray[np.float64]) -> float:
    """Standard deviation of single checkpoints around a locally straight course.

    The deviation of a checkpoint from the line between its neighbours has variance
    (1 + a^2 + b^2) times that of a checkpoint, a and b the weights of the neighbours (1/2 each on
    an even grid: second differences over sqrt(6)). Robust: 1.4826 times the median of absolute
    deviations; where most are exactly zero, their root mean square.
    """
    before_T, after_T = np.diff(steps_T)[:-1], np.diff(steps_T)[1:]
    weight_before_T = after_T / (before_T + after_T)
    weight_after_T = 1 - weight_before_T
    line_T = weight_before_T * values_T[:-2] + weight_after_T * values_T[2:]
    deviation_T = values_T[1:-1] - line_T
    deviation_T /= np.sqrt(1 + weight_before_T**2 + weight_after_T**2)
    # A straight course deviates from itself by rounding only, which is no noise.
    deviation_T[np.abs(deviation_T) <= 1e-12 * np.max(np.abs(values_T))] = 0.0
    robust = 1.4826 * float(np.median(np.abs(deviation_T)))
    return robust if robust > 0 else float(np.sqrt(np.mean(deviation_T**2)))


def _change(values_T: NDArray[np.float64]) -> float:
    change = float(values_T[-END_WINDOW:].mean() - values_T[:END_WINDOW].mean())
    return change if abs(change) > 1e-12 * np.max(np.abs(values_T)) else 0.0


def _standard_error(noise: float) -> float:
    """Standard error of a difference between two means over the end windows."""
    return noise * float(np.sqrt(2 / END_WINDOW))


def _moves(change: float, noise: float) -> str:
    if abs(change) <= MIN_NOISE_MULTIPLE * _standard_error(noise):
        return "stays"
    return "rises" if change > 0 else "falls"


def _verdict(main_moves: str, control_moves: str, expected_direction: int) -> str:
    if main_moves == "stays":
        return DOES_NOT_MOVE
    if expected_direction and main_moves != _direction(expected_direction):
        return AGAINST_EXPECTATION
    return DOES_NOT_TELL_APART if control_moves == main_moves else TELLS_APART


def _direction(sign: int) -> str:
    return "rises" if sign > 0 else "falls"


def _expectation(expected_direction: int) -> str:
    if expected_direction == 0:
        return ""
    return f"; with generalization it is said that it {_direction(expected_direction)}"


def _with_noise(change: float, noise: float) -> str:
    return f"change {change:+.4g}, noise {noise:.2g}"


def _why_not(main_T: NDArray[np.float64], control_T: NDArray[np.float64]) -> str:
    """Reason why no change can be judged, or an empty string."""
    if len(main_T) < MIN_CHECKPOINTS:
        return f"the window has {len(main_T)} checkpoints, at least {MIN_CHECKPOINTS} are needed"
    for name, values_T in (("main", main_T), ("control", control_T)):
        if not np.isfinite(values_T).all():
            return f"the {name} series holds a value that is not finite"
    return ""
