"""Does a monitor change otherwise in the main series than in a control that cannot generalize?

The control is trained by the same recipe on shuffled answers. What is tested is the difference of
the two: significant here and not there is no difference (Gelman and Stern, The American
Statistician 60, 2006). With one run of each, the error holds the wobble between checkpoints and its
autocorrelation, but not the spread between seeds, so the strongest verdict is that these two runs
differ. Over several trainings :mod:`metrics.leaderboard` uses their spread.

How often the rule is wrong is in docs/statistics.md; :func:`false_positive_rates` measures it.

Shapes: T checkpoints of the window, W checkpoints at either end of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.detrended import check_series

END_WINDOW = 3
"""Checkpoints averaged at either end of the window."""

MIN_CHECKPOINTS = 2 * END_WINDOW
"""The two ends must not overlap."""

MIN_ERRORS = 3.0
"""A change, and a difference between two, counts from this many standard errors on."""

MAX_AUTOCORRELATION = 0.95
"""Largest autocorrelation of the wobble that so few checkpoints can separate from a random walk."""

DIFFERS = "differs in these two runs"
NO_DIFFERENCE = "no difference shown"
MOVES_FURTHER_IN_CONTROL = "moves further in the control"
DOES_NOT_MOVE = "does not move in main"
AGAINST_EXPECTATION = "moves against expectation"
CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Separation:
    """How a monitor moves in the main series and in the control, columns of `separation`."""

    main_change: float | None
    control_change: float | None
    """Mean of the last 3 checkpoints minus mean of the first 3, in the monitor's unit."""
    main_moves: str
    control_moves: str
    """'rises', 'falls', 'stays', or 'unknown'."""
    graded: float | None
    """(main_change - control_change) in standard errors of that difference; positive where main
    moves up more than the control. None where neither series wobbles."""
    verdict: str
    """One of the constants of this module."""
    sentence: str
    """The finding in plain words, with its numbers."""


def separate(
    monitor_name: str,
    main_T: ArrayLike,
    control_T: ArrayLike,
    steps_T: ArrayLike,
    expected_direction: int,
) -> Separation:
    """Test whether a monitor's change in the main series differs from that in a control.

    Parameters
    ----------
    monitor_name : str
        Used in the sentence.
    main_T, control_T : array of shape (T,)
        The monitor in both series at the same steps, from the main series' accuracy onset on
        (``metrics.curves.accuracy_onset``).
    steps_T : array of shape (T,)
        Training steps, strictly increasing.
    expected_direction : int
        +1 or -1 where generalization is expected to come with a rise or fall (arXiv 2506.21551,
        Table 1: pathway distance -1, pathway consistency +1), 0 for no expectation.

    Returns
    -------
    Separation
        With too few checkpoints or values that are not finite the verdict is 'cannot tell'.

    Raises ValueError if lengths differ, steps do not increase, or the direction is not -1, 0 or 1.

    Notes
    -----
    Change: mean of the last three checkpoints minus mean of the first three. Its standard error is
    that under an autoregressive wobble of first order, whose size and autocorrelation are read from
    how far checkpoints one, two and three apart differ (:func:`wobble`). The difference of the two
    changes is the change of main minus control, with the error of that series. A change or a
    difference counts when it exceeds three standard errors.

    The verdict is 'differs in these two runs' when main moves in the expected direction (any, where
    none is expected) and the difference has the same sign and counts. 'moves further in the
    control': it counts with the other sign.

    Examples
    --------
    >>> steps = range(12)
    >>> main = [9.0, 9.1, 8.9, 9.0, 9.1, 8.9, 9.0, 6.1, 5.9, 6.0, 6.1, 5.9]
    >>> control = [9.0, 9.1, 8.9, 9.0, 8.9, 9.1, 9.0, 9.1, 8.9, 9.0, 9.1, 8.9]
    >>> separate("pathway distance", main, control, steps, -1).verdict
    'differs in these two runs'
    """
    if expected_direction not in (-1, 0, 1):
        raise ValueError(
            f"expected_direction is {expected_direction!r}; give 1 (rises), -1 (falls) or 0 (none)"
        )
    main_T, control_T = check_series(main_T, control_T, steps_T)
    if reason := _why_not(main_T, control_T):
        sentence = f"{monitor_name}: cannot tell, because {reason}."
        return Separation(None, None, "unknown", "unknown", None, CANNOT_TELL, sentence)
    main_change, main_error = change_with_error(main_T)
    control_change, control_error = change_with_error(control_T)
    difference, error = change_with_error(main_T - control_T)
    main_moves = _moves(main_change, main_error)
    control_moves = _moves(control_change, control_error)
    verdict = _verdict(main_moves, difference, error, expected_direction)
    sentence = (
        f"{monitor_name}: {verdict}. It {main_moves} in the main series ({main_change:+.4g} ± "
        f"{main_error:.2g}) and {control_moves} in the control ({control_change:+.4g} ± "
        f"{control_error:.2g}); the difference is {difference:+.4g} ± "
        f"{error:.2g}{_expectation(expected_direction)}."
    )
    return Separation(
        main_change=main_change,
        control_change=control_change,
        main_moves=main_moves,
        control_moves=control_moves,
        graded=difference / error if error > 0 else None,
        verdict=verdict,
        sentence=sentence,
    )


def change_with_error(values_T: NDArray[np.float64]) -> tuple[float, float]:
    """Change between the ends of a series, and its standard error from the series' own wobble."""
    change = float(values_T[-END_WINDOW:].mean() - values_T[:END_WINDOW].mean())
    scale, autocorrelation = wobble(values_T)
    num_checkpoints = len(values_T)
    weights_T = np.zeros(num_checkpoints)
    weights_T[-END_WINDOW:] += 1 / END_WINDOW
    weights_T[:END_WINDOW] -= 1 / END_WINDOW
    index_T = np.arange(num_checkpoints)
    correlation_TT = autocorrelation ** np.abs(index_T[:, None] - index_T)
    error = scale * float(np.sqrt(weights_T @ correlation_TT @ weights_T))
    # What rounding leaves of no change is none.
    return (change if abs(change) > 1e-12 * np.max(np.abs(values_T)) else 0.0), error


def wobble(values_T: NDArray[np.float64]) -> tuple[float, float]:
    """Standard deviation and lag-1 autocorrelation of a series around its trend.

    Under an autoregressive wobble of first order, values k checkpoints apart differ with variance
    2 s^2 (1 - r^k). The ratios of these variances for k = 1, 2, 3 give r, the first then s. The
    median slope is taken out of the differences, and their size is the 68 % quantile of their
    absolute values, so neither a steady trend nor a sharp transition at a few checkpoints counts
    as wobble.

    Returns
    -------
    tuple
        s in the unit of the values, at least 0; r in [0, 0.95].
    """
    slope = float(np.median(values_T[2:] - values_T[:-2])) / 2
    apart_1, apart_2, apart_3 = (
        float(np.quantile(np.abs(values_T[lag:] - values_T[:-lag] - lag * slope), 0.68)) ** 2
        for lag in (1, 2, 3)
    )
    if apart_1 <= (1e-12 * float(np.max(np.abs(values_T)))) ** 2:  # rounding of a straight course
        return 0.0, 0.0
    by_two = apart_2 / apart_1 - 1
    by_three = (np.sqrt(max(4 * apart_3 / apart_1 - 3, 0.0)) - 1) / 2
    autocorrelation = float(np.clip((by_two + by_three) / 2, 0.0, MAX_AUTOCORRELATION))
    return float(np.sqrt(apart_1 / (2 * (1 - autocorrelation)))), autocorrelation


def false_positive_rates(
    num_checkpoints: int, *, num_pairs: int, seed: int
) -> Iterator[dict[str, Any]]:
    """How often two unrelated series of one kind are found to differ.

    Yields
    ------
    dict
        `family`, `num_checkpoints`, and `rate`: share of pairs whose difference counts, in [0, 1].
    """
    rng = np.random.default_rng(seed)
    index_T = np.arange(num_checkpoints) / num_checkpoints
    shared_T = 10 * (1 - np.exp(-index_T / 0.25))
    even_T = np.ones(num_checkpoints)
    first_T = np.where(np.arange(num_checkpoints) < END_WINDOW, 4.0, 1.0)
    falling_T = np.exp(-3 * np.linspace(0, 1, num_checkpoints))
    for family, autocorrelation, common_T, size_T in (
        ("white noise", 0.0, 0.0, even_T),
        ("AR(1), 0.5", 0.5, 0.0, even_T),
        ("AR(1), 0.7", 0.7, 0.0, even_T),
        ("AR(1), 0.9", 0.9, 0.0, even_T),
        ("random walk", 1.0, 0.0, even_T),
        ("the same change in both, white noise", 0.0, shared_T, even_T),
        ("the same change in both, AR(1), 0.7", 0.7, shared_T, even_T),
        ("white noise, 4 times as large at the first three", 0.0, 0.0, first_T),
        ("white noise that falls to a twentieth", 0.0, 0.0, falling_T),
    ):
        found = 0
        for _ in range(num_pairs):
            main_T, control_T = (
                common_T + size_T * _autoregressive(num_checkpoints, autocorrelation, rng)
                for _ in range(2)
            )
            change, error = change_with_error(main_T - control_T)
            found += abs(change) > MIN_ERRORS * error
        rate = found / num_pairs
        yield {"family": family, "num_checkpoints": num_checkpoints, "rate": rate}


def _autoregressive(
    num_checkpoints: int, autocorrelation: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    shocks_T = rng.normal(size=num_checkpoints)
    if autocorrelation < 1:
        shocks_T[1:] *= np.sqrt(1 - autocorrelation**2)  # so that the spread is 1 throughout
    values_T = np.empty(num_checkpoints)
    last = 0.0
    for at, shock in enumerate(shocks_T):
        last = values_T[at] = autocorrelation * last + shock
    return values_T


def _moves(change: float, error: float) -> str:
    if abs(change) <= MIN_ERRORS * error:
        return "stays"
    return _direction(1 if change > 0 else -1)


def _verdict(main_moves: str, difference: float, error: float, expected_direction: int) -> str:
    if main_moves == "stays":
        return DOES_NOT_MOVE
    if expected_direction and main_moves != _direction(expected_direction):
        return AGAINST_EXPECTATION
    differs = _moves(difference, error)
    if differs == "stays":
        return NO_DIFFERENCE
    return DIFFERS if differs == main_moves else MOVES_FURTHER_IN_CONTROL


def _direction(sign: int) -> str:
    return "rises" if sign > 0 else "falls"


def _expectation(expected_direction: int) -> str:
    if expected_direction == 0:
        return ""
    return f"; with generalization it is said that it {_direction(expected_direction)}"


def _why_not(main_T: NDArray[np.float64], control_T: NDArray[np.float64]) -> str:
    """Reason why no change can be judged, or an empty string."""
    if len(main_T) < MIN_CHECKPOINTS:
        return f"the window has {len(main_T)} checkpoints, at least {MIN_CHECKPOINTS} are needed"
    for name, values_T in (("main", main_T), ("control", control_T)):
        if not np.isfinite(values_T).all():
            return f"the {name} series holds a value that is not finite"
    return ""
