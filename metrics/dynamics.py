"""From checkpoint to checkpoint: how weights settle, and how early routing takes its final form.

Sources: arXiv 2506.21551, App. D (norms); OLMoE, arXiv 2409.02060, sec. 5 (router saturation).

Shapes: T checkpoints (or tokens of `_TLA` arrays), L MoE layers, A experts chosen per token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.checks import check_steps
from metrics.registry import measure_row

UNEVEN = 1.25
"""Checkpoints count as unevenly spaced where the largest gap is more than so many smallest ones."""


@dataclass(frozen=True)
class Dynamics:
    """How the norm of one kind of parameters changes over a series.

    Those per log step have each change divided by the difference of log(1 + step), for unevenly
    spaced checkpoints; they are ours.
    """

    mean_change: float | None = None
    mean_change_per_log_step: float | None = None
    """Mean over neighbouring checkpoints of |change of the norm|, over the mean norm; 0 or more."""
    convergence_speed: float | None = None
    convergence_speed_per_log_step: float | None = None
    """Mean change of the first half less that of the second; above 0 where it settles."""
    stability: float | None = None
    stability_per_log_step: float | None = None
    """1 / standard deviation of the normalised changes; larger is steadier."""
    note: str | None = None
    """Why a number is missing or means little, or None."""


def router_dynamics(norms_T: ArrayLike, steps_T: ArrayLike) -> Dynamics:
    """Change, convergence speed and stability of a series of parameter norms.

    Parameters
    ----------
    norms_T : array of shape (T,)
        L2 norm of one kind of parameters at each checkpoint.
    steps_T : array of shape (T,)
        Optimizer steps, strictly rising.

    Raises ValueError if lengths differ, steps do not rise, or a norm is negative or not finite.

    Notes
    -----
    The paper reports for router, expert and attention weights a mean change of 0.151, 0.063, 0.083
    and a stability of 5.63, 7.32, 6.01 on OLMoE. It gives no formula for convergence speed; ours
    is the drop of the mean change from the early to the late half. Its ten checkpoints are equally
    far apart; where they are not, a change is large because its gap is, and only the forms per log
    step can be read.

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
        return Dynamics(note=note)
    scale = float(norms.mean())
    if scale == 0:
        return Dynamics(note="not available, because all weights are zero")
    changes = np.abs(np.diff(norms)) / scale
    per_log_step = changes / np.diff(np.log1p(steps.astype(np.float64)))
    stability, stability_per_log_step = _stability(changes), _stability(per_log_step)
    gaps = np.diff(steps)
    notes = []
    if gaps.max() > UNEVEN * gaps.min():
        notes.append("checkpoints are unevenly spaced: read the forms per log step")
    if stability is None:
        notes.append("no stability, because all changes are equal")
    if stability_per_log_step is None:
        notes.append("no stability per log step, because all changes per log step are equal")
    return Dynamics(
        mean_change=float(changes.mean()),
        mean_change_per_log_step=float(per_log_step.mean()),
        convergence_speed=_drop(changes),
        convergence_speed_per_log_step=_drop(per_log_step),
        stability=stability,
        stability_per_log_step=stability_per_log_step,
        note="; ".join(notes) or None,
    )


def _drop(changes: NDArray[np.float64]) -> float:
    """Mean of the first half less that of the second; of an odd number the middle is late."""
    half = len(changes) // 2
    return float(changes[:half].mean() - changes[half:].mean())


def _stability(changes: NDArray[np.float64]) -> float | None:
    """1 / standard deviation; None where it is 0."""
    spread = float(changes.std())
    return 1 / spread if spread > 1e-12 else None


def choice_overlap(
    one_TLA: NDArray[np.integer], other_TLA: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Mean share [L] of a token's chosen experts that two checkpoints have in common, 0 to 1.

    Parameters
    ----------
    one_TLA, other_TLA : arrays of shape (T, L, A)
        Chosen experts of the same tokens at two checkpoints, in any order within a token.

    Raises ValueError if the shapes differ: other tokens, or other layers.

    Notes
    -----
    |E_t and E_T| / k of arXiv 2409.02060, which takes the last checkpoint for T. Random choice
    gives k / K.

    Examples
    --------
    >>> choice_overlap(np.array([[[0, 1]]]), np.array([[[1, 2]]])).tolist()
    [0.5]
    """
    if one_TLA.shape != other_TLA.shape:
        raise ValueError(
            f"chosen experts of shape {one_TLA.shape} and {other_TLA.shape} cannot be compared; "
            "the checkpoints of a series must be measured on the same tokens and have the same "
            "layers"
        )
    common_TLA = (one_TLA[..., :, None] == other_TLA[..., None, :]).any(axis=-1)
    share_L: NDArray[np.float64] = common_TLA.mean(axis=(0, 2))
    return share_L


def saturation_speed(overlap: float, step: int, previous_step: int) -> float:
    """Share of the choices that changed since the previous checkpoint, per unit of log(1 + step).

    Ours: saturation against the last checkpoint needs the future; this needs only the past, and
    log steps make unevenly spaced checkpoints comparable. 0 where nothing changes, no upper bound.

    >>> round(saturation_speed(0.8, 100, 50), 3)
    0.293
    """
    if step <= previous_step:
        raise ValueError(f"step {step} does not come after {previous_step}; steps must rise")
    return float((1 - overlap) / (np.log1p(step) - np.log1p(previous_step)))


def saturation_rows(
    domain: str, steps: Sequence[int], chosen: Sequence[NDArray[np.integer]], num_experts: int
) -> list[dict[str, Any]]:
    """Rows of `routing_measures` with their step: saturation by layer and mean, and its speed.

    `chosen` holds the chosen experts [T, L, A] of the same tokens at each of the rising `steps`.
    """
    num_tokens, _, top_k = chosen[0].shape
    rows = []
    for at, step in enumerate(steps):
        for measure, width in (("saturation_top_k", top_k), ("saturation_top_1", 1)):
            overlap_L = choice_overlap(chosen[at][..., :width], chosen[-1][..., :width])
            places: list[tuple[int | None, float]] = [
                (None, overlap_L.mean()),
                *enumerate(overlap_L),
            ]
            rows += [
                {"step": step}
                | measure_row(
                    domain,
                    measure,
                    float(value),
                    num_tokens,
                    baseline=width / num_experts,
                    kind="experts chosen at random",
                    layer=layer,
                )
                for layer, value in places
            ]
        if at > 0:
            overlap = float(choice_overlap(chosen[at - 1], chosen[at]).mean())
            speed = saturation_speed(overlap, step, steps[at - 1])
            rows.append({"step": step} | measure_row(domain, "saturation_speed", speed, num_tokens))
    return rows
