"""How fast and how steadily the weights settle (arXiv 2506.21551, App. D).

Shapes: T checkpoints.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from metrics.checks import check_steps


@dataclass(frozen=True)
class Dynamics:
    """How the norm of one kind of parameters changes over a series.

    Attributes
    ----------
    mean_change
        Mean over neighbouring checkpoints of |change of the norm|, over the mean norm; 0 or more.
    mean_change_per_log_step
        The same with each change divided by the difference of log(1 + step): for unevenly spaced
        checkpoints. Ours.
    convergence_speed
        Mean normalised change in the first half less that in the second; above 0 where it settles.
    stability
        1 / standard deviation of the normalised changes; larger is steadier.
    note
        Why a number is missing, or None.
    """

    mean_change: float | None
    mean_change_per_log_step: float | None
    convergence_speed: float | None
    stability: float | None
    note: str | None = None


def router_dynamics(norms_T: ArrayLike, steps_T: ArrayLike) -> Dynamics:
    """Change, convergence speed and stability of a series of parameter norms.

    Parameters
    ----------
    norms_T : array of shape (T,)
        L2 norm of one kind of parameters at each checkpoint.
    steps_T : array of shape (T,)
        Optimizer steps, strictly rising.

    Raises
    ------
    ValueError
        If lengths differ, steps do not rise, or a norm is negative or not finite.

    Notes
    -----
    The paper reports for router, expert and attention weights a mean change of 0.151, 0.063, 0.083
    and a stability of 5.63, 7.32, 6.01 on OLMoE. It gives no formula for convergence speed; ours
    is the drop of the mean change from the early to the late half.

    Examples
    --------
    >>> found = router_dynamics([1.0, 2.0, 2.0, 2.0, 2.0], [0, 1, 2, 3, 4])
    >>> round(found.mean_change, 4), round(found.convergence_speed, 4)
    (0.1389, 0.2778)
    """
    norms = np.asarray(norms_T, dtype=np.float64)
    steps = check_steps(steps_T, len(norms), min_checkpoints=1)
    if not np.isfinite(norms).all() or (norms < 0).any():
        raise ValueError("a norm is negative or not finite; are the weights finite?")
    if len(norms) < 3:
        note = f"not available, because {len(norms)} checkpoints have too few changes between them"
        return Dynamics(None, None, None, None, note)
    scale = float(norms.mean())
    if scale == 0:
        return Dynamics(None, None, None, None, "not available, because all weights are zero")
    changes = np.abs(np.diff(norms)) / scale
    gaps = np.diff(np.log1p(steps.astype(np.float64)))
    half = len(changes) // 2
    spread = float(changes.std())
    return Dynamics(
        mean_change=float(changes.mean()),
        mean_change_per_log_step=float((changes / gaps).mean()),
        convergence_speed=float(changes[:half].mean() - changes[half:].mean()),
        stability=1 / spread if spread > 1e-12 else None,
        note=None if spread > 1e-12 else "no stability, because all changes are equal",
    )
