"""Calls while training runs: what a monitor shows from the checkpoints up to then, nothing later.

The paper's memorization step needs the final loss, and a correlation needs the benchmark. At step t
neither is known. So training loss is called flat when the last few checkpoints hardly differ; from
then on a monitor has *turned* when it has moved away from where it stood at that call by more than
its own wobble between checkpoints. The benchmark enters only afterwards: how early or late
was the call?

Often accuracy has completed half of its rise before the loss is flat; then no measure could be
early. And where it has not, the loss alone already is a sign: `loss_flat` calls as soon as it is
flat, and what a measure adds is what it adds to that.

Shapes: T checkpoints.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metrics.curves import risen_cases
from metrics.registry import REGISTRY, Measure

NOISE_MULTIPLE = 4.0
"""A turn is a move of this many standard errors of a difference between two checkpoints. On white
noise a run of 12 to 35 checkpoints then ends with a call in about one of twenty (simulated). Noise
that wanders calls far more often: over 35 checkpoints in one of four where neighbours correlate at
0.7, and in one of two on a random walk."""
RISEN_SHARE = 0.5
"""The benchmark's step is the first at which accuracy has completed this share of its rise."""

LOSS_FLAT = REGISTRY["loss_flat"]
"""What an online call is compared with."""

TOO_EARLY, NO_CHANGE, TURNED = "too early", "no change", "turned"


def flat_since(losses_T: NDArray[np.float64], *, window: int, tolerance: float) -> list[bool]:
    """Whether the loss looks flat at each checkpoint, from the checkpoints up to it alone.

    Parameters
    ----------
    losses_T : array of shape (T,)
        Mean training loss, nats per token.
    window : int
        Last checkpoints that must lie within `tolerance` of each other and, all of them, below the
        first loss by more than that.
    tolerance : float
        Nats per token.

    Examples
    --------
    >>> flat_since(np.array([5.0, 1.0, 0.2, 0.19, 0.21]), window=3, tolerance=0.05)
    [False, False, False, False, True]
    """
    flat = []
    for at in range(len(losses_T)):
        last = losses_T[max(0, at - window + 1) : at + 1]
        flat.append(
            bool(
                len(last) == window
                and np.ptp(last) <= tolerance
                and losses_T[0] - last.max() > tolerance
            )
        )
    return flat


def calls(
    values_T: NDArray[np.float64],
    steps_T: NDArray[np.int64],
    flat_T: Sequence[bool],
    direction: int,
    *,
    min_checkpoints: int,
) -> list[str]:
    """The call of a monitor at each checkpoint: `too early`, `no change` or `turned`.

    Parameters
    ----------
    values_T : array of shape (T,)
        The monitor.
    steps_T : array of shape (T,)
        Optimizer steps, rising.
    flat_T : sequence of bool
        Whether the training loss looks flat (:func:`flat_since`); nothing is called before.
    direction : int
        -1 or +1: the way it should move; 0: either way counts.
    min_checkpoints : int
        Nothing is called before so many.

    Returns
    -------
    list of str
        Once turned, it stays so: a call cannot be taken back.
    """
    words: list[str] = []
    start: int | None = None
    turned = False
    for at in range(len(values_T)):
        if start is None and flat_T[at]:
            start = at
        if start is None or at + 1 < min_checkpoints:
            words.append(TOO_EARLY)
            continue
        past = values_T[: at + 1]
        noise = noise_scale(past, steps_T[: at + 1].astype(np.float64)) if at >= 2 else np.inf
        move = float(past[-1] - values_T[start])
        moved = (
            abs(move) > NOISE_MULTIPLE * np.sqrt(2) * noise
            and move * (direction or np.sign(move)) > 0
        )
        turned = turned or bool(moved)
        words.append(TURNED if turned else NO_CHANGE)
    return words


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


def accuracy_step(accuracy_T: NDArray[np.float64], steps_T: NDArray[np.int64]) -> int:
    """First step at which accuracy has completed half of its rise, from first value to last.

    Means something only where accuracy rises (:func:`metrics.curves.risen_cases`).

    >>> accuracy_step(np.array([0.0, 0.1, 0.6, 0.9]), np.array([0, 10, 20, 30]))
    20
    """
    rise = float(accuracy_T[-1] - accuracy_T[0])
    return int(steps_T[np.argmax(accuracy_T >= accuracy_T[0] + RISEN_SHARE * rise)])


def online_rows(
    curves: pd.DataFrame,
    controls: dict[str, list[str]],
    monitors: Sequence[Measure],
    *,
    min_checkpoints: int,
    window: int,
    tolerance: float,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the tables `online` (a call per checkpoint) and `lead_lag` (how early it was).

    `curves` are tidy (:mod:`metrics.curves`), with training_loss and accuracy among the monitors;
    `controls` those of every series that is none. The baseline `loss_flat` has rows beside the
    monitors. A measure that is not monitored has none: its value at a checkpoint may use a later
    one.

    Whether accuracy rose is decided as on the leaderboard. Lead is the step of half of its rise
    less the call's: above 0 the monitor was first, which it could only be where the loss was flat
    before (`could_lead`). A call in a control, or where accuracy did not rise, is a false alarm;
    where no accuracy was measured it is unknown (None).
    """
    risen = risen_cases(curves, controls)
    rows: list[dict[str, Any]] = []
    leads: list[dict[str, Any]] = []
    for (series, domain), block in curves.groupby(["series", "domain"], sort=False):
        wide = block.pivot_table(index="step", columns="monitor", values="value").sort_index()
        if "training_loss" not in wide:
            continue
        place = {"series": str(series), "domain": str(domain)}
        losses_T = wide["training_loss"].to_numpy()
        flat = pd.Series(flat_since(losses_T, window=window, tolerance=tolerance), wide.index)
        flat_step = next(iter(wide.index[flat.to_numpy()].tolist()), None)
        known = wide["accuracy"].dropna() if "accuracy" in wide else pd.Series(dtype=np.float64)
        rose = None
        if (str(series), str(domain)) in risen:
            rose = accuracy_step(known.to_numpy(), known.index.to_numpy())
        judged = len(known) > 0 or str(series) not in controls  # in a control nothing can rise
        for monitor in (LOSS_FLAT, *(one for one in monitors if one.monitored)):
            if monitor is not LOSS_FLAT and monitor.measure not in wide:
                continue
            found = _calls_of(monitor, wide, flat, min_checkpoints)
            rows += [
                {**place, "monitor": monitor.measure, "step": step, "call": word}
                for step, word in found.items()
            ]
            call_step = next((step for step, word in found.items() if word == TURNED), None)
            lead = _lead(flat_step, call_step, rose, judged)
            leads.append({**place, "monitor": monitor.measure, **lead})
    return rows, leads


def _calls_of(
    monitor: Measure, wide: pd.DataFrame, flat: pd.Series, min_checkpoints: int
) -> dict[int, str]:
    """Calls by step; those of the loss alone come as soon as it is flat."""
    if monitor is LOSS_FLAT:
        steps = wide.index.to_numpy()
        words = [TURNED if is_flat else TOO_EARLY for is_flat in flat.cummax()]
    else:
        curve = wide[monitor.measure].dropna()
        steps = curve.index.to_numpy()
        words = calls(
            curve.to_numpy(),
            steps,
            flat[steps].tolist(),
            monitor.expected_direction,
            min_checkpoints=min_checkpoints,
        )
    return dict(zip(steps.tolist(), words, strict=True))


def _lead(
    flat_step: int | None, call_step: int | None, rose: int | None, judged: bool
) -> dict[str, Any]:
    called = call_step is not None
    return {
        "flat_step": flat_step,
        "call_step": call_step,
        "accuracy_step": rose,
        "could_lead": None if flat_step is None or rose is None else flat_step < rose,
        "lead": None if rose is None or call_step is None else rose - call_step,
        "false_alarm": (called and rose is None) if judged or not called else None,
        "note": None
        if flat_step is not None
        else "the training loss never looked flat, so nothing was called",
    }
