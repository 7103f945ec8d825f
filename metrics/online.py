"""What a monitor says while training runs: calls from the checkpoints up to then, nothing later.

The paper's memorization step needs the final loss, and a correlation needs the benchmark. At step t
neither is known. So: training loss is called flat when the last few checkpoints hardly differ; from
then on a monitor has *turned* when it has moved away from where it stood at that call by more than
its own wobble between checkpoints. The benchmark enters only afterwards, to say how early or late
the call was.

Shapes: T checkpoints.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from metrics.measure import Measure
from metrics.separation import noise_scale

NOISE_MULTIPLE = 4.0
"""A turn is a move of this many standard errors of a difference between two checkpoints. On pure
noise a run of 12 to 35 checkpoints then ends with a call in about one of twenty (simulated)."""
RISEN_SHARE = 0.5
"""Accuracy has risen when it has made this share of its way from its start to its largest value."""

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
    """What the monitor says at each checkpoint: `too early`, `no change` or `turned`.

    Parameters
    ----------
    values_T : array of shape (T,)
        The monitor.
    steps_T : array of shape (T,)
        Optimizer steps, rising.
    flat_T : sequence of bool
        Whether the training loss looks flat (:func:`flat_since`); nothing is said before.
    direction : int
        -1 or +1: the way it should move; 0: either way counts.
    min_checkpoints : int
        Nothing is said before so many.

    Returns
    -------
    list of str
        Once turned, it stays so: a call cannot be taken back.
    """
    said: list[str] = []
    start: int | None = None
    turned = False
    for at in range(len(values_T)):
        if start is None and flat_T[at]:
            start = at
        if start is None or at + 1 < min_checkpoints:
            said.append(TOO_EARLY)
            continue
        past = values_T[: at + 1]
        noise = noise_scale(past, steps_T[: at + 1].astype(np.float64)) if at >= 2 else np.inf
        move = float(past[-1] - values_T[start])
        moved = (
            abs(move) > NOISE_MULTIPLE * np.sqrt(2) * noise
            and move * (direction or np.sign(move)) > 0
        )
        turned = turned or bool(moved)
        said.append(TURNED if turned else NO_CHANGE)
    return said


def accuracy_step(accuracy_T: NDArray[np.float64], steps_T: NDArray[np.int64]) -> int | None:
    """First step at which accuracy has made half of its way up; None where it hardly rises.

    >>> accuracy_step(np.array([0.0, 0.1, 0.6, 0.9]), np.array([0, 10, 20, 30]))
    20
    """
    rise = float(accuracy_T.max() - accuracy_T[0])
    if rise < 0.10:
        return None
    return int(steps_T[np.argmax(accuracy_T >= accuracy_T[0] + RISEN_SHARE * rise)])


def online_rows(
    curves: pd.DataFrame,
    roles: dict[str, str],
    monitors: Sequence[Measure],
    *,
    min_checkpoints: int,
    window: int,
    tolerance: float,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the tables `online` (a call per checkpoint) and `lead_lag` (how early it was).

    `curves` has the columns series, domain, step, monitor, value, with training_loss and accuracy
    among the monitors. Lead is the benchmark's step less the call's: above 0 the monitor spoke
    first. A call in a control, or where accuracy never rises, is a false alarm; where no accuracy
    was measured it cannot be told (None).
    """
    said: list[dict[str, Any]] = []
    leads: list[dict[str, Any]] = []
    for (series, domain), block in curves.groupby(["series", "domain"], sort=False):
        wide = block.pivot_table(index="step", columns="monitor", values="value").sort_index()
        if "training_loss" not in wide:
            continue
        place = {"series": str(series), "domain": str(domain)}
        flat = dict(
            zip(
                wide.index,
                flat_since(wide["training_loss"].to_numpy(), window=window, tolerance=tolerance),
                strict=True,
            )
        )
        known = wide["accuracy"].dropna() if "accuracy" in wide else pd.Series(dtype=np.float64)
        scored, is_control = len(known) > 0, roles[str(series)] == "control"
        rose = accuracy_step(known.to_numpy(), known.index.to_numpy()) if scored else None
        may_rise = rose is not None and not is_control
        for monitor in monitors:
            if monitor.measure not in wide:
                continue
            curve = wide[monitor.measure].dropna()
            steps = curve.index.to_numpy()
            words = calls(
                curve.to_numpy(),
                steps,
                [flat[step] for step in steps],
                monitor.expected_direction,
                min_checkpoints=min_checkpoints,
            )
            said += [
                {**place, "monitor": monitor.measure, "step": int(step), "call": word}
                for step, word in zip(steps, words, strict=True)
            ]
            turned = int(steps[words.index(TURNED)]) if TURNED in words else None
            leads.append(
                {
                    **place,
                    "monitor": monitor.measure,
                    "flat_step": next((int(s) for s, is_flat in flat.items() if is_flat), None),
                    "call_step": turned,
                    "accuracy_step": rose if may_rise else None,
                    "lead": rose - turned
                    if may_rise and rose is not None and turned is not None
                    else None,
                    "false_alarm": (turned is not None and not may_rise)
                    if scored or is_control or turned is None
                    else None,
                    "note": None
                    if flat and any(flat.values())
                    else "the training loss never looked flat, so nothing was called",
                }
            )
    return said, leads
